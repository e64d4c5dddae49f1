"""One window of ours against WanPipeline, bit for bit, with tiny random models of the real architecture."""

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from engine.denoise import denoise_here
from engine.families.loading import load_part, new_canvas
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from tests.tiny_wan import KINDS, SCHEDULERS, make_pipeline

SEED, STEPS, FRAMES, SIZE, TOKENS = 5, 4, 9, (32, 48), 12


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("wan")
    make_pipeline(request.param).save_pretrained(path, safe_serialization=True)
    return path


def stock(folder, dtype, scheduler, output="latent", scale=5.0):
    pipeline = WanPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SCHEDULERS[scheduler]()
    return pipeline(
        "rain falls", "a sun", height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=scale, max_sequence_length=TOKENS, output_type=output,
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def open_canvas(folder, dtype, scheduler, n_frames=3, layout="stock"):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, frame_shape=(16, SIZE[0] // 8, SIZE[1] // 8),
        dtype=str(dtype).removeprefix("torch."), n_steps=STEPS, kind=scheduler, layout=layout,
    )  # fmt: skip


def denoise(canvas, family, embeds, scale=5.0, stop=None):
    windows = plan_windows(canvas.n_frames, 3, 2)
    parts = [Part(window, 0) for window in windows]
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, parts, weights, lambda r: family.predict(r.latents, r.timestep, *embeds, scale), stop
    )


def embeds_of(folder, name):
    text = load_part(folder, "text", name)
    return [text.embed(words, TOKENS) for words in ("rain falls", "a sun")]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scheduler, scale):
    name = str(dtype).removeprefix("torch.")
    want = stock(folder, dtype, scheduler, scale=scale)
    canvas = open_canvas(folder, dtype, scheduler)
    got = denoise(canvas, load_part(folder, "transformer", name), embeds_of(folder, name), scale)
    assert torch.isfinite(want).all()
    assert torch.equal(got.transpose(1, 2), want.float())  # Euler's steps leave stock's in the weights' dtype


def test_streamed_frames_are_those_of_the_whole_decode(folder):
    got = denoise(
        open_canvas(folder, torch.float32, "euler"),
        load_part(folder, "transformer", "float32"),
        embeds_of(folder, "float32"),
    )
    want = stock(folder, torch.float32, "euler", output="np")[0]
    frames = np.stack(list(load_part(folder, "vae", "float32").frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3)
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_long_shot_resumes_with_the_same_bits(folder, scheduler):
    family, embeds = load_part(folder, "transformer", "float32"), embeds_of(folder, "float32")
    whole = denoise(open_canvas(folder, torch.float32, scheduler, 7, "keyed"), family, embeds)
    half = open_canvas(folder, torch.float32, scheduler, 7, "keyed")
    denoise(half, family, embeds, stop=2)
    again = open_canvas(folder, torch.float32, scheduler, 7, "keyed")
    again.restore(half.checkpoint())
    assert torch.equal(denoise(again, family, embeds), whole)
