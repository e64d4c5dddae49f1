"""Lessons that end with a picture, for chalk's adapter: which scenes, at which pace, how they come to rest.

Shapes: clips are uint8 f_THWC, latents float16 z_NTCHW. Decides which number makes which lesson, and what its
last latent frame is. Does not decide what a scene looks like (`teacher`) or how the adapter learns from it
(`train_last`).

The four pixel frames of a lesson's last latent frame are one picture, which its motion reaches: so is a film
that is given one. That latent is encoded from the picture alone, as `Family.give` does, since nothing else is
known of it where a film is drawn. Some lessons are composed, as all that chalk was taught; of others, things
stand anywhere and what happens once may be slow or fast, as a picture may show it sooner or later; and in
some, one scene fades into another of the same land or thing, for pictures that no motion leads between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from engine.chalk.clips import Clips, made_once
from engine.chalk.latents import Latents, encode
from engine.chalk.scenes import FORMS, Figure, Landscape, Scene, held_out, training_scene
from engine.chalk.teacher import FPS, SIZES, draw

# Of lessons, by their latent frames. Canvases have odd numbers: on them, even ones rest a latent frame more.
SHARES = {13: 0.4, 12: 0.2, 11: 0.05, 10: 0.1, 9: 0.05, 8: 0.05, 7: 0.05, 6: 0.05, 5: 0.05}
_COMPOSED, _FADED = 0.45, 0.15
_LONGEST_S = 6.5  # of a scene that happens once; beyond it forms leave the picture
_BATCH = 4  # PyTorch convolves a single clip by a slower path


@dataclass(frozen=True)
class Lesson:
    """One scene, or two of which the first fades into the second."""

    scenes: tuple[Scene, ...]
    composed: bool = True
    pace: float = 1.0


def lesson(n_latent: int, number: int) -> Lesson:
    """The lesson of this number among those of so many latent frames."""
    rng = np.random.default_rng((n_latent, number))
    scene, chance = training_scene(rng), rng.random()
    if chance < _FADED and (other := _other(scene, rng)):
        return Lesson((scene, other))
    if chance < _FADED + _COMPOSED:
        return Lesson((scene,))
    lasts_s = n_shown(n_latent) / FPS
    pace = rng.uniform(0.5 * lasts_s, _LONGEST_S) / lasts_s if _once(scene) else 1.0
    return Lesson((scene,), composed=False, pace=pace)


def n_shown(n_latent: int) -> int:
    """Pixel frames of a lesson up to its last picture, which stands for three frames more."""
    return 4 * (n_latent - 2) + 2


def draw_lesson(n_latent: int, number: int, size: tuple[int, int] = SIZES[0]) -> Clips:
    """The pixel frames (n_shown, H, W, 3) of a lesson."""
    told, n = lesson(n_latent, number), n_shown(n_latent)
    how = partial(draw, n_frames=n, size=size, composed=told.composed, pace=told.pace)
    clips = [how(scene, np.random.default_rng(number)) for scene in told.scenes]
    gone = (np.arange(n) / (n - 1))[:, None, None, None]
    share = gone * gone * (3 - 2 * gone)  # slow at both ends
    faded = clips[0] + share * (clips[-1].astype(np.float64) - clips[0])
    return np.asarray(faded.round(), np.uint8)


def encode_lessons(path: Path, vae: AutoencoderKLCogVideoX, n_latent: int, n: int) -> Latents:
    """Latents (n, n_latent, C, H/4, W/4) of the first n lessons of a length; encoded once, then read."""

    def batches() -> Iterator[Latents]:
        for first in range(0, n, _BATCH):
            numbers = range(first, min(first + _BATCH, n))
            f_NTHWC = np.stack([draw_lesson(n_latent, number) for number in numbers])
            rest = np.repeat(f_NTHWC[:, -1:], 3, axis=1)
            z_NTCHW = encode(vae, np.concatenate([f_NTHWC, rest], axis=1))
            still = encode(vae, f_NTHWC[:, -1:])  # to this encoder, a lone frame has stood still for ever
            yield torch.cat([z_NTCHW[:, :-1], still], dim=1).numpy().astype(np.float16)

    latents: Latents = made_once(path, n, batches)
    return latents


def _other(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """What a scene may fade into: its land in another light or weather, its thing by night or by day."""
    if isinstance(scene, Figure):
        return _flipped(scene)
    for _ in range(1000):
        other = training_scene(rng)
        if isinstance(other, Landscape) and other.land == scene.land and other != scene and not other.camera:
            return None if scene.camera else other
    return None


def _flipped(figure: Figure) -> Scene | None:
    """The figure by night instead of by day, or the other way round, unless that is held out or cannot be."""
    try:
        other = replace(figure, night=not figure.night)
    except ValueError:
        return None
    return None if held_out(other) else other


def _once(scene: Scene) -> bool:
    """Whether what happens in a scene happens once, so that it may be slow or fast."""
    if isinstance(scene, Figure):
        return scene.kind in (*FORMS, "moon", "plant")
    return scene.light in ("rising", "setting") or scene.cloud_motion == "appear"
