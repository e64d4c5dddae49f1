"""One window of ours against StableVideoDiffusionPipeline, bit for bit, with tiny random models."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image

from engine.denoise import denoise_here
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part, new_canvas
from engine.families.svd import CHUNK, NOISE_SEED
from engine.takes import FIRST, LAST, Takes
from engine.tensors import from_bytes, to_bytes
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from tests.tiny_svd import FRAMES, make_pipeline

STEPS, SIZE = 4, (32, 48)
PICTURE = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("svd")
    make_pipeline().save_pretrained(path, safe_serialization=True)
    return path


def stock(folder, dtype, scale=3.0, output="latent", n_frames=FRAMES):
    pipeline = StableVideoDiffusionPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        Image.fromarray(PICTURE), height=SIZE[0], width=SIZE[1], num_frames=n_frames,
        num_inference_steps=STEPS, max_guidance_scale=scale, decode_chunk_size=CHUNK, output_type=output,
        generator=torch.Generator().manual_seed(NOISE_SEED),
    ).frames  # fmt: skip


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def open_canvas(folder, dtype=torch.float32, n_frames=FRAMES, layout="stock"):
    return new_canvas(
        folder, seed=NOISE_SEED, shot="s", n_frames=n_frames, frame_shape=(4, SIZE[0] // 8, SIZE[1] // 8),
        dtype=name_of(dtype), n_steps=STEPS, layout=layout,
    )  # fmt: skip


def given(folder, dtype=torch.float32):
    return load_part(folder, "given", name_of(dtype)).give({FIRST: PICTURE[None]}, 1)


def denoise(canvas, family, picture, scale=3.0, stop=None):
    windows = plan_windows(canvas.n_frames, FRAMES, 3)
    parts = [Part(window, 0) for window in windows]
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, parts, weights, lambda r: family.predict(r.latents, r.timestep, picture, picture, scale), stop
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_a_whole_folder_from_picture_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    want = stock(folder, dtype, scale)
    family = load_part(folder, "transformer", name_of(dtype))
    got = denoise(open_canvas(folder, dtype), family, given(folder, dtype), scale)
    assert torch.isfinite(want).all() and want.dtype == dtype
    assert torch.equal(got, want)


def test_the_picture_and_the_guidance_change_what_is_drawn(folder):
    family, picture = load_part(folder, "transformer", "float32"), given(folder)
    drawn = denoise(open_canvas(folder), family, picture)
    for name in ("seen", "first", "told"):
        other = denoise(open_canvas(folder), family, {**picture, name: picture[name] + 1})
        assert (other - drawn).abs().max() > 1e-3, name
    assert not torch.equal(drawn, denoise(open_canvas(folder), family, picture, 1.0))


def test_guidance_rises_over_the_frames_of_a_window_from_none_at_its_first(folder):
    family, picture = load_part(folder, "transformer", "float32"), given(folder)
    canvas = open_canvas(folder)
    at = canvas.slice(plan_windows(FRAMES, FRAMES, 0)[0]), canvas.timestep
    plain, twice, thrice = (family.predict(*at, picture, None, scale) for scale in (1.0, 2.0, 3.0))
    torch.testing.assert_close(twice[:, 0], plain[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(thrice - plain, 2 * (twice - plain), rtol=0, atol=1e-4)
    rise = (thrice - plain).abs().mean(dim=(0, 2, 3, 4))
    assert rise[0] < 1e-5 < rise[1] < rise[-1]


def test_streamed_frames_are_those_of_the_whole_decode(folder):
    n_frames = CHUNK + 3
    latents = stock(folder, torch.float32, n_frames=n_frames)
    want = stock(folder, torch.float32, output="np", n_frames=n_frames)[0]
    frames = np.stack(list(load_part(folder, "vae", "float32").frames(latents)))
    assert frames.shape == (n_frames, *SIZE, 3)
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_shot_resumes_with_the_same_bits(folder, dtype):
    family, picture = load_part(folder, "transformer", name_of(dtype)), given(folder, dtype)
    whole = denoise(open_canvas(folder, dtype, 12, "keyed"), family, picture)
    half = open_canvas(folder, dtype, 12, "keyed")
    denoise(half, family, picture, stop=2)
    again = open_canvas(folder, dtype, 12, "keyed")
    again.restore(from_bytes(to_bytes(half.checkpoint())))
    assert torch.equal(denoise(again, family, picture), whole)


def test_a_shot_without_a_picture_is_refused(folder):
    family, canvas = load_part(folder, "transformer", "float32"), open_canvas(folder)
    text = load_part(folder, "text", "float32").embed("rain falls", 1)
    assert from_bytes(to_bytes(dict(text))) == {}
    with pytest.raises(ValueError, match="starts from a picture: give the shot a first_frame"):
        family.predict(canvas.latents, canvas.timestep, text, text, 3.0)


@pytest.mark.parametrize("names", [(), (LAST,), (FIRST, LAST)])
def test_nothing_but_a_first_frame_can_be_given(folder, names):
    family = load_part(folder, "given", "float32")
    with pytest.raises(ValueError, match="goes on from a first_frame alone"):
        family.give(dict.fromkeys(names, PICTURE[None]), 1)


def test_a_picture_is_not_encoded_in_a_type_in_which_the_encoder_overflows(folder):
    with pytest.raises(ValueError, match="overflows in float16"):
        given(folder, torch.float16)


def test_the_facts_are_those_of_the_folder(folder):
    only = frozenset({FIRST})
    assert read_facts(folder) == ModelFacts(
        "StableVideoDiffusionPipeline", 4, 8, 1, 1, FRAMES, 1, 1, takes=Takes(may=only, must=only)
    )


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("unet", "in_channels", 4),
        ("unet", "out_channels", None),
        ("unet", "num_frames", 0),
        ("vae", "block_out_channels", []),
    ],
)
def test_a_folder_with_a_wrong_key_is_refused_by_it(folder, tmp_path, part, key, value):
    for each in ("unet", "vae"):
        config = json.loads((folder / each / "config.json").read_text())
        (tmp_path / each).mkdir()
        changed = config | {key: value} if each == part else config
        (tmp_path / each / "config.json").write_text(json.dumps(changed))
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ValueError, match=f"{tmp_path}: its configuration says {key}="):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    "part, held",
    [
        ("text", set()),
        ("given", {"vae", "image_encoder", "feature_extractor"}),
        ("transformer", {"unet"}),
        ("vae", {"vae"}),
    ],
)
def test_a_stage_holds_what_it_needs(folder, part, held):
    parts = load_part(folder, part, "float32").pipeline.components
    assert {name for name, each in parts.items() if each is not None} == held | {"scheduler"}
