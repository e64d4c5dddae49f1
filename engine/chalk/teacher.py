"""Draw lesson clips: the water cycle, day and night, a plant, coloured shapes.

Shapes: a clip is uint8 f_THWC at 8 frames a second, of any size from 64 pixels. Decides what a scene looks
like and how it moves. Does not decide what is in it (`scenes`) or what it is called (`captions`).

Motions that go on for ever (drifting, raining, flowing) start anywhere in their period, and motions with an
end (rising, growing) start early or late: every window of a long shot is then like a clip seen here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.chalk.brush import (
    Array,
    Colour,
    Grid,
    below,
    disc,
    ellipse,
    glow,
    gradient,
    make_grid,
    paint,
    ramp,
)
from engine.chalk.captions import LANGUAGES, caption
from engine.chalk.scenes import Scene, Shape, random_scene

FPS = 8
SIZES = ((64, 96), (64, 64), (112, 64))  # height × width
_TAU = np.float32(2 * np.pi)
_SKY: dict[str, tuple[Colour, Colour]] = {
    "day": ((0.36, 0.66, 0.94), (0.80, 0.92, 0.98)),
    "rain": ((0.47, 0.53, 0.62), (0.72, 0.77, 0.82)),
    "rising": ((0.52, 0.62, 0.90), (1.00, 0.82, 0.60)),
    "setting": ((0.40, 0.28, 0.56), (1.00, 0.55, 0.36)),
    "moon": ((0.05, 0.07, 0.22), (0.16, 0.22, 0.45)),
}
_DIM = {"moon": 0.45, "setting": 0.75, "rising": 0.92, "rain": 0.82}
_PAPER: Colour = (0.95, 0.94, 0.90)
_SHAPE_COLOURS: dict[str, Colour] = {
    "red": (0.88, 0.20, 0.20), "orange": (0.96, 0.56, 0.12), "yellow": (0.97, 0.83, 0.20),
    "green": (0.22, 0.66, 0.32), "blue": (0.18, 0.42, 0.86), "purple": (0.56, 0.28, 0.72),
}  # fmt: skip
_Row = tuple[float, float, float, Colour]  # depth below the horizon, height, length, all in pixels
_WAVES: tuple[_Row, ...] = (
    (0.0, 1.0, 24.0, (0.16, 0.45, 0.74)),
    (7.0, 1.5, 32.0, (0.20, 0.53, 0.80)),
    (16.0, 2.0, 48.0, (0.26, 0.62, 0.86)),
)
_HILL_ROWS: tuple[_Row, ...] = ((3.0, 4.5, 60.0, (0.45, 0.70, 0.38)), (13.0, 3.0, 84.0, (0.33, 0.60, 0.30)))
_STARS = ((0.12, 0.10), (0.30, 0.24), (0.46, 0.08), (0.62, 0.30), (0.78, 0.12), (0.92, 0.26), (0.20, 0.40))


@dataclass(frozen=True)
class Lesson:
    """A clip, what it shows and what it is called."""

    frames: npt.NDArray[np.uint8]  # (T, H, W, 3)
    scene: Scene
    caption: str


@dataclass(frozen=True)
class _Stage:
    """Where and when one clip is drawn."""

    grid: Grid
    rng: np.random.Generator
    scene: Scene
    horizon: float
    dim: float  # brightness of the land: below 1 in rain, at dusk and at night


def teach(seed: int, *, n_frames: int = 49, size: tuple[int, int] = SIZES[0], language: str = "en") -> Lesson:
    """The lesson of this seed; the scene does not depend on the language, size or length."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    text = caption(scene, language, np.random.default_rng((seed, LANGUAGES.index(language))))
    return Lesson(draw(scene, rng, n_frames=n_frames, size=size), scene, text)


