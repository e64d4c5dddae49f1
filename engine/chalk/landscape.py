"""Landscapes: land, sky, sun and moon, clouds, rain and vapour.

Shapes: a clip is float32 f_THWC in [0, 1]. Decides what they look like and how they move. Does not decide
what is in a scene (`scenes`) or how the camera moves (`teacher`).

Unless a scene is composed (`chance`), motions that go on for ever (drifting, raining, flowing) start anywhere
in their period, and motions with an end (rising, forming) start early or late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.chalk.brush import Array, Colour, Grid, below, disc, ellipse, glow, gradient, paint, ramp
from engine.chalk.chance import Chance
from engine.chalk.scenes import Landscape

_TAU = np.float32(2 * np.pi)
SKY: dict[str, tuple[Colour, Colour]] = {
    "day": ((0.36, 0.66, 0.94), (0.80, 0.92, 0.98)),
    "rain": ((0.47, 0.53, 0.62), (0.72, 0.77, 0.82)),
    "rising": ((0.52, 0.62, 0.90), (1.00, 0.82, 0.60)),
    "setting": ((0.40, 0.28, 0.56), (1.00, 0.55, 0.36)),
    "moon": ((0.05, 0.07, 0.22), (0.16, 0.22, 0.45)),
}
DIM = {"moon": 0.45, "setting": 0.75, "rising": 0.92, "rain": 0.82}
SUN, LOW_SUN, MOON = (1.0, 0.86, 0.30), (1.0, 0.50, 0.22), (0.96, 0.95, 0.84)
ROCK: Colour = (0.46, 0.50, 0.60)
DUSK = 0.5  # brightness of clouds at night
_DRIFT = 6.0  # pixels a second
CLOUDS: dict[str, Colour] = {"white": (0.98, 0.98, 1.0), "grey": (0.42, 0.45, 0.52)}
_Row = tuple[float, float, float, Colour]  # depth below the horizon, height, length, all in pixels
_WAVES: tuple[_Row, ...] = (
    (0.0, 1.2, 24.0, (0.16, 0.45, 0.74)),
    (7.0, 1.8, 32.0, (0.20, 0.53, 0.80)),
    (16.0, 2.2, 48.0, (0.26, 0.62, 0.86)),
)
_HILL_ROWS: tuple[_Row, ...] = ((3.0, 4.5, 60.0, (0.45, 0.70, 0.38)), (13.0, 3.0, 84.0, (0.33, 0.60, 0.30)))
_PEAKS = ((-0.25, 14.0), (0.2, 15.0), (0.8, 18.0), (0.5, 22.0))  # place in widths, height in px
_RANGE = 1.5  # widths after which the mountains come again
STARS = ((0.12, 0.10), (0.30, 0.24), (0.46, 0.08), (0.62, 0.30), (0.78, 0.12), (0.92, 0.26), (0.20, 0.40))


@dataclass(frozen=True)
class _Stage:
    """Where and when one clip is drawn."""

    grid: Grid  # of the land
    sky: Grid  # of sun, moon, stars and clouds, which are too far away for a panning camera
    chance: Chance
    scene: Landscape
    horizon: float
    dim: float  # brightness of the land: below 1 in rain, at dusk and at night
    light_x: float  # of sun or moon

    def shift(self, low: float, high: float) -> float:
        """How far the land is shifted: a pan shows it from any of its places on, even if it is composed."""
        panned = self.scene.camera in ("left", "right")
        return self.chance.anywhere(low, high) if panned else self.chance.place(low, high)


def draw_landscape(grid: Grid, sky: Grid, chance: Chance, scene: Landscape) -> Array:
    """The scene as f_THWC, its places and phases by chance."""
    light_x = chance.place(0.25, 0.75, at=0.0) * grid.width
    stage = _Stage(grid, sky, chance, scene, grid.height * 0.6, DIM.get(scene.mood, 1.0), light_x)
    f_THWC = _sky(stage)
    if scene.light:
        _light(stage, f_THWC)
    _LANDS[scene.land](stage, f_THWC)
    if scene.weather == "vapour":
        _vapour(stage, f_THWC)
    if scene.weather == "rain":
        _rain(stage, f_THWC)
    if scene.cloud:
        _clouds(stage, f_THWC)
    return f_THWC


def _sky(stage: _Stage) -> Array:
    grid, scene = stage.sky, stage.scene
    top, bottom = SKY[scene.mood]
    colours = gradient(grid, top, bottom, 0, stage.horizon)
    return np.broadcast_to(colours, (len(grid.t), grid.height, grid.width, 3)).copy()


def _light(stage: _Stage, f_THWC: Array) -> None:
    """Sun or moon with its glow, behind the land."""
    grid, chance, light = stage.sky, stage.chance, stage.scene.light
    x = stage.light_x
    high, low = stage.horizon * 0.34, stage.horizon + 2.0
    if light == "moon":
        _moon(stage, f_THWC, x, high)
        return
    y: Array | float = high
    if light in ("rising", "setting"):
        gone = np.clip((grid.t + chance.phase(0, 1.5)) / 6.0, 0, 1)
        y = low + (high - low) * (gone if light == "rising" else 1 - gone)
    tint = SUN if light != "setting" else LOW_SUN
    paint(f_THWC, 0.55 * glow(grid, x, y, 17), tint)
    paint(f_THWC, disc(grid, x, y, 8.5), tint)


def _moon(stage: _Stage, f_THWC: Array, x: float, y: float) -> None:
    grid = stage.sky
    for left, top in STARS:
        paint(f_THWC, disc(grid, left * grid.width, top * stage.horizon * 1.6, 1.0), (0.95, 0.95, 0.80))
    paint(f_THWC, 0.25 * glow(grid, x, y, 14), (0.8, 0.85, 1.0))
    paint(f_THWC, disc(grid, x, y, 7.5), MOON)


def _sea(stage: _Stage, f_THWC: Array) -> None:
    """Three rows of waves that roll to the left, nearer ones larger and brighter."""
    grid, phase = stage.grid, stage.chance.phase(0, 1)
    rate = 1 / stage.chance.period(4.0)
    for depth, swell, length, colour in _WAVES:
        wave = np.sin(_TAU * (grid.x / length + grid.t * rate + phase + depth / 10))
        paint(f_THWC, below(grid, stage.horizon + depth + swell * wave), shade(colour, stage.dim))


def _hills(stage: _Stage, f_THWC: Array) -> None:
    """Two rows of round hills."""
    grid, phase = stage.grid, stage.shift(0, 1)
    for depth, rise, length, colour in _HILL_ROWS:
        line = stage.horizon + depth + rise * np.sin(_TAU * (grid.x / length + phase + depth / 20))
        paint(f_THWC, below(grid, line), shade(colour, stage.dim))


def _mountains(stage: _Stage, f_THWC: Array) -> None:
    """Peaks with snow behind a green plain."""
    grid, shift = stage.grid, stage.shift(-6, 6)
    period = _RANGE * grid.width
    for place, top in _PEAKS:
        peak = stage.horizon + 4 - top
        away = np.abs(np.mod(grid.x - place * grid.width - shift + period / 2, period) - period / 2)
        line = peak + away * 1.05
        paint(f_THWC, below(grid, line), shade(ROCK, stage.dim))
        snow = below(grid, line) * (1 - below(grid, peak + 7 + 1.5 * np.cos(away * 0.9)))
        paint(f_THWC, snow, shade((0.97, 0.98, 1.0), max(stage.dim, 0.6)))
    paint(f_THWC, below(grid, stage.horizon + 5 + 0 * grid.x), shade((0.42, 0.66, 0.36), stage.dim))


def _river(stage: _Stage, f_THWC: Array) -> None:
    """Hills, and a river that winds and widens towards the viewer, with ripples that run down it."""
    _hills(stage, f_THWC)
    grid, bend = stage.grid, stage.chance.place(-1, 1, at=0.85)
    depth = np.clip((grid.y - stage.horizon - 4) / (grid.height - stage.horizon - 4), 0, 1)
    middle = grid.width * 0.5 + 12 * bend * np.sin(_TAU * depth * 0.7)
    water = ramp(np.asarray(1.5 + 17 * depth - np.abs(grid.x - middle), np.float32)) * (depth > 0)
    ripple = 0.5 + 0.5 * np.sin(_TAU * (np.sqrt(depth) * 3.0 - grid.t / stage.chance.period(2.0)))
    deep = np.asarray(shade((0.20, 0.52, 0.82), stage.dim), np.float32)
    bright = np.asarray(shade((0.55, 0.80, 0.96), stage.dim), np.float32)
    colour = deep + ripple[..., None].astype(np.float32) * (bright - deep)
    paint(f_THWC, np.asarray(water, np.float32), colour)


def _vapour(stage: _Stage, f_THWC: Array) -> None:
    """White wisps that sway, rise from the water and fade below the clouds."""
    grid, phase = stage.grid, stage.chance.phase(0, 1)
    start, stop = stage.horizon + 10, stage.horizon * 0.3
    sways, rise = 1 / stage.chance.period(1 / 0.35), 20 / stage.chance.period(2.0)
    for column in range(4):
        middle = grid.width * (0.2 + 0.2 * column)
        sway = 2.5 * np.sin(_TAU * (grid.y / 24 + grid.t * sways + column * 0.3 + phase))
        body = np.exp(-(((grid.x - middle - sway) / 3.0) ** 2))
        puffs = 0.55 + 0.45 * np.sin(_TAU * ((grid.y + rise * grid.t) / 20 + column * 0.37 + phase))
        height = np.clip((grid.y - stop) / 14, 0, 1) * np.clip((start - grid.y) / 6, 0, 1)
        paint(f_THWC, np.asarray(0.85 * body * puffs * height, np.float32), (0.97, 0.98, 1.0))


def _rain(stage: _Stage, f_THWC: Array) -> None:
    """Rows of fat drops on a slanted lattice, falling 1.5 pixels a frame."""
    grid, phase = stage.grid, stage.chance.phase(0, 16)
    column, fall = np.floor(grid.x / 8), 16 / stage.chance.period(16 / 12)
    down = np.mod(grid.y - fall * grid.t + 7.0 * column + phase, 16) - 8
    across = np.mod(grid.x, 8) - 4
    drop = ramp(np.asarray((1 - np.hypot(across / 1.5, down / 4.0)) * 1.5, np.float32))
    reach = np.clip((grid.y - stage.horizon * 0.4) / 3, 0, 1)
    landing = np.clip((stage.horizon + 16 - grid.y) / 6, 0, 1)
    paint(f_THWC, np.asarray(0.9 * drop * reach * landing, np.float32), (0.70, 0.87, 1.0))


def _clouds(stage: _Stage, f_THWC: Array) -> None:
    """Two flat-bottomed clouds, larger and lower in rain, which drift around the frame, form or stay.

    In a composed scene, those that drift follow each other at one height, so that each stands after a period
    where the one before it stood.
    """
    grid, chance, scene = stage.sky, stage.chance, stage.scene
    way = {"left": -1, "right": 1}.get(scene.cloud_motion, 0)
    span = grid.width + 40.0
    n, step_down = (round(span / 45), 0.0) if way and chance.composed else (2, 0.14)
    speed = way * span / n / chance.period(span / n / _DRIFT)
    # clouds that stay leave room for sun or moon between them
    first = chance.place(0, 1, at=0.5 / n) * span if way else stage.light_x + 20 + span / 4
    size: Array | float = 1.25 if scene.weather == "rain" else 1.0
    if scene.cloud_motion == "appear":
        size = np.clip((grid.t - chance.phase(-0.5, 0.5)) / 3.0, 0.0, 1.0).astype(np.float32)
    for i in range(n):
        x = np.mod(first + i * span / n + speed * grid.t, span) - 20
        y = stage.horizon * (0.26 + step_down * i)
        tone = shade(CLOUDS[scene.cloud], DUSK if scene.light == "moon" else 1.0)
        paint(f_THWC, _cloud(grid, x, y, size), tone)


def _cloud(grid: Grid, x: Array, y: float, size: Array | float) -> Array:
    """Three bumps over a flat base; size 0 is no cloud."""
    grown = np.maximum(size, np.float32(0.02))
    mask = ellipse(grid, x, y + 2.0 * grown, 15.0 * grown, 5.0 * grown)
    for dx, dy, radius in ((-6.0, 0.0, 5.5), (1.0, -3.0, 7.0), (8.0, 0.0, 4.5)):
        mask = np.maximum(mask, disc(grid, x + dx * grown, y + dy * grown, radius * grown))
    return np.asarray(mask * np.clip(np.asarray(size) * 4, 0, 1), np.float32)


def shade(colour: Colour, dim: float) -> Colour:
    """The colour in dim light, which takes least from its blue."""
    return (colour[0] * dim, colour[1] * dim, colour[2] * min(1.0, dim * 1.1))


_LANDS: dict[str, Callable[[_Stage, Array], None]] = {
    "sea": _sea, "hills": _hills, "mountains": _mountains, "river": _river,
}  # fmt: skip
