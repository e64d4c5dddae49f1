"""A MiniMax-H3 of the real architecture with tiny random weights, as a folder in diffusers' layout."""

import json

import torch
from diffusers import AutoencoderKLMiniMaxH3, MiniMaxH3Scheduler, MiniMaxH3Transformer3DModel
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.modular_pipelines.minimax_h3.decoders import MiniMaxH3VideoDecodeStep
from diffusers.modular_pipelines.minimax_h3.encoders import MiniMaxH3TextEncoderStep
from diffusers.modular_pipelines.minimax_h3.modular_blocks_minimax_h3 import MiniMaxH3CoreDenoiseStep
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from engine.chalk.tokens import build_tokenizer

CHANNELS, SIZE = 4, (16, 24)  # of latents; pixels, of which a latent has 4 x 4
WORDS = ("rain", "falls", "on", "a", "quiet", "hill", "sun")
MODELS = {
    "transformer": MiniMaxH3Transformer3DModel,
    "vae": AutoencoderKLMiniMaxH3,
    "text_encoder": Qwen3VLForConditionalGeneration,
}


def make_transformer(heads=3, channels=CHANNELS, text_dim=16, layers=2):
    """More numbers in its heads than in its tokens, as published; the last projections are in float32."""
    return MiniMaxH3Transformer3DModel(
        num_attention_heads=heads, attention_head_dim=12, hidden_size=24, num_layers=layers,
        num_refiner_layers=1, ffn_dim=32, in_channels=channels, text_dim=text_dim, freq_dim=16,
        time_embed_hidden_dim=16, time_embed_dim=8, rope_freq_dim=2,
    ).eval()  # fmt: skip


def make_vae():
    vae = AutoencoderKLMiniMaxH3(
        latent_channels=CHANNELS, block_out_channels=(4, 4, 4), layers_per_block=1,
        spatial_downsample_factors=(2, 2, 1), temporal_downsample_factors=(1, 2, 2), norm_num_groups=2,
        decoder_num_layers=2, decoder_num_attention_heads=2, decoder_attention_head_dim=8,
        latents_mean=(0.1, -0.1, 0.2, 0.0), latents_std=(1.1, 0.9, 1.0, 1.2),
    )  # fmt: skip
    for name, parameter in vae.named_parameters():
        if name.endswith(("scale1", "scale2")):  # zero at first, so that nothing would be attended to
            torch.nn.init.normal_(parameter)
    return vae.eval()


def make_text_encoder(tokens):
    """Of more layers than the one that is read, the fiftieth."""
    text = {
        "vocab_size": tokens, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 51,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.3,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision)).eval()


def save_folder(folder):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(WORDS)
    parts = {
        "transformer": make_transformer(), "vae": make_vae(), "tokenizer": tokenizer,
        "text_encoder": make_text_encoder(len(tokenizer)), "scheduler": MiniMaxH3Scheduler(12.0),
        "audio_scheduler": MiniMaxH3Scheduler(3.0),
    }  # fmt: skip
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {"_class_name": "MiniMaxH3ModularPipeline", "_blocks_class_name": "MiniMaxH3Blocks"}
    (folder / "modular_model_index.json").write_text(json.dumps(index))


class NoPictures:
    """The processor, as far as a text alone needs it; the real one needs torchvision."""

    def create_mm_token_type_ids(self, ids):
        return [[0] * len(each) for each in ids]


def stock_pipeline(folder, dtype):
    """The blocks from text to pictures."""
    steps = {
        "text_encoder": MiniMaxH3TextEncoderStep,
        "denoise": MiniMaxH3CoreDenoiseStep,
        "decode": MiniMaxH3VideoDecodeStep,
    }
    blocks = SequentialPipelineBlocks.from_blocks_dict({name: step() for name, step in steps.items()})
    pipeline = blocks.init_pipeline()
    models = {name: kind.from_pretrained(folder / name, dtype=dtype) for name, kind in MODELS.items()}
    schedulers = {
        name: MiniMaxH3Scheduler.from_pretrained(folder / name) for name in ("scheduler", "audio_scheduler")
    }
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    pipeline.update_components(**models, **schedulers, tokenizer=tokenizer, processor=NoPictures())
    return pipeline
