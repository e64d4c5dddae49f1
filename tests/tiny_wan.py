"""A Wan of the real architecture with tiny random weights, as a diffusers folder holds it."""

from dataclasses import dataclass

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

from engine.chalk.tokens import build_tokenizer
from tests.tiny_vaes import make_wan

WORDS = ("rain", "falls", "a", "sun")
SCHEDULERS = {
    "unipc": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    ),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}


@dataclass(frozen=True)
class Kind:
    """One of Wan's published layouts."""

    experts: int = 1
    token_timesteps: bool = False


KINDS = {"2.1": Kind(), "2.2 of two experts": Kind(2), "2.2 with timesteps of tokens": Kind(1, True)}


def make_transformer():
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    ).eval()  # fmt: skip


def make_pipeline(kind, scheduler="unipc"):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(WORDS)
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    vae = make_wan()
    pipeline = WanPipeline(
        tokenizer=tokenizer, text_encoder=UMT5EncoderModel(text).eval(), vae=vae,
        scheduler=SCHEDULERS[scheduler](), transformer=make_transformer(),
        transformer_2=make_transformer() if kind.experts == 2 else None,
        boundary_ratio=0.8 if kind.experts == 2 else None, expand_timesteps=kind.token_timesteps,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
