"""Video-to-video: one window of ours against CogVideoXVideoToVideoPipeline, bit for bit, with a tiny model.

Stock samples the encoder's posterior, ours takes its mean, so that a film is drawn again alike: here stock is
made to take the mean too.
"""

import numpy as np
import pytest
import torch
from diffusers import CogVideoXVideoToVideoPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from engine.chalk.model import build_pipeline
from engine.chalk.tokens import MAX_TOKENS
from engine.denoise import denoise_here
from engine.families.cogvideox import CogVideoX
from engine.families.loading import load_part, new_canvas
from engine.takes import SOURCE, WHOLE
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from jobs.plan import redraw_from

STEPS, SEED, SIZE, FRAMES = 5, 11, (32, 48), 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chalk")
    build_pipeline(0, tiny=True).save_pretrained(path, safe_serialization=True)
    return path


def clip(n_frames):
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (n_frames, *SIZE, 3), dtype=np.uint8)


def stock(folder, kind, strength, monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipeline = CogVideoXVideoToVideoPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.scheduler = CogVideoX.schedulers[kind].from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        [Image.fromarray(frame) for frame in clip(FRAMES)], "rain", "a sun", strength=strength,
        height=SIZE[0], width=SIZE[1], num_inference_steps=STEPS, guidance_scale=6.0,
        max_sequence_length=MAX_TOKENS, output_type="latent", generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def open_canvas(folder, kind, strength, given, layout):
    latents = given[WHOLE]
    canvas = new_canvas(
        folder, seed=SEED, shot="s", n_frames=latents.shape[1], frame_shape=latents.shape[2:],
        dtype="float32", n_steps=STEPS, kind=kind, layout=layout,
    )  # fmt: skip
    canvas.begin(given, redraw_from(strength, STEPS))
    return canvas


def denoise(canvas, folder, until=None):
    text, family = load_part(folder, "text", "float32"), load_part(folder, "transformer", "float32")
    texts = [text.embed(words, MAX_TOKENS) for words in ("rain", "a sun")]
    windows = plan_windows(canvas.n_frames, 3, 2)
    parts, weights = [Part(window, 0) for window in windows], blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, parts, weights, lambda r: family.predict(r.latents, r.timestep, *texts, 6.0), until
    )


@pytest.mark.parametrize("kind", CogVideoX.schedulers)
@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_a_clip_is_redrawn_bit_for_bit_as_stock_redraws_it(folder, kind, strength, monkeypatch):
    given = load_part(folder, "given", "float32").give({SOURCE: clip(FRAMES)}, FRAMES)
    ours = denoise(open_canvas(folder, kind, strength, given, "stock"), folder)
    want = stock(folder, kind, strength, monkeypatch)
    assert torch.isfinite(want).all()
    assert torch.equal(ours, want)


@pytest.mark.parametrize("kind", CogVideoX.schedulers)
def test_a_long_clip_is_redrawn_in_windows_and_resumes_with_the_same_bits(folder, kind):
    given = load_part(folder, "given", "float32").give({SOURCE: clip(25)}, 25)
    whole = denoise(open_canvas(folder, kind, 0.6, given, "keyed"), folder)
    half, again = (open_canvas(folder, kind, 0.6, given, "keyed") for _ in range(2))
    denoise(half, folder, until=4)
    assert half.step_index == 4
    again.restore(half.checkpoint())
    assert torch.equal(denoise(again, folder), whole)
    assert not torch.equal(denoise(open_canvas(folder, kind, 1.0, given, "keyed"), folder), whole)


@pytest.mark.parametrize(
    ("strength", "n_steps", "first"),
    [(0.8, 20, 4), (None, 20, 4), (1.0, 20, 0), (0.01, 20, 19), (0.3, 10, 7)],
)
def test_a_clip_is_redrawn_in_its_share_of_the_steps_but_at_least_in_one(strength, n_steps, first):
    assert redraw_from(strength, n_steps) == first
