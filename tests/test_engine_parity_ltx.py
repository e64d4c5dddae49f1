"""One window of ours against LTXPipeline with tiny random models of the real architecture.

Bit for bit where texts fill the length that they are given; where stock pads and masks them, ours attends to
fewer tokens, and sums are rounded otherwise.
"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from transformers import T5Config, T5EncoderModel

from engine.chalk.tokens import build_tokenizer
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part
from engine.families.ltx import DECODE_NOISE, DECODE_SEED, DECODE_TIMESTEP, LTX, reach_latents, runs
from engine.takes import BEGINNING, FIRST, Takes
from tests import drivers
from tests.drivers import SEED, STEPS, check_resume
from tests.tiny_vaes import make_ltx

FRAMES, SIZE, CHANNELS = 17, (32, 64), 8
FULL, PADDED = 3, 12  # tokens: fewer than a text has, and more
PROMPT, NEGATIVE = "rain falls a sun", "a sun"
SHIFT = {
    "use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 64,
    "max_image_seq_len": 512, "shift_terminal": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One of LTX's published layouts."""

    denoises: bool = False  # its decoder, told a timestep, and with noise of its own
    causal: bool = False  # its decoder
    shift: bool = True  # by the tokens of a window


KINDS = {"0.9.0": Kind(), "0.9.1": Kind(denoises=True, shift=False)}
DECODERS = {**KINDS, "a causal decoder": Kind(causal=True)}


def make_vae(kind):
    return make_ltx(CHANNELS, kind.denoises, kind.causal)


