"""The transformer's lessons: the scenes that chance draws, composed, each drawn once and a pan thrice.

Shapes: clips are uint8 f_NTHWC. Decides which scenes these are, their order, and how often training meets
each: as often as chance draws it, but the rarest nearly as often as `LEAST`. Does not decide what a scene
looks like (`teacher`) or in what words it is told (`clips.random_caption`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.chalk.clips import N_FRAMES, Clips, made_once
from engine.chalk.scenes import Landscape, Scene, training_scene
from engine.chalk.teacher import draw

LEAST = 4e-4  # share of the lessons of a scene that chance hardly ever draws
_DRAWS = 20_000  # of scenes by chance; what they do not meet is under 1 % of what further draws would show
_PLACES = 3  # where a pan begins stays open even in a composed scene, so it is shown from several places


@dataclass(frozen=True)
class Course:
    """The scene of every lesson, in the order of first meeting, and its weight in training."""

    scenes: tuple[Scene, ...]
    chances: npt.NDArray[np.float64]

    def pick(self, rng: np.random.Generator, n: int, among: int) -> npt.NDArray[np.int64]:
        """The numbers of n of the first `among` lessons."""
        chances = self.chances[:among]
        return rng.choice(len(chances), size=n, p=chances / chances.sum())


@cache
def course() -> Course:
    """All lessons, in the order in which a run of draws first meets their scenes."""
    rng = np.random.default_rng(0)
    met = Counter(training_scene(rng) for _ in range(_DRAWS))
    lessons = [
        (scene, max(times / _DRAWS, LEAST) / places)
        for scene, times in met.items()
        for places in [_PLACES if _pans(scene) else 1]
        for _ in range(places)
    ]
    scenes, chances = zip(*lessons, strict=True)
    return Course(scenes, np.array(chances))


def draw_course(path: Path, n: int, size: tuple[int, int]) -> Clips:
    """The clips (n, 49, H, W, 3) of the first n lessons; drawn once, then read from path."""

    def drawn() -> Iterator[Clips]:
        for number, scene in enumerate(course().scenes[:n]):
            rng = np.random.default_rng(number)
            yield draw(scene, rng, n_frames=N_FRAMES, size=size, composed=True)[None]

    clips: Clips = made_once(path, n, drawn)
    return clips


def _pans(scene: Scene) -> bool:
    return isinstance(scene, Landscape) and scene.camera in ("left", "right")
