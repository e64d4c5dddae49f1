"""The land: sea, river, hills or mountains.

Decides by colour alone: blue, green, and rock at the horizon. Does not decide how it moves: `camera` does.
"""

from __future__ import annotations

import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.pixels import Array, distance
from engine.chalk.oracle.view import View

_BLUE, _GREEN = 0.06, -0.04  # blue less green, as a share of both


def land_of(view: View) -> str:
    """One of scenes.LANDS; "" where there is little blue or green below the horizon."""
    usual = np.percentile(_blueness(view), 30, axis=0)  # without drops that pass
    blue, green = float((usual > _BLUE).mean()), float((usual < _GREEN).mean())
    if blue > 0.7:
        return "sea"
    if green < 0.3:
        return ""
    return "river" if blue > 0.06 else "mountains" if _rock(view) > 0.25 else "hills"


def _blueness(view: View) -> Array:
    """Blue less green, as a share of both, of the land's lower part (T/2, rows, W)."""
    part = view.f_THWC[::2, int(view.horizon + 8) :]
    green, blue = part[..., 1], part[..., 2]
    return np.asarray((blue - green) / (blue + green + 0.02))


def _rock(view: View) -> float:
    """The share of columns that show rock at the horizon."""
    rock = palette.shade(palette.ROCK, palette.DIM.get(view.mood, 1.0))
    rows = slice(int(view.horizon - 10), int(view.horizon + 3))
    from_rock = distance(view.f_THWC[::2, rows], rock)
    seen = (from_rock < 0.12) & (from_rock < view.from_sky[::2, rows])
    return float((seen.sum(axis=1) >= 3).mean())
