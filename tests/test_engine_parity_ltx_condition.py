"""One window of ours against LTXConditionPipeline (0.9.5 and later) with a tiny random model.

Bit for bit where texts fill the length that they are given, as with LTXPipeline.
"""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXVideoTransformer3DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from transformers import T5Config, T5EncoderModel

from engine.chalk.tokens import build_tokenizer
from engine.decode import frames_uint8
from engine.families import ltx_condition
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part
from engine.families.ltx import DECODE_NOISE, DECODE_SEED, DECODE_TIMESTEP, reach_latents
from engine.families.ltx_condition import IMAGE_NOISE, LTXCondition
from engine.takes import BEGINNING, CLIP, FIRST, Takes
from engine.telling import Telling
from tests import drivers
from tests.drivers import SEED, STEPS, check_resume
from tests.tiny_vaes import make_ltx_095

FRAMES, SIZE, CHANNELS = 17, (32, 64), 8
FULL, PADDED = 3, 12  # tokens: fewer than a text has, and more
PROMPT, NEGATIVE = "rain falls a sun", "a sun"
GIVEN = {"text": None, "picture": FIRST, "clip": CLIP}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(PROMPT.split())
    text = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=2, caption_channels=32,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("ltx")
    LTXConditionPipeline(
        FlowMatchEulerDiscreteScheduler(), make_ltx_095(CHANNELS), T5EncoderModel(text).eval(), tokenizer,
        transformer.eval(),
    ).save_pretrained(path, safe_serialization=True)  # fmt: skip
    return path


def frames_of(role):
    n_frames = {None: 0, FIRST: 1, CLIP: 9}[role]
    return np.random.default_rng(0).integers(0, 255, (n_frames, *SIZE, 3), dtype=np.uint8)


def stock(folder, dtype, scale, length, role=None, output="latent", **more):
    pipeline = LTXConditionPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    given = [Image.fromarray(frame) for frame in frames_of(role)]
    told = {None: {}, FIRST: {"image": given[:1]}, CLIP: {"video": [given]}}[role]
    return pipeline(
        prompt=PROMPT, negative_prompt=NEGATIVE, height=SIZE[0], width=SIZE[1], num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, max_sequence_length=length, output_type=output,
        generator=torch.Generator().manual_seed(SEED), image_cond_noise_scale=0.0,
        **({"frame_index": [0], "strength": [1.0]} if role else {}), **told, **more,
    ).frames  # fmt: skip


def embeds_of(folder, dtype, length):
    return drivers.embeds_of(folder, dtype, (PROMPT, NEGATIVE), length)


def made_of(folder, dtype, role):
    return drivers.given_of(folder, dtype, {role: frames_of(role)}, len(frames_of(role))) if role else None


def ours(folder, dtype, scale, length, role=None):
    made = made_of(folder, dtype, role)
    return drivers.ours(folder, SIZE, dtype, embeds_of(folder, dtype, length), scale, made).transpose(1, 2)


@pytest.fixture
def no_noise(monkeypatch):
    """Stock draws noise for all tokens of a step in turn, ours by frame; and posteriors are means."""
    monkeypatch.setattr(ltx_condition, "IMAGE_NOISE", 0.0)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def test_the_facts_are_those_of_the_folder(folder):
    takes = Takes(frozenset({FIRST, CLIP}))
    facts = ModelFacts("LTXConditionPipeline", CHANNELS, 8, 8, 1, 21, 256, 2, given_latents=3, takes=takes)
    assert read_facts(folder) == facts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [3.0, 1.0])
@pytest.mark.parametrize("given", GIVEN)
def test_one_window_is_bit_identical_to_stock(folder, dtype, scale, given, no_noise):
    want = stock(folder, dtype, scale, FULL, GIVEN[given])
    got = ours(folder, dtype, scale, FULL, GIVEN[given])
    assert want.dtype == got.dtype == torch.float32 and torch.isfinite(want).all()
    assert torch.equal(got, want)


