"""Figures: one thing in front of a plain day or night, with one colour and one motion.

Shapes: a clip is float32 f_THWC in [0, 1]; places are (T, 1, 1) in pixels. Decides what a figure looks like
and how it moves. Does not decide which figures there are: `scenes` does.

What travels leaves the frame on one side and comes back on the other, what swings or turns never stops, and
what grows stays grown: each is then the same in a clip and in a shot of any length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.chalk.brush import Array, Colour, Grid, below, disc, ellipse, glow, paint, ramp
from engine.chalk.chance import Chance
from engine.chalk.landscape import MOON, STARS
from engine.chalk.scenes import Figure

_TAU = np.float32(2 * np.pi)
COLOURS: dict[str, Colour] = {
    "red": (0.89, 0.16, 0.18), "orange": (0.97, 0.48, 0.08), "yellow": (0.99, 0.87, 0.20),
    "green": (0.18, 0.68, 0.30), "blue": (0.16, 0.44, 0.92), "purple": (0.60, 0.25, 0.76),
}  # fmt: skip
DAY, NIGHT = (0.95, 0.94, 0.90), (0.06, 0.08, 0.22)
_WOOD, SOIL, FLOOR = (0.50, 0.34, 0.22), (0.45, 0.30, 0.20), (0.62, 0.60, 0.58)
DUSK = 0.5  # brightness of ground and beam at night
_GROUND_PX = 10.0  # of floor and soil, above the lower edge
_SPEED = 6.0  # pixels a second of what travels
_RADIUS = 12.0


def draw_figure(grid: Grid, chance: Chance, figure: Figure) -> Array:
    """The figure as f_THWC, its place and phase by chance."""
    f_THWC = np.empty((len(grid.t), grid.height, grid.width, 3), np.float32)
    f_THWC[:] = NIGHT if figure.night else DAY
    if figure.night:
        for left, top in STARS:
            paint(f_THWC, disc(grid, left * grid.width, top * grid.height, 1.0), (0.95, 0.95, 0.80))
    _DRAW[figure.kind](grid, chance, figure, f_THWC)
    return f_THWC


def _form(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A flat form that travels, changes its size, or comes and goes."""
    x, y = (_place(grid, chance, figure.motion, along) for along in (True, False))
    radius: Array = np.full_like(grid.t, _RADIUS)
    if figure.motion in ("grow", "shrink"):
        gone = grid.t + chance.phase(0, 1)
        radius = np.clip(7 + 2.2 * gone if figure.motion == "grow" else 19 - 2.2 * gone, 5, 20)
    mask = _MASKS[figure.kind](grid, x, y, np.asarray(radius, np.float32))
    if figure.motion in ("appear", "fade"):
        gone = np.clip((grid.t - chance.phase(0.1, 0.9)) / 1.5, 0, 1)
        mask = np.asarray(mask * (gone if figure.motion == "appear" else 1 - gone), np.float32)
    paint(f_THWC, mask, COLOURS[figure.colour])


def _place(grid: Grid, chance: Chance, motion: str, along: bool) -> Array:
    """One coordinate (T, 1, 1): travelling over the middle of the frame and round its edges, or at rest."""
    side = grid.width if along else grid.height
    sign = {"left": -1, "right": 1}.get(motion, 0) if along else {"up": -1, "down": 1}.get(motion, 0)
    aside = chance.place(-1, 1)
    if not sign:
        return np.full_like(grid.t, side * 0.5 + aside * 0.1 * (side - 2 * _RADIUS))
    start = side * 0.5 - sign * (16 + 5 * aside)
    margin = _RADIUS + 4
    return np.asarray(np.mod(start + sign * _SPEED * grid.t + margin, side + 2 * margin) - margin, np.float32)


def _square(grid: Grid, x: Array, y: Array, radius: Array) -> Array:
    return ramp(np.asarray(0.85 * radius - np.maximum(np.abs(grid.x - x), np.abs(grid.y - y)), np.float32))


