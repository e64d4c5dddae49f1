"""One window of ours against SkyReels-V2's pipelines, bit for bit, with tiny random models."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Pipeline,
)
from diffusers.pipelines.skyreels_v2 import (
    pipeline_skyreels_v2,
    pipeline_skyreels_v2_diffusion_forcing,
    pipeline_skyreels_v2_diffusion_forcing_i2v,
)
from PIL import Image

from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part
from engine.families.skyreels import GIVEN_NOISE
from engine.noise import keyed_noise
from engine.phases import Stitch, phases_of
from engine.stitch import Stitcher
from engine.takes import CLIP, FIRST, Takes
from engine.windows import Layout
from tests import drivers, tiny_skyreels
from tests.drivers import SEED, STEPS, answers, check_resume, open_canvas
from tests.tiny_skyreels import CHANNELS, NEGATIVE, PROMPT

FRAMES, SIZE, TOKENS = 9, (32, 48), 12
KINDS = {"plain": SkyReelsV2Pipeline, "forcing": SkyReelsV2DiffusionForcingPipeline}
FORCING = ("forcing", "forcing, told the frame rate")
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def characters_need_no_mending(monkeypatch):
    """Stock cannot do without ftfy, which is not among our packages and leaves these prompts as they are."""
    for module in (
        pipeline_skyreels_v2,
        pipeline_skyreels_v2_diffusion_forcing,
        pipeline_skyreels_v2_diffusion_forcing_i2v,
    ):
        monkeypatch.setattr(module, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp("skyreels") for name in ("plain", *FORCING)}
    for name, folder in made.items():
        pipeline = tiny_skyreels.make_pipeline(KINDS[name.split(",")[0]], told_rate="rate" in name)
        pipeline.save_pretrained(folder, safe_serialization=True)
    return made


@pytest.fixture(params=["plain", *FORCING])
def folder(folders, request):
    return folders[request.param]


@pytest.fixture(params=FORCING)
def forcing(folders, request):
    return folders[request.param]


def stock(folder, dtype, scale=5.0, output="latent", kind=None, **more):
    kind = kind or KINDS["plain" if read_facts(folder).family == "SkyReelsV2Pipeline" else "forcing"]
    pipeline = kind.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=PROMPT, negative_prompt=NEGATIVE, height=SIZE[0], width=SIZE[1], num_inference_steps=STEPS,
        guidance_scale=scale, max_sequence_length=TOKENS, output_type=output,
        generator=torch.Generator().manual_seed(SEED), **({"num_frames": FRAMES} | more),
    ).frames  # fmt: skip


def embeds_of(folder, dtype):
    return drivers.embeds_of(folder, dtype, (PROMPT, NEGATIVE), TOKENS)


def ours(folder, dtype, scale=5.0):
    return drivers.ours(folder, SIZE, dtype, embeds_of(folder, dtype), scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    want = stock(folder, dtype, scale)
    assert torch.isfinite(want).all()
    assert torch.equal(ours(folder, dtype, scale).transpose(1, 2), want)


def test_streamed_frames_are_those_of_the_whole_decode(folder):
    got = ours(folder, torch.float32)
    want = stock(folder, torch.float32, output="np")[0]
    frames = np.stack(list(load_part(folder, "vae", "float32").frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3)
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    check_resume(folder, SIZE, embeds_of(folder, torch.float32), 5.0)


GIVEN, BASE, LONG = 2, 4, 8  # latent frames: three windows, of which two go on
SIDES = SIZE[0] // 8, SIZE[1] // 8


def keyed_in_stock(monkeypatch, frames_of_steps):
    """Have stock show given latents under the noise that is keyed to these frames at these steps of the shot.

    Its own is of the generator of the process.
    """
    noises = iter(
        keyed_noise(SEED, "s", step, frames, (CHANNELS, *SIDES), torch.float32)
        for step, frames in frames_of_steps
    )
    monkeypatch.setattr(torch, "randn_like", lambda like: next(noises).transpose(1, 2).to(like))
    return noises


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shot_that_is_extended_is_bit_identical_to_stock_s_long_video(forcing, dtype, monkeypatch):
    """By the phases, the canvases and the noise of production, but that stock lays out the initial noise."""
    phases = phases_of(Layout(BASE, GIVEN, 0), np.ones((1, LONG)), STEPS, Stitch("extend"))
    assert [(phase.frames[0], phase.held) for phase in phases] == [(0, 0), (2, GIVEN), (4, GIVEN)]
    left = keyed_in_stock(
        monkeypatch,
        [
            (window * STEPS + step, phases[window].frames[:GIVEN])
            for window in range(1, len(phases))
            for step in range(STEPS)
        ],
    )
    want = stock(
        forcing, dtype, num_frames=4 * LONG - 3, base_num_frames=4 * BASE - 3, overlap_history=4 * GIVEN - 3,
        addnoise_condition=GIVEN_NOISE,
    )  # fmt: skip
    assert not list(left)
    generator = torch.Generator().manual_seed(SEED)

    def fresh(phase, steps_before):
        canvas = open_canvas(
            forcing, SIZE, dtype, BASE, "keyed", frames=phase.frames, steps_before=steps_before
        )
        noise = torch.randn((1, CHANNELS, BASE, *SIDES), generator=generator)
        canvas.latents = noise.transpose(1, 2).contiguous()
        return canvas

    family = load_part(forcing, "transformer", drivers.name_of(dtype))
    got = Stitcher(phases, fresh, LONG).here(answers(family, embeds_of(forcing, dtype), 5.0))
    assert torch.equal(got.transpose(1, 2), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_a_window_from_a_picture_is_bit_identical_to_stock(forcing, dtype, scale, monkeypatch):
    picture = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)
    left = keyed_in_stock(monkeypatch, [(step, [0]) for step in range(STEPS)])
    want = stock(
        forcing, dtype, scale, kind=SkyReelsV2DiffusionForcingImageToVideoPipeline,
        image=Image.fromarray(picture[0]), addnoise_condition=GIVEN_NOISE,
    )  # fmt: skip
    assert not list(left)
    made = drivers.given_of(forcing, dtype, {FIRST: picture}, FRAMES)
    canvas, first = (
        open_canvas(forcing, SIZE, dtype, layout=layout, made=made) for layout in ("keyed", "stock")
    )  # fmt: skip
    canvas.latents = first.latents
    family = load_part(forcing, "transformer", drivers.name_of(dtype))
    got = drivers.denoise(canvas, answers(family, embeds_of(forcing, dtype), scale))
    assert torch.isfinite(want).all() and torch.equal(got.transpose(1, 2), want)


def test_an_extended_shot_resumes_with_the_same_bits_in_the_midst_of_a_later_window(forcing):
    phases = phases_of(Layout(BASE, GIVEN, 0), np.ones((1, LONG)), STEPS, Stitch("extend"))
    family = load_part(forcing, "transformer", "float32")
    predict = answers(family, embeds_of(forcing, torch.float32), 5.0)

    def fresh(phase, before):
        frames = {"frames": phase.frames, "steps_before": before}
        return open_canvas(forcing, SIZE, torch.float32, BASE, "keyed", **frames)

    whole, half, again = (Stitcher(phases, fresh, LONG) for _ in range(3))
    half.here(predict, until=STEPS + 2)
    again.restore(half.checkpoint())
    assert torch.equal(again.here(predict), whole.here(predict))


def test_the_facts_are_those_of_the_folder(folder):
    names = {"SkyReelsV2Pipeline", "SkyReelsV2DiffusionForcingPipeline"}
    facts = read_facts(folder)
    goes_on = {"given_latents": 5, "takes": Takes(frozenset({FIRST, CLIP}))} if "Diff" in facts.family else {}
    wanted = ModelFacts(facts.family, CHANNELS, 8, 4, 2, 25, 512, 2, longest_window=31, **goes_on)
    assert facts == wanted and facts.family in names


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("num_frame_per_block", 5, "num_frame_per_block is 5.*set it to 1"),
        ("image_dim", 1280, "sees a picture beside"),
        ("in_channels", 0, "in_channels=0"),
    ],
)
def test_a_folder_that_is_not_read_yet_is_refused_with_its_path_and_the_key(
    folders, tmp_path, key, value, said
):
    folder = shutil.copytree(folders["forcing"], tmp_path / "model")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=said) as refused:
        read_facts(folder)
    assert str(folder) in str(refused.value)