def draw(
    scene: Scene, rng: np.random.Generator, *, n_frames: int, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The scene as bytes (T, H, W, 3), its places and phases drawn from rng."""
    grid = make_grid(n_frames, *size, FPS)
    if scene.shape:
        f_THWC = _shape(grid, rng, scene.shape)
    else:
        mood = "rain" if scene.weather == "rain" else scene.light
        stage = _Stage(grid, rng, scene, grid.height * 0.6, _DIM.get(mood, 1.0))
        f_THWC = _sky(stage)
        _light(stage, f_THWC)
        _LANDS[scene.land](stage, f_THWC)
        _happenings(stage, f_THWC)
    return (f_THWC * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _sky(stage: _Stage) -> Array:
    grid, scene = stage.grid, stage.scene
    mood = "rain" if scene.weather == "rain" else "day" if scene.light in ("", "shining") else scene.light
    top, bottom = _SKY[mood]
    colours = gradient(grid, top, bottom, 0, stage.horizon)
    return np.broadcast_to(colours, (len(grid.t), grid.height, grid.width, 3)).copy()


def _light(stage: _Stage, f_THWC: Array) -> None:
    """Sun or moon with its glow, behind the land."""
    grid, rng, light = stage.grid, stage.rng, stage.scene.light
    if not light:
        return
    x = float(rng.uniform(0.2, 0.8)) * grid.width
    high, low = stage.horizon * 0.34, stage.horizon + 2.0
    if light == "moon":
        _moon(stage, f_THWC, x, high)
        return
    y: Array | float = high
    if light in ("rising", "setting"):
        gone = np.clip((grid.t + rng.uniform(0, 3)) / 9.0, 0, 1)
        y = low + (high - low) * (gone if light == "rising" else 1 - gone)
    tint: Colour = (1.0, 0.86, 0.30) if light != "setting" else (1.0, 0.50, 0.22)
    paint(f_THWC, 0.55 * glow(grid, x, y, 17), tint)
    paint(f_THWC, disc(grid, x, y, 7.5), tint)


def _moon(stage: _Stage, f_THWC: Array, x: float, y: float) -> None:
    grid = stage.grid
    for left, top in _STARS:
        paint(f_THWC, disc(grid, left * grid.width, top * stage.horizon * 1.6, 1.0), (0.95, 0.95, 0.80))
    paint(f_THWC, 0.25 * glow(grid, x, y, 14), (0.8, 0.85, 1.0))
    paint(f_THWC, disc(grid, x, y, 6.5), (0.96, 0.95, 0.84))


def _sea(stage: _Stage, f_THWC: Array) -> None:
    """Three rows of waves that roll to the left, nearer ones larger and brighter."""
    grid, phase = stage.grid, float(stage.rng.uniform(0, 1))
    for depth, swell, length, colour in _WAVES:
        wave = np.sin(_TAU * (grid.x / length + grid.t * 0.25 + phase + depth / 10))
        paint(f_THWC, below(grid, stage.horizon + depth + swell * wave), _shade(colour, stage.dim))


def _hills(stage: _Stage, f_THWC: Array) -> None:
    """Two rows of round hills."""
    grid, phase = stage.grid, float(stage.rng.uniform(0, 1))
    for depth, rise, length, colour in _HILL_ROWS:
        line = stage.horizon + depth + rise * np.sin(_TAU * (grid.x / length + phase + depth / 20))
        paint(f_THWC, below(grid, line), _shade(colour, stage.dim))


def _mountains(stage: _Stage, f_THWC: Array) -> None:
    """Three peaks with snow behind a green plain."""
    grid, shift = stage.grid, float(stage.rng.uniform(-6, 6))
    for place, top in ((0.2, 15.0), (0.8, 18.0), (0.5, 22.0)):
        peak = stage.horizon + 4 - top
        away = np.abs(grid.x - place * grid.width - shift)
        line = peak + away * 1.05
        paint(f_THWC, below(grid, line), _shade((0.46, 0.50, 0.60), stage.dim))
        snow = below(grid, line) * (1 - below(grid, peak + 7 + 1.5 * np.cos(away * 0.9)))
        paint(f_THWC, snow, _shade((0.97, 0.98, 1.0), max(stage.dim, 0.6)))
    paint(f_THWC, below(grid, stage.horizon + 5 + 0 * grid.x), _shade((0.42, 0.66, 0.36), stage.dim))


def _river(stage: _Stage, f_THWC: Array) -> None:
    """Hills, and a river that winds and widens towards the viewer, with ripples that run down it."""
    _hills(stage, f_THWC)
    grid, bend = stage.grid, float(stage.rng.uniform(-1, 1))
    depth = np.clip((grid.y - stage.horizon - 4) / (grid.height - stage.horizon - 4), 0, 1)
    middle = grid.width * 0.5 + 12 * bend * np.sin(_TAU * depth * 0.7)
    water = ramp(np.asarray(1.5 + 17 * depth - np.abs(grid.x - middle), np.float32)) * (depth > 0)
    ripple = 0.5 + 0.5 * np.sin(_TAU * (np.sqrt(depth) * 3.0 - grid.t * 0.8))
    deep = np.asarray(_shade((0.20, 0.52, 0.82), stage.dim), np.float32)
    bright = np.asarray(_shade((0.55, 0.80, 0.96), stage.dim), np.float32)
    colour = deep + ripple[..., None].astype(np.float32) * (bright - deep)
    paint(f_THWC, np.asarray(water, np.float32), colour)


def _happenings(stage: _Stage, f_THWC: Array) -> None:
    """What is in front of the land, from back to front."""
    if stage.scene.plant:
        _plant(stage, f_THWC)
    if stage.scene.weather == "vapour":
        _vapour(stage, f_THWC)
    if stage.scene.weather == "rain":
        _rain(stage, f_THWC)
    if stage.scene.cloud:
        _clouds(stage, f_THWC)


def _plant(stage: _Stage, f_THWC: Array) -> None:
    """Brown soil; a stem with leaf pairs that grows and ends in a flower."""
    grid, rng = stage.grid, stage.rng
    ground = grid.height - 12.0
    paint(f_THWC, below(grid, ground + 0 * grid.x), (0.45, 0.30, 0.20))
    x = grid.width * float(rng.uniform(0.35, 0.65))
    grown = np.clip((grid.t + float(rng.uniform(0, 2.5))) / 8.0, 0.08, 1)
    tip = ground - 34 * grown
    stem = ramp(1.6 - np.abs(grid.x - x)) * below(grid, tip) * (1 - below(grid, ground + 0 * grid.x))
    paint(f_THWC, stem, (0.20, 0.55, 0.22))
    for share, side in ((0.3, -1), (0.5, 1), (0.7, -1)):
        leaf = np.clip((grown - share) * 4, 0.001, 1)
        mask = ellipse(grid, x + side * 6.0 * leaf, ground - 34 * share + 0 * grown, 6.0 * leaf, 3.0 * leaf)
        paint(f_THWC, np.asarray(mask * np.minimum(leaf * 4, 1), np.float32), (0.30, 0.68, 0.28))
    bloom = np.clip((grown - 0.6) * 3, 0, 1)
    seen = np.minimum(bloom * 4, 1)  # a form of no size would still leave a dot half a pixel wide
    paint(f_THWC, np.asarray(seen * disc(grid, x, tip, 6.0 * bloom), np.float32), (0.93, 0.35, 0.55))
    paint(f_THWC, np.asarray(seen * disc(grid, x, tip, 2.5 * bloom), np.float32), (1.0, 0.85, 0.35))


def _vapour(stage: _Stage, f_THWC: Array) -> None:
    """White wisps that sway, rise from the water and fade below the clouds."""
    grid, phase = stage.grid, float(stage.rng.uniform(0, 1))
    start, stop = stage.horizon + 10, stage.horizon * 0.3
    for column in range(4):
        middle = grid.width * (0.2 + 0.2 * column)
        sway = 2.5 * np.sin(_TAU * (grid.y / 24 + grid.t * 0.35 + column * 0.3 + phase))
        body = np.exp(-(((grid.x - middle - sway) / 3.0) ** 2))
        puffs = 0.55 + 0.45 * np.sin(_TAU * ((grid.y + 10 * grid.t) / 20 + column * 0.37 + phase))
        height = np.clip((grid.y - stop) / 14, 0, 1) * np.clip((start - grid.y) / 6, 0, 1)
        paint(f_THWC, np.asarray(0.85 * body * puffs * height, np.float32), (0.97, 0.98, 1.0))


def _rain(stage: _Stage, f_THWC: Array) -> None:
    """Rows of fat drops on a slanted lattice, falling 1.5 pixels a frame."""
    grid, phase = stage.grid, float(stage.rng.uniform(0, 16))
    column = np.floor(grid.x / 8)
    down = np.mod(grid.y - 12.0 * grid.t + 7.0 * column + phase, 16) - 8
    across = np.mod(grid.x, 8) - 4
    drop = ramp(np.asarray((1 - np.hypot(across / 1.5, down / 4.0)) * 1.5, np.float32))
    reach = np.clip((grid.y - stage.horizon * 0.4) / 3, 0, 1)
    landing = np.clip((stage.horizon + 16 - grid.y) / 6, 0, 1)
    paint(f_THWC, np.asarray(0.9 * drop * reach * landing, np.float32), (0.70, 0.87, 1.0))


def _clouds(stage: _Stage, f_THWC: Array) -> None:
    """Two flat-bottomed clouds, larger and lower in rain, which drift around the frame, form or stay."""
    grid, rng, scene = stage.grid, stage.rng, stage.scene
    speed = {"left": -6.0, "right": 6.0}.get(scene.cloud_motion, 0.0)
    span, start = grid.width + 40.0, float(rng.uniform(0, 1))
    size: Array | float = 1.25 if scene.weather == "rain" else 1.0
    if scene.cloud_motion == "appear":
        size = np.clip((grid.t - float(rng.uniform(-2, 1))) / 4.0, 0.0, 1.0).astype(np.float32)
    colour = _CLOUD_COLOURS[scene.cloud]
    for i in range(2):
        x = np.mod(start * span + i * span / 2 + speed * grid.t, span) - 20
        y = stage.horizon * (0.26 + 0.14 * i)
        paint(f_THWC, _cloud(grid, x, y, size), _shade(colour, 0.5 if scene.light == "moon" else 1.0))


def _cloud(grid: Grid, x: Array, y: float, size: Array | float) -> Array:
    """Three bumps over a flat base; size 0 is no cloud."""
    grown = np.maximum(size, np.float32(0.02))
    mask = ellipse(grid, x, y + 2.0 * grown, 15.0 * grown, 5.0 * grown)
    for dx, dy, radius in ((-6.0, 0.0, 5.5), (1.0, -3.0, 7.0), (8.0, 0.0, 4.5)):
        mask = np.maximum(mask, disc(grid, x + dx * grown, y + dy * grown, radius * grown))
    return np.asarray(mask * np.clip(np.asarray(size) * 4, 0, 1), np.float32)


def _shape(grid: Grid, rng: np.random.Generator, shape: Shape) -> Array:
    """One flat form on paper, moving 5 pixels a second or changing its size by half."""
    f_THWC = np.empty((len(grid.t), grid.height, grid.width, 3), np.float32)
    f_THWC[:] = _PAPER
    dx = {"left": -1, "right": 1}.get(shape.motion, 0)
    dy = {"up": -1, "down": 1}.get(shape.motion, 0)
    travel = 5.0 * (grid.t - 3.0)
    x = grid.width * (0.5 + float(rng.uniform(-0.15, 0.15)) * (1 - abs(dx))) + dx * travel
    y = grid.height * (0.5 + float(rng.uniform(-0.1, 0.1)) * (1 - abs(dy))) + dy * travel
    turn = {"grow": 1, "shrink": -1}.get(shape.motion, 0)
    radius = 12.0 + turn * 2.0 * (grid.t - 3.0)
    paint(f_THWC, _FORMS[shape.form](grid, x, y, radius), _SHAPE_COLOURS[shape.colour])
    return f_THWC


def _square(grid: Grid, x: Array, y: Array, radius: Array) -> Array:
    return ramp(np.asarray(0.9 * radius - np.maximum(np.abs(grid.x - x), np.abs(grid.y - y)), np.float32))


def _triangle(grid: Grid, x: Array, y: Array, radius: Array) -> Array:
    side = 0.866 * np.abs(grid.x - x) - 0.5 * (grid.y - y)
    return ramp(np.asarray(0.6 * radius - np.maximum(side, grid.y - y), np.float32))


def _shade(colour: Colour, dim: float) -> Colour:
    return (colour[0] * dim, colour[1] * dim, colour[2] * min(1.0, dim * 1.1))


_LANDS: dict[str, Callable[[_Stage, Array], None]] = {
    "sea": _sea, "hills": _hills, "mountains": _mountains, "river": _river,
}  # fmt: skip
_FORMS: dict[str, Callable[[Grid, Array, Array, Array], Array]] = {
    "circle": disc, "square": _square, "triangle": _triangle,
}  # fmt: skip
_CLOUD_COLOURS: dict[str, Colour] = {"white": (0.98, 0.98, 1.0), "grey": (0.42, 0.45, 0.52)}