def make_pipeline(kind):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(PROMPT.split())
    text = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=2, caption_channels=32,
    )  # fmt: skip
    return LTXPipeline(
        FlowMatchEulerDiscreteScheduler(**(SHIFT if kind.shift else {"shift": 3.0})),
        make_vae(kind), T5EncoderModel(text).eval(), tokenizer, transformer.eval(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, kind in KINDS.items():
        made[name] = tmp_path_factory.mktemp("ltx")
        make_pipeline(kind).save_pretrained(made[name], safe_serialization=True)
    return made


@pytest.fixture(params=KINDS)
def folder(folders, request):
    return folders[request.param]


def stock(folder, dtype, scale, length, output="latent"):
    """Latents are packed, (B, L, C). Their first noise is given, so that the generator's is the decoder's."""
    pipeline = LTXPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(
        (1, CHANNELS, 3, SIZE[0] // 8, SIZE[1] // 8), generator=torch.Generator().manual_seed(SEED)
    )
    torch.manual_seed(DECODE_SEED)
    return pipeline(
        PROMPT, NEGATIVE, height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=scale, max_sequence_length=length, output_type=output,
        latents=pipeline._pack_latents(noise), generator=torch.Generator().manual_seed(DECODE_SEED),
        decode_timestep=DECODE_TIMESTEP, decode_noise_scale=DECODE_NOISE,
    ).frames  # fmt: skip


def embeds_of(folder, dtype, length):
    return drivers.embeds_of(folder, dtype, (PROMPT, NEGATIVE), length)


def ours(folder, dtype, scale, length, made=None):
    return drivers.ours(folder, SIZE, dtype, embeds_of(folder, dtype, length), scale, made)


def packed(latents):
    return LTXPipeline._pack_latents(latents.transpose(1, 2))


def test_the_facts_are_those_of_the_folder(folder):
    assert read_facts(folder) == ModelFacts(
        "LTXPipeline", CHANNELS, 8, 8, 1, 21, 128, 2, takes=Takes(frozenset({FIRST}))
    )


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("transformer", {"patch_size": 2}, "its patch_size is 2: LTXPipeline reads only"),
        ("transformer", {"patch_size_t": 2}, "its patch_size_t is 2: LTXPipeline reads only"),
        ("transformer", {"num_attention_heads": None}, "num_attention_heads=None"),
        ("transformer", {"in_channels": "many"}, "in_channels='many'"),
        ("vae", {"spatio_temporal_scaling": None}, "spatio_temporal_scaling=None"),
        ("vae", {"patch_size": 0}, "patch_size=0"),
        ("vae", {"temporal_compression_ratio": "many"}, "temporal_compression_ratio='many'"),
    ],
)
def test_a_folder_with_a_wrong_key_is_refused_with_the_folder_and_the_key(tmp_path, part, values, said):
    make_pipeline(KINDS["0.9.0"]).save_pretrained(tmp_path)
    path = tmp_path / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ValueError, match=said) as refused:
        read_facts(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_ratios_that_a_newer_folder_gives_are_taken(tmp_path):
    make_pipeline(KINDS["0.9.0"]).save_pretrained(tmp_path)
    path = tmp_path / "vae" / "config.json"
    given = {"spatial_compression_ratio": 16, "temporal_compression_ratio": 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | given))
    facts = read_facts(tmp_path)
    assert (facts.spatial_compression, facts.temporal_compression) == (16, 4)
    pipeline = load_part(tmp_path, "transformer", "float32").pipeline
    assert (pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio) == (16, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    """Both texts fill their length: stock masks nothing."""
    want = stock(folder, dtype, scale, FULL)
    assert want.dtype == torch.float32 and torch.isfinite(want).all()
    assert torch.equal(packed(ours(folder, dtype, scale, FULL)), want)


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_where_stock_masks_the_padding_of_a_short_text_ours_trims_it_to_the_same(folder, scale):
    prompt, negative = embeds_of(folder, torch.float32, PADDED)
    assert negative["tokens"].shape[1] < prompt["tokens"].shape[1] < PADDED
    want = stock(folder, torch.float32, scale, PADDED)
    torch.testing.assert_close(packed(ours(folder, torch.float32, scale, PADDED)), want, rtol=0, atol=1e-5)
    other = packed(ours(folder, torch.float32, scale, FULL))
    assert (other - want).abs().max() > 1e-4  # a text that is cut shows


def test_a_model_folder_without_its_autoencoder_counts_positions_in_the_same_pixels(folder):
    pipeline = load_part(folder, "transformer", "float32").pipeline
    assert pipeline.vae is None
    assert (pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio) == (8, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_frames_are_those_of_the_whole_decode(folder, dtype):
    got = ours(folder, dtype, 3.0, FULL)
    want = stock(folder, dtype, 3.0, FULL, output="np")[0]
    frames = np.stack(list(load_part(folder, "vae", str(dtype).removeprefix("torch.")).frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3) and frames.std() > 1
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


@pytest.mark.parametrize("kind", DECODERS.values(), ids=DECODERS)
def test_a_shot_decoded_in_runs_is_the_whole_decode_but_for_rounding(kind):
    """Kernels of convolutions round otherwise for runs of another length."""
    torch.manual_seed(0)
    family = LTX(LTXPipeline(None, make_vae(kind), None, None, None))
    reach = reach_latents(family.pipeline.vae.decoder)
    latents = torch.randn((1, 4 * reach + 3, CHANNELS, 2, 2), generator=torch.Generator().manual_seed(1))
    assert len(runs(latents.shape[1], reach)) == 3
    whole = family._decode(family._denormalised(latents.transpose(1, 2)))
    assert whole.shape == (1, 3, 8 * (4 * reach + 2) + 1, 16, 16) and whole.std() > 0.1
    torch.testing.assert_close(torch.cat(list(family.chunks(latents)), 2), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", DECODERS.values(), ids=DECODERS)
def test_a_pixel_depends_on_latents_within_reach_only_and_on_some_near_its_end(kind):
    torch.manual_seed(0)
    family = LTX(LTXPipeline(None, make_vae(kind), None, None, None))
    reach = reach_latents(family.pipeline.vae.decoder)
    z_BCTHW = torch.randn(1, CHANNELS, 2 * reach + 3, 1, 1)
    changed = z_BCTHW.clone()
    changed[:, :, reach + 1] += 1.0
    differ = (family._decode(z_BCTHW) != family._decode(changed)).any(4).any(3).any(1)[0].nonzero()
    first, last = int(differ.min()), int(differ.max())
    assert 8 * (reach + 1 - reach - 1) < first and last <= 8 * (reach + 1 + reach)
    assert last > 8 * (reach + 1 + reach - 3)


@pytest.mark.parametrize("n_latent", range(1, 40))
def test_runs_cover_a_shot_and_are_never_long(n_latent):
    for reach in range(2, 10):
        found = runs(n_latent, reach)
        assert [i for start, stop in found for i in range(start, stop)] == list(range(n_latent))
        held = [min(stop + reach, n_latent) - max(start - reach, 0) for start, stop in found]
        assert max(held) <= 3 * reach


def test_decoding_frame_by_frame_is_refused(folder):
    family = load_part(folder, "vae", "float32")
    family.pipeline.vae.use_framewise_decoding = True
    with pytest.raises(ValueError, match="frame-wise"):
        next(family.frames(torch.zeros(1, 3, CHANNELS, 2, 2)))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    check_resume(folder, SIZE, embeds_of(folder, torch.float32, PADDED), 3.0)


def stock_from(picture, folder, dtype, scale, monkeypatch):
    """Stock samples the posterior of what it encodes; ours takes its mean."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipeline = LTXImageToVideoPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        Image.fromarray(picture[0]), PROMPT, NEGATIVE, height=SIZE[0], width=SIZE[1], num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, max_sequence_length=FULL, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_one_window_from_a_picture_is_bit_identical_to_stock(folder, dtype, scale, monkeypatch):
    picture = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)
    made = drivers.given_of(folder, dtype, {FIRST: picture}, 1)
    want = stock_from(picture, folder, dtype, scale, monkeypatch)
    assert torch.isfinite(want).all()
    assert torch.equal(packed(ours(folder, dtype, scale, FULL, made)), want)


def test_a_picture_is_seen_by_the_first_of_many_windows_and_survives_a_resume(folders):
    folder = folders["0.9.0"]
    picture = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)
    made = drivers.given_of(folder, torch.float32, {FIRST: picture}, 1)
    embeds = embeds_of(folder, torch.float32, PADDED)
    latents = check_resume(folder, SIZE, embeds, 3.0, made)
    assert torch.equal(latents[:, :1], made[BEGINNING])
    assert not torch.equal(latents[:, 1:3], check_resume(folder, SIZE, embeds, 3.0)[:, 1:3])


def test_noise_levels_follow_the_tokens_of_a_window_and_not_of_the_shot(folders):
    short, long = (
        drivers.open_canvas(folders["0.9.0"], SIZE, torch.float32, n, "keyed").scheduler for n in (3, 9)
    )
    assert torch.equal(short.sigmas, long.sigmas)
    window = LTX.load_scheduler(folders["0.9.0"], STEPS, None, (9, CHANNELS, SIZE[0] // 8, SIZE[1] // 8))
    assert (window.sigmas >= short.sigmas).all() and not torch.equal(window.sigmas, short.sigmas)
    with pytest.raises(ValueError, match="size of a window"):
        LTX.load_scheduler(folders["0.9.0"], STEPS)
