"""One window of ours against HunyuanVideoPipeline with tiny random models of the real architecture.

Bit for bit where a prompt fills the length that it is given; where stock pads and masks it, ours attends to
fewer tokens, and sums are rounded otherwise.
"""

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from engine.chalk.tokens import build_tokenizer
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part
from engine.families.world import words_of
from tests import drivers
from tests.drivers import SEED, STEPS, check_resume
from tests.tiny_vaes import make_hunyuan

FRAMES, SIZE, CHANNELS = 9, (32, 48), 4
FULL, PADDED = 8, 24  # tokens: fewer than a prompt has, and more
PROMPT, NEGATIVE = "rain falls on a quiet hill", "a sun"
KINDS = {"told the guidance": True, "guided in branches": False}


def make_tokenizer():
    """One token for each word, but for two of the template, by whose letters it has as many as stock cuts."""
    words = words_of(f"{DEFAULT_PROMPT_TEMPLATE['template'].format(PROMPT)} {NEGATIVE}")
    return build_tokenizer(word for word in words if word not in ("background", "detailing"))


def make_pipeline(told):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    llama = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=4, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=77, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=2, attention_head_dim=16,
        num_layers=2, num_single_layers=2, num_refiner_layers=1, text_embed_dim=32,
        pooled_projection_dim=16, rope_axes_dim=(4, 6, 6), guidance_embeds=told,
    )  # fmt: skip
    vae = make_hunyuan(CHANNELS)
    return HunyuanVideoPipeline(
        tokenizer=tokenizer, text_encoder=LlamaModel(llama).eval(), tokenizer_2=tokenizer,
        text_encoder_2=CLIPTextModel(clip).eval(), transformer=transformer.eval(), vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, told in KINDS.items():
        made[name] = tmp_path_factory.mktemp("hunyuan")
        make_pipeline(told).save_pretrained(made[name], safe_serialization=True)
    return made


@pytest.fixture(params=KINDS)
def folder(folders, request):
    return folders[request.param]


def stock(folder, dtype, scale, length, output="latent"):
    """One scale for both of stock's: each kind of folder has use for one only."""
    pipeline = HunyuanVideoPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    branches = not pipeline.transformer.config.guidance_embeds
    return pipeline(
        PROMPT, negative_prompt=NEGATIVE if branches else None, height=SIZE[0], width=SIZE[1],
        num_frames=FRAMES, num_inference_steps=STEPS, true_cfg_scale=scale if branches else 1.0,
        guidance_scale=scale, max_sequence_length=length, output_type=output,
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def embeds_of(folder, dtype, length):
    return drivers.embeds_of(folder, dtype, (PROMPT, NEGATIVE), length)


def ours(folder, dtype, scale, length):
    embeds = embeds_of(folder, dtype, length)
    return drivers.ours(folder, SIZE, dtype, embeds, scale).transpose(1, 2)


def test_the_facts_are_those_of_the_folder(folder):
    assert read_facts(folder) == ModelFacts("HunyuanVideoPipeline", CHANNELS, 8, 4, 2, 33, 256, 2)


@pytest.mark.parametrize(
    "part, held",
    [
        ("text", {"tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"}),
        ("transformer", {"transformer"}),
        ("vae", {"vae"}),
    ],
)
def test_a_stage_holds_what_it_needs_of_two_encoders(folder, part, held):
    parts = load_part(folder, part, "float32").pipeline.components
    assert {name for name, each in parts.items() if each is not None} == held | {"scheduler"}


def test_prompts_are_trimmed_to_their_real_tokens_and_differ(folder):
    prompt, negative = embeds_of(folder, torch.float32, PADDED)
    assert FULL < prompt["tokens"].shape[1] < PADDED
    assert prompt["tokens"].shape[1] - negative["tokens"].shape[1] == 4  # words
    assert prompt["tokens"].std() > 1e-3 and not torch.equal(prompt["pooled"], negative["pooled"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    """Both texts fill their length: stock masks nothing."""
    length = embeds_of(folder, torch.float32, PADDED)[1]["tokens"].shape[1]
    want = stock(folder, dtype, scale, length)
    assert torch.isfinite(want).all()
    assert torch.equal(ours(folder, dtype, scale, length), want.float())


@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_where_stock_masks_the_padding_of_a_short_prompt_ours_trims_it_to_the_same(folder, scale):
    want = stock(folder, torch.float32, scale, PADDED)
    got = ours(folder, torch.float32, scale, PADDED)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    assert (ours(folder, torch.float32, scale, 3) - want).abs().max() > 1e-4  # a text that is cut shows


def test_a_distilled_model_is_told_the_scale_and_ignores_a_negative_text(folders):
    folder = folders["told the guidance"]
    family, (prompt, negative) = (
        load_part(folder, "transformer", "float32"),
        embeds_of(folder, torch.float32, 8),
    )
    window = drivers.open_canvas(folder, SIZE, torch.float32).latents
    at = [family.predict(window, torch.tensor(500.0), prompt, text, 6.0) for text in (negative, None)]
    assert torch.equal(*at)
    assert not torch.equal(at[0], family.predict(window, torch.tensor(500.0), prompt, None, 1.0))


def test_streamed_frames_are_those_of_the_whole_decode(folders):
    folder = folders["told the guidance"]
    got = ours(folder, torch.float32, 6.0, FULL).transpose(1, 2)
    want = stock(folder, torch.float32, 6.0, FULL, output="np")[0]
    frames = np.stack(list(load_part(folder, "vae", "float32").frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3)
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


def test_frames_of_several_temporal_tiles_are_those_of_the_whole_decode(folders):
    family = load_part(folders["told the guidance"], "vae", "float32")
    z_BTCHW = torch.randn(1, 9, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(1))
    vae = family.pipeline.vae
    with torch.no_grad():
        whole = vae.decode(z_BTCHW.transpose(1, 2) / vae.config.scaling_factor).sample
    want = family.pipeline.video_processor.postprocess_video(whole, output_type="np")[0]
    assert np.array_equal(np.stack(list(family.frames(z_BTCHW))), (want * 255).round().astype(np.uint8))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    check_resume(folder, SIZE, embeds_of(folder, torch.float32, PADDED), 6.0)
