"""Anti-aliased marks on a whole clip at once.

f_THWC is a float32 clip in [0, 1]; a mask broadcasts to (T, H, W) and says how much of a pixel a mark covers.
Edges are ramps of the signed distance, one pixel wide, so nothing is drawn larger and shrunk. Decides how a
form covers pixels. Does not decide what is drawn: `engine.chalk.teacher` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float32, or float64 on the way to a mask
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Coordinates of a clip in pixels and seconds, shaped to broadcast as (T, H, W)."""

    t: Array  # (T, 1, 1)
    y: Array  # (1, H, 1)
    x: Array  # (1, 1, W)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.y.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.x.shape[2])


def make_grid(n_frames: int, height: int, width: int, fps: float) -> Grid:
    """Pixel centres and frame times from 0."""
    return Grid(
        (np.arange(n_frames, dtype=np.float32) / np.float32(fps))[:, None, None],
        np.arange(height, dtype=np.float32)[None, :, None] + np.float32(0.5),
        np.arange(width, dtype=np.float32)[None, None, :] + np.float32(0.5),
    )


def ramp(inside: Array) -> Array:
    """Coverage of a signed distance in pixels, positive inside."""
    return np.asarray(np.clip(inside + 0.5, 0, 1), np.float32)


def disc(grid: Grid, x: Array | float, y: Array | float, radius: Array | float) -> Array:
    """A circle's mask; centre and radius may change over time as (T, 1, 1)."""
    return ramp(np.asarray(radius - np.hypot(grid.x - x, grid.y - y), np.float32))


def ellipse(grid: Grid, x: Array | float, y: Array | float, rx: Array | float, ry: Array | float) -> Array:
    """An upright ellipse's mask, exact at its axes."""
    norm = np.hypot((grid.x - x) / rx, (grid.y - y) / ry)
    return ramp(np.asarray((1 - norm) * np.minimum(rx, ry), np.float32))


def glow(grid: Grid, x: Array | float, y: Array | float, reach: float) -> Array:
    """A soft spot that falls to 1/e at reach pixels."""
    return np.exp(-((grid.x - x) ** 2 + (grid.y - y) ** 2) / np.float32(reach**2)).astype(np.float32)


def below(grid: Grid, line: Array) -> Array:
    """What lies under a line y(t, x)."""
    return ramp(np.asarray(grid.y - line, np.float32))


def paint(f_THWC: Array, mask: Array, colour: Colour | Array) -> None:
    """Lay the colour over the clip in place where the mask is; a colour may be an array (T, H, W, 3)."""
    shade = np.asarray(colour, np.float32)
    f_THWC += mask[..., None] * (shade - f_THWC)


def gradient(grid: Grid, top: Colour, bottom: Colour, start: float, stop: float) -> Array:
    """Colours (1, H, 1, 3) from top at row start to bottom at row stop."""
    share = np.clip((grid.y - start) / (stop - start), 0, 1)[..., None]
    blend = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
    return np.asarray(blend, np.float32)
