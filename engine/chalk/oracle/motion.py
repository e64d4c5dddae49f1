"""How a figure moves: one of its kind's motions, or none.

Shapes: series are (T,), NaN where nothing is seen; a share a_THW is 0 on the backdrop and 1 on the figure.
Decides the motion from trends of place, size and strength. Does not decide what the figure is: `figure` does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.chalk.oracle.figure import Plain, lit, own_part
from engine.chalk.oracle.pixels import Array, Mask, centres, reach, slope, straightness

_TRAVEL = 0.3  # pixels a frame
_TO_AND_FRO = 0.94  # straightness above which a way is one way
_TEETH = 8


def motion_of(clip: Plain, kind: str) -> str:
    """What a figure of this kind does; "" where it does nothing that it should."""
    read = _READ.get(kind, _form)
    return read(clip) if kind else ""


def _share(clip: Plain) -> Array:
    """How much of a pixel (T, H, W) is of the figure's colour, however faint."""
    colour = np.median(clip.f_THWC[clip.best][clip.coloured[clip.best]], axis=0)
    way = colour - clip.backdrop
    from_backdrop = clip.f_THWC - clip.backdrop
    share = np.asarray(from_backdrop @ way / float(way @ way), np.float32)
    off = np.sqrt(np.maximum(clip.apart**2 - share**2 * float(way @ way), 0))
    share[(off > 0.2) | (share < 0.12)] = 0
    return np.minimum(share, 1)


def _form(clip: Plain) -> str:
    """Comes or goes, else travels, else grows or shrinks."""
    share = _share(clip)
    x, y, area = centres(np.where(share > 0.3, share, 0))
    strength = _strength(share)
    ends = len(strength) // 6 + 1
    first, last = strength[:ends].mean(), strength[-ends:].mean()
    if min(first, last) < 0.55 * max(first, last):
        return "appear" if last > first else "fade"
    across, down = slope(x), slope(y)
    if max(abs(across), abs(down)) > _TRAVEL:
        return _direction(across, down)
    growth = float(np.log((area[-ends:].mean() + 1) / (area[:ends].mean() + 1)))
    return "" if abs(growth) < 0.35 else "grow" if growth > 0 else "shrink"


def _strength(share_THW: Array) -> Array:
    """How solid the figure is in every frame: of the pixels that ever hold it, the strongest fifty."""
    most = np.partition(share_THW.reshape(len(share_THW), -1), -50, axis=1)[:, -50:]
    return np.asarray(most.mean(axis=1))


def _direction(across: float, down: float) -> str:
    if abs(across) > abs(down):
        return "right" if across > 0 else "left"
    return "down" if down > 0 else "up"


def _ball(clip: Plain) -> str:
    _, y, _ = centres(clip.coloured)
    return "bounce" if reach(y) > 8 and straightness(y) < _TO_AND_FRO else ""


def _pendulum(clip: Plain) -> str:
    x, _, _ = centres(clip.coloured)
    return "swing" if reach(x) > 12 and straightness(x) < _TO_AND_FRO else ""


def _heart(clip: Plain) -> str:
    """Swells and falls back, rather than growing for good."""
    area = clip.coloured.sum(axis=(1, 2)).astype(float)
    sizes = np.sqrt(np.maximum(area, 1))
    return "beat" if reach(np.log(sizes)) > 0.08 and straightness(sizes) < 0.5 else ""


def _gears(clip: Plain) -> str:
    """Both wheels turn: the pattern of their teeth goes round."""
    x, _, _ = centres(clip.coloured)
    middle = float(np.nanmedian(x))
    columns = np.arange(clip.coloured.shape[2]) + 0.5
    turns = [_turning(clip, columns < middle), _turning(clip, columns >= middle)]
    return "turn" if min(abs(turn) for turn in turns) > 1.2 else ""


def _turning(clip: Plain, half_W: Mask) -> float:
    """Degrees a frame by which the teeth of one wheel turn."""
    colour = clip.coloured & half_W
    x, y, _ = centres(colour)
    height, width = colour.shape[1:]
    dx = np.arange(width) + 0.5 - float(np.nanmedian(x))
    dy = (np.arange(height) + 0.5 - float(np.nanmedian(y)))[:, None]
    away = np.hypot(dx, dy)
    teeth = np.exp(1j * _TEETH * np.arctan2(dy, dx)) * ((away > 9.5) & (away < 16))
    depth = np.minimum(clip.apart, 0.8) * half_W
    pattern = np.tensordot(depth, teeth, axes=2)
    return float(np.degrees(np.median(np.angle(pattern[1:] * np.conj(pattern[:-1]))))) / _TEETH


def _planet(clip: Plain) -> str:
    """Goes round the middle, always the same way."""
    _, height, width = clip.coloured.shape
    x, y, area = centres(clip.coloured & own_part(clip.coloured, "planet"))
    seen = area > 8
    if seen.mean() < 0.5:
        return ""
    across, down = x[seen] - width / 2, y[seen] - height / 2
    way = np.unwrap(np.arctan2(down * 1.6, across))  # an orbit seen aslant
    return "orbit" if abs(way[-1] - way[0]) > 0.8 and straightness(way) > 0.8 else ""


def _moon(clip: Plain) -> str:
    """Its lit part grows or shrinks."""
    area = lit(clip).sum(axis=(1, 2)).astype(float)
    ends = len(area) // 6 + 1
    change = (area[-ends:].mean() - area[:ends].mean()) / max(area.max(), 1)
    return "" if abs(change) < 0.12 else "wax" if change > 0 else "wane"


def _plant(clip: Plain) -> str:
    """Its upper end climbs."""
    some = clip.coloured.any(axis=2)
    top = np.where(some.sum(axis=1) > 0, np.argmax(some, axis=1), np.nan)
    ends = len(top) // 6 + 1
    return "grow" if float(np.nanmean(top[:ends]) - np.nanmean(top[-ends:])) > 4 else ""


_READ: dict[str, Callable[[Plain], str]] = {
    "ball": _ball, "pendulum": _pendulum, "gears": _gears, "heart": _heart,
    "planet": _planet, "moon": _moon, "plant": _plant,
}  # fmt: skip
