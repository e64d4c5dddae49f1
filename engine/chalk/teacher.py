"""Draw lesson clips: the lesson of a seed, seen by a camera.

Shapes: a clip is uint8 f_THWC at 8 frames a second, of any size from 64 pixels. Decides how the camera moves
and what a seed means. Does not decide what is in a scene (`scenes`), what it looks like (`landscape`,
`figures`) or what it is called (`captions`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.chalk.brush import Grid, make_grid
from engine.chalk.captions import seeded_caption
from engine.chalk.chance import Chance
from engine.chalk.figures import draw_figure
from engine.chalk.landscape import draw_landscape
from engine.chalk.scenes import Landscape, Scene, training_scene

FPS = 8
SIZES = ((64, 96), (64, 64), (112, 64))  # height × width
_PAN = 5.0  # pixels a second
ZOOM = 0.07  # of the scale, a second
NEAREST = 1.6  # where a zoom ends


@dataclass(frozen=True)
class Lesson:
    """A clip, what it shows and what it is called."""

    frames: npt.NDArray[np.uint8]  # (T, H, W, 3)
    scene: Scene
    caption: str


def teach(
    seed: int,
    *,
    n_frames: int = 49,
    size: tuple[int, int] = SIZES[0],
    language: str = "en",
) -> Lesson:
    """The lesson of this seed; the scene does not depend on the language, size or length."""
    rng = np.random.default_rng(seed)
    scene = training_scene(rng)
    frames = draw(scene, rng, n_frames=n_frames, size=size)
    return Lesson(frames, scene, seeded_caption(scene, language, seed))


def draw(
    scene: Scene,
    rng: np.random.Generator,
    *,
    n_frames: int,
    size: tuple[int, int],
    composed: bool = False,
    pace: float = 1.0,
) -> npt.NDArray[np.uint8]:
    """The scene as bytes (T, H, W, 3), its places and phases drawn from rng unless it is composed.

    pace is how many seconds of it pass in one.
    """
    chance = Chance(rng, composed)
    grid = make_grid(n_frames, *size, FPS / pace)
    if isinstance(scene, Landscape):
        f_THWC = draw_landscape(*_seen(grid, scene.camera), chance, scene)
    else:
        f_THWC = draw_figure(grid, chance, scene)
    return (f_THWC * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _seen(grid: Grid, camera: str) -> tuple[Grid, Grid]:
    """The places of land and of sky that a moving camera sees: panning for ever, or zooming to an end."""
    if camera in ("left", "right"):
        return Grid(grid.t, grid.y, grid.x + (_PAN if camera == "right" else -_PAN) * grid.t), grid
    if camera in ("in", "out"):
        gone = np.minimum(np.exp(ZOOM * grid.t), np.float32(NEAREST))
        scale = 1 / gone if camera == "in" else gone / NEAREST
        middle_x, middle_y = grid.width / 2, grid.height / 2
        x, y = middle_x + (grid.x - middle_x) * scale, middle_y + (grid.y - middle_y) * scale
        return Grid(grid.t, y, x), Grid(grid.t, y, x)
    return grid, grid
