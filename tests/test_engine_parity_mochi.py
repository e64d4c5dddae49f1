"""One window of ours against MochiPipeline with tiny random models of the real architecture.

Bit for bit where texts fill the length that they are given; where stock keeps their padding from attention,
ours has none, and sums are rounded otherwise.
"""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    MochiPipeline,
    MochiTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from engine.chalk.tokens import build_tokenizer
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part
from engine.families.mochi import Mochi
from engine.families.mochi_vae import stream_pixels
from engine.tensors import from_bytes, to_bytes
from tests import drivers
from tests.drivers import SEED, STEPS, check_resume
from tests.tiny_vaes import make_mochi

FRAMES, SIZE, CHANNELS = 13, (32, 48), 12
FULL, PADDED = 3, 12  # tokens: fewer than a text has, and more
PROMPT, NEGATIVE = "rain falls a sun", "a sun"


def make_pipeline():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(PROMPT.split())
    text = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    transformer = MochiTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, pooled_projection_dim=24,
        in_channels=CHANNELS, text_embed_dim=32, time_embed_dim=16, max_sequence_length=PADDED,
    )  # fmt: skip
    torch.nn.init.normal_(transformer.pos_frequencies)  # zeros as made, which would give no positions
    return MochiPipeline(
        FlowMatchEulerDiscreteScheduler(invert_sigmas=True), make_mochi(), T5EncoderModel(text).eval(),
        tokenizer, transformer.eval(), force_zeros_for_empty_prompt=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("mochi")
    make_pipeline().save_pretrained(path, safe_serialization=True)
    return path


def stock(folder, dtype, scale, length, output="latent", negative=NEGATIVE):
    pipeline = MochiPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        PROMPT, negative, height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=scale, max_sequence_length=length, output_type=output,
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def embeds_of(folder, dtype, length, negative=NEGATIVE):
    return drivers.embeds_of(folder, dtype, (PROMPT, negative), length)


def ours(folder, dtype, scale, length, negative=NEGATIVE):
    embeds = embeds_of(folder, dtype, length, negative)
    return drivers.ours(folder, SIZE, dtype, embeds, scale).transpose(1, 2)


def test_the_facts_are_those_of_the_folder(folder):
    assert read_facts(folder) == ModelFacts("MochiPipeline", CHANNELS, 8, 6, 2, 28, PADDED, 2)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("transformer", "in_channels"),
        ("transformer", "patch_size"),
        ("transformer", "max_sequence_length"),
        ("transformer", "num_attention_heads"),
        ("vae", "spatial_expansions"),
        ("vae", "temporal_expansions"),
    ],
)
@pytest.mark.parametrize("value", [None, "many", 0])
def test_a_folder_with_a_wrong_key_is_refused_with_the_folder_and_the_key(tmp_path, part, key, value):
    make_pipeline().save_pretrained(tmp_path)
    path = tmp_path / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"says {key}={value!r}") as refused:
        read_facts(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [4.5, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    """Both texts fill their length: stock drops no token."""
    want = stock(folder, dtype, scale, FULL)
    got = ours(folder, dtype, scale, FULL)
    assert got.dtype == want.dtype == dtype and torch.isfinite(want).all()
    assert torch.equal(got, want)


@pytest.mark.parametrize("scale", [4.5, 1.0])
def test_where_stock_drops_the_padding_of_a_short_text_ours_trims_it_to_the_same(folder, scale):
    prompt, negative = embeds_of(folder, torch.float32, PADDED)
    assert negative["tokens"].shape[1] < prompt["tokens"].shape[1] < PADDED
    want = stock(folder, torch.float32, scale, PADDED)
    torch.testing.assert_close(ours(folder, torch.float32, scale, PADDED), want, rtol=0, atol=1e-5)
    assert (ours(folder, torch.float32, scale, FULL) - want).abs().max() > 1e-4  # a text that is cut shows


def test_an_empty_negative_text_has_no_token_where_stock_masks_all_of_them(folder):
    embeds = embeds_of(folder, torch.float32, PADDED, "")
    assert embeds[1]["tokens"].shape == (1, 0, 32)
    stored = from_bytes(to_bytes(dict(embeds[1])))
    assert torch.equal(stored["tokens"], embeds[1]["tokens"]) and stored["tokens"].shape == (1, 0, 32)
    want = stock(folder, torch.float32, 4.5, PADDED, negative="")
    got = ours(folder, torch.float32, 4.5, PADDED, negative="")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_frames_are_those_of_the_whole_decode(folder, dtype):
    got = ours(folder, dtype, 4.5, FULL).transpose(1, 2)
    want = (stock(folder, dtype, 4.5, FULL, output="np")[0] * 255).round()
    frames = np.stack(list(load_part(folder, "vae", str(dtype).removeprefix("torch.")).frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3) and frames.std() > 1
    differ = np.abs(frames - want)  # a pixel between two bytes may be rounded to the other one
    assert differ.max() <= 1 and (differ > 0).mean() < 1e-3


@pytest.mark.parametrize("n_latent", [1, 2, 3, 6, 7])
def test_a_stream_of_pixels_is_the_whole_decode_but_for_rounding(n_latent):
    """Kernels of convolutions round otherwise for fewer frames."""
    torch.manual_seed(0)
    vae = make_mochi()
    z_BCTHW = torch.randn(2, CHANNELS, n_latent, 2, 3)
    with torch.no_grad():
        whole = vae.decode(z_BCTHW).sample
    chunks = list(stream_pixels(vae, z_BCTHW))
    assert chunks[0].shape[2] == (1 if n_latent == 1 else 7)
    assert whole.shape == (2, 3, 6 * (n_latent - 1) + 1, 16, 24) and whole.std() > 0.01
    torch.testing.assert_close(torch.cat(chunks, 2), whole, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(vae.decode(z_BCTHW).sample, whole)  # and nothing is left on the autoencoder


def test_two_streams_of_one_autoencoder_do_not_meet():
    torch.manual_seed(0)
    vae, z_BCTHW = make_mochi(), torch.randn(2, 1, CHANNELS, 5, 2, 2)
    alone = [list(stream_pixels(vae, z)) for z in z_BCTHW]
    together = list(zip(*(stream_pixels(vae, z) for z in z_BCTHW), strict=True))
    for stream, chunks in enumerate(alone):
        assert all(torch.equal(pair[stream], chunk) for pair, chunk in zip(together, chunks, strict=True))


def test_what_cannot_be_streamed_is_refused(folder):
    family = load_part(folder, "vae", "float32")
    family.pipeline.vae.use_framewise_decoding = True
    with pytest.raises(ValueError, match="frame-wise"):
        next(family.frames(torch.zeros(1, 3, CHANNELS, 2, 2)))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    check_resume(folder, SIZE, embeds_of(folder, torch.float32, PADDED), 4.5)


def test_one_step_is_too_few(folder):
    with pytest.raises(ValueError, match="n_steps=1"):
        Mochi.load_scheduler(folder, 1)