def test_where_stock_masks_the_padding_of_a_short_text_ours_trims_it_to_the_same(folder, no_noise):
    want = stock(folder, torch.float32, 3.0, PADDED, FIRST)
    got = ours(folder, torch.float32, 3.0, PADDED, FIRST)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_given_latents_are_shown_under_stocks_noise_that_fades(folder, monkeypatch):
    telling, noise = LTXCondition.telling(folder), torch.randn(1, 2, CHANNELS, 4, 8)
    assert telling == Telling(times=True, fading=IMAGE_NOISE)
    clean, timestep = torch.randn(1, 3, CHANNELS, 4, 8), torch.tensor(600.0)
    seen, times = telling.of(clean, timestep, 2, noise)
    assert times.tolist() == [[0.0, 0.0, 600.0]] and torch.equal(seen[:, 2:], clean[:, 2:])
    pipeline, packed = LTXConditionPipeline, LTXConditionPipeline._pack_latents
    all_noise = torch.cat([noise, torch.zeros_like(noise[:, :1])], dim=1)
    module = "diffusers.pipelines.ltx.pipeline_ltx_condition.randn_tensor"
    monkeypatch.setattr(module, lambda *shape, **told: packed(all_noise.transpose(1, 2)))
    latents = packed(clean.transpose(1, 2))
    mask = torch.tensor([[1.0, 1.0, 0.0]]).repeat_interleave(32, dim=1)
    want = pipeline.add_noise_to_image_conditioning_latents(
        timestep / 1000.0, latents, latents, IMAGE_NOISE, mask, None
    )
    assert torch.equal(packed(seen.transpose(1, 2)), want)


def test_a_shot_that_goes_on_from_a_picture_under_noise_resumes_with_the_same_bits(folder):
    made = made_of(folder, torch.float32, FIRST)
    latents = check_resume(folder, SIZE, embeds_of(folder, torch.float32, PADDED), 3.0, made)
    assert torch.equal(latents[:, :1], made[BEGINNING])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_frames_are_those_of_the_whole_decode_at_its_timestep(folder, dtype):
    got = ours(folder, dtype, 3.0, FULL)
    vae = load_part(folder, "vae", str(dtype).removeprefix("torch."))
    whole = vae._decode(vae._denormalised(got))
    frames = np.stack(list(vae.frames(got.transpose(1, 2))))
    assert frames.shape == (FRAMES, *SIZE, 3) and frames.std() > 1
    assert np.array_equal(frames, frames_uint8(whole))


def test_a_shot_is_decoded_as_stock_does_with_its_noise(folder, no_noise):
    noise = torch.randn((1, CHANNELS, 3, 4, 8), generator=torch.Generator().manual_seed(DECODE_SEED))
    pipeline = LTXConditionPipeline.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    latents = ours(folder, torch.float32, 3.0, FULL)
    scale = pipeline.vae.latents_mean, pipeline.vae.latents_std, pipeline.vae.config.scaling_factor
    z = (1 - DECODE_NOISE) * pipeline._denormalize_latents(latents, *scale) + DECODE_NOISE * noise
    with torch.no_grad():
        want = pipeline.vae.decode(z, torch.tensor([DECODE_TIMESTEP]), return_dict=False)[0]
    family = load_part(folder, "vae", "float32")
    torch.testing.assert_close(torch.cat(list(family.chunks(latents.transpose(1, 2))), 2), want)


def test_a_long_shot_is_decoded_in_runs_to_the_whole_decode_but_for_rounding(folder):
    family = load_part(folder, "vae", "float32")
    reach = reach_latents(family.pipeline.vae.decoder)
    latents = torch.randn((1, 4 * reach + 3, CHANNELS, 2, 2), generator=torch.Generator().manual_seed(1))
    whole = family._decode(family._denormalised(latents.transpose(1, 2)))
    torch.testing.assert_close(torch.cat(list(family.chunks(latents)), 2), whole, rtol=0, atol=1e-5)


def test_a_folder_whose_steps_depend_on_a_windows_size_is_refused(folder, tmp_path):
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match="use_dynamic_shifting"):
        LTXCondition.load_scheduler(tmp_path, STEPS)