def _triangle(grid: Grid, x: Array, y: Array, radius: Array) -> Array:
    side = 0.866 * np.abs(grid.x - x) - 0.5 * (grid.y - y)
    return ramp(np.asarray(0.62 * radius - np.maximum(side, grid.y - y - 0.1 * radius), np.float32))


def _ball(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A ball that bounces on a floor, in parabolas."""
    floor = grid.height - _GROUND_PX
    paint(f_THWC, below(grid, floor + 0 * grid.x), _dusk(FLOOR, figure.night))
    x = grid.width * (0.5 + chance.place(-0.12, 0.12))
    gone = np.mod(grid.t / chance.period(2.25) + chance.phase(0, 1), 1)
    y = floor - 9 - 4 * gone * (1 - gone) * 26
    colour = np.asarray(COLOURS[figure.colour], np.float32)
    paint(f_THWC, disc(grid, x, y, 9.0), COLOURS[figure.colour])
    paint(f_THWC, 0.7 * disc(grid, x - 3, y - 3, 2.5), tuple(0.4 * colour + 0.6))


def _pendulum(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A bob on a rod below a beam, swinging 33 degrees to each side in 4.5 s."""
    top = 5.0
    paint(f_THWC, 1 - below(grid, top + 0 * grid.x), _dusk(_WOOD, figure.night))
    angle = 0.58 * np.sin(_TAU * (grid.t / chance.period(4.5) + chance.phase(0, 1)))
    pivot = grid.width * (0.5 + chance.place(-0.05, 0.05))
    right, down = np.sin(angle), np.cos(angle)
    along = (grid.x - pivot) * right + (grid.y - top) * down
    across = np.abs((grid.x - pivot) * down - (grid.y - top) * right)
    rod = ramp(1.3 - across) * ramp(np.minimum(along, 38 - along))
    paint(f_THWC, np.asarray(rod, np.float32), (0.62, 0.62, 0.66) if figure.night else (0.35, 0.35, 0.38))
    paint(f_THWC, disc(grid, pivot + 38 * right, top + 38 * down, 9.0), COLOURS[figure.colour])


def _gears(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """Two wheels of eight teeth that mesh and turn against each other, 30 degrees a second."""
    turn = grid.t * 30 / 360 + chance.phase(0, 1) / 8
    x, y = grid.width * 0.5, grid.height * 0.5
    for side, phase in ((-1, turn), (1, 1 / 16 - turn)):
        dx, dy = grid.x - (x + side * 13.5), grid.y - (y + side * 4)
        angle, away = np.arctan2(dy, dx) / _TAU, np.hypot(dx, dy)
        teeth = np.clip(2.5 * np.cos(_TAU * 8 * (angle - phase)), -1, 1)
        wheel = ramp(np.asarray(12.5 + 2.2 * teeth - away, np.float32))
        paint(f_THWC, wheel * (1 - ramp(np.asarray(4.0 - away, np.float32))), COLOURS[figure.colour])


def _heart(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A heart that swells by a quarter and falls back, once in 1.25 s."""
    beat = np.mod(grid.t / chance.period(1.25) + chance.phase(0, 1), 1)
    size = 13.0 * (0.92 + 0.25 * np.exp(-(((beat - 0.3) / 0.16) ** 2)))
    x = (grid.x - grid.width * (0.5 + chance.place(-0.08, 0.08))) / size
    y = (grid.height * 0.53 - grid.y) / size
    u = np.abs(x)
    lobes = np.hypot(u - 0.52, y - 0.42) - 0.56
    tip = np.maximum(0.80 * u - 0.60 * y - 0.724, y - 0.084)  # the lines that touch the lobes
    heart = np.minimum(np.minimum(lobes, tip), np.maximum(u - 0.52, np.abs(y - 0.25) - 0.22))
    inside = -heart * size
    paint(f_THWC, ramp(np.asarray(inside, np.float32)), COLOURS[figure.colour])


def _planet(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A planet on its orbit around a sun, once in 6 s, in front of it and behind it."""
    x, y = grid.width * 0.5, grid.height * 0.5
    rx, ry = min(29.0, grid.width * 0.37), 17.0
    ring = np.abs(np.hypot((grid.x - x) / rx, (grid.y - y) / ry) - 1) * ry
    paint(f_THWC, 0.45 * ramp(np.asarray(0.4 - ring, np.float32)), (0.70, 0.75, 0.90))
    paint(f_THWC, 0.5 * glow(grid, x, y, 12), (1.0, 0.80, 0.35))
    paint(f_THWC, disc(grid, x, y, 7.5), (1.0, 0.88, 0.45))
    angle = _TAU * (grid.t / chance.period(6.0) + chance.phase(0, 1))
    paint(f_THWC, disc(grid, x + rx * np.cos(angle), y + ry * np.sin(angle), 6.5), COLOURS[figure.colour])


def _moon(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """The moon's disc, lit from new to full or from full to new in 6 s."""
    x, y, radius = grid.width * 0.5, grid.height * 0.5, 18.0
    gone = np.clip((grid.t + chance.phase(0, 1)) / 6.5, 0.04, 1)
    lit = gone if figure.motion == "wax" else 1.04 - gone
    dx, dy = grid.x - x, grid.y - y
    half = np.sqrt(np.clip(radius**2 - dy**2, 0, None))
    edge = half * (1 - 2 * lit)  # the terminator, an ellipse: right of it there is light
    body = disc(grid, x, y, radius)
    paint(f_THWC, body, (0.20, 0.21, 0.30))
    paint(f_THWC, body * ramp(np.asarray(dx - edge, np.float32)), MOON)


def _plant(grid: Grid, chance: Chance, figure: Figure, f_THWC: Array) -> None:
    """A stem with leaves that grows from the soil and carries its flower up."""
    ground = grid.height - _GROUND_PX
    paint(f_THWC, below(grid, ground + 0 * grid.x), _dusk(SOIL, figure.night))
    x = grid.width * (0.5 + chance.place(-0.1, 0.1))
    grown = np.clip(0.25 + (grid.t + chance.phase(0, 0.8)) / 6.0, 0.25, 1)
    tip = ground - 36 * grown
    stem = ramp(1.8 - np.abs(grid.x - x)) * below(grid, tip) * (1 - below(grid, ground + 0 * grid.x))
    paint(f_THWC, np.asarray(stem, np.float32), (0.20, 0.55, 0.22))
    for share, side in ((0.25, -1), (0.45, 1), (0.65, -1)):
        leaf = np.clip((grown - share) * 4, 0.001, 1)
        mask = ellipse(grid, x + side * 6.0 * leaf, ground - 36 * share + 0 * grown, 6.0 * leaf, 3.0 * leaf)
        paint(f_THWC, np.asarray(mask * np.minimum(leaf * 4, 1), np.float32), (0.30, 0.68, 0.28))
    bloom = 4.5 + 4.0 * grown
    paint(f_THWC, disc(grid, x, tip, bloom), COLOURS[figure.colour])
    paint(f_THWC, disc(grid, x, tip, bloom * 0.35), (0.40, 0.26, 0.14))


def _dusk(colour: Colour, night: bool) -> Colour:
    share = DUSK if night else 1.0
    return (colour[0] * share, colour[1] * share, colour[2] * share)


_MASKS: dict[str, Callable[[Grid, Array, Array, Array], Array]] = {
    "circle": disc, "square": _square, "triangle": _triangle,
}  # fmt: skip
_DRAW: dict[str, Callable[[Grid, Chance, Figure, Array], None]] = {
    **dict.fromkeys(_MASKS, _form),
    "ball": _ball, "pendulum": _pendulum, "gears": _gears, "heart": _heart,
    "planet": _planet, "moon": _moon, "plant": _plant,
}  # fmt: skip
