"""A landscape before a camera that stands still, and its sky.

Shapes: f_THWC as in `pixels`; known (T, H, W) says where such a camera's picture is known. Decides whose
colours the sky has. Does not decide what stands in it: `disc`, `clouds` and `weather` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.pixels import Array, Colour, Mask, distance


@dataclass(frozen=True)
class View:
    """A landscape seen by a camera that stands still (`camera.steadied`)."""

    f_THWC: Array
    known: Mask

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.f_THWC.shape[1])

    @property
    def horizon(self) -> float:
        """The row where land begins."""
        return 0.6 * self.height

    @cached_property
    def mood(self) -> str:
        """Whose colours the sky has: "day", "rain", "rising", "setting" or "moon"."""
        return _mood(self)

    @property
    def night(self) -> bool:
        """Whether the moon's sky is over the land."""
        return self.mood == "moon"

    @cached_property
    def from_sky(self) -> Array:
        """Distance (T, H, W) of every pixel from the nearest of the colours of its mood's sky."""
        return from_line(self.f_THWC, *palette.SKY[self.mood])

    def sky_above(self, stop: int) -> Array:
        """The colours (stop, 1, 3) that the sky of this mood has in the rows above stop."""
        return _gradient(self.mood, (np.arange(stop) + 0.5) / self.horizon)


def _mood(view: View) -> str:
    """The mood whose gradient is near to most of the upper sky."""
    rows = np.arange(2, int(view.horizon * 0.75), 2)
    f_TRWC, known = view.f_THWC[::4, rows, ::2], view.known[::4, rows, ::2]
    votes = {}
    for mood in palette.SKY:
        from_mood = distance(f_TRWC, _gradient(mood, (rows + 0.5) / view.horizon))
        votes[mood] = float((1 / (1 + (from_mood / 0.1) ** 2))[known].mean())
    return max(votes, key=lambda mood: votes[mood])


def _gradient(mood: str, share: Array) -> Array:
    """The colours (n, 1, 3) of a sky from its top, at share 0, to its lower edge, at share 1."""
    top, bottom = (np.asarray(colour, np.float32) for colour in palette.SKY[mood])
    return np.asarray(top + np.clip(share, 0, 1)[:, None, None] * (bottom - top), np.float32)


def from_line(f_THWC: Array, one: Colour | Array, other: Colour | Array) -> Array:
    """Distance of every pixel from the nearest mixture of two colours."""
    start = np.asarray(one, np.float32)
    way = np.asarray(other, np.float32) - start
    length = np.einsum("...c,...c->...", way, way)
    share = np.clip(np.einsum("...c,...c->...", f_THWC - start, way) / length, 0, 1)
    return distance(f_THWC, start + share[..., None] * way)
