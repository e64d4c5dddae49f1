"""Sun or moon: whether there is one, and whether it climbs, sinks or stays.

Shapes: votes are (T/2, rows, W), of every second frame. Decides where the disc is, also where a cloud or the
land hides half of it. Does not decide which of the two it is: the sky's mood does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.clouds import cloud_colour
from engine.chalk.oracle.pixels import Array, Colour, distance, opened, slope
from engine.chalk.oracle.view import View, from_line

_SUN_PX, _MOON_PX = 17, 15  # across
_RING_PX = 8  # wider than the disc: no disc goes on there
_LEAST_PX = 20  # of a disc that is seen
_SECOND_PX = 60  # of another one beside it
_RATE = 0.22  # pixels a frame above which a sun rises or sets


@dataclass(frozen=True)
class Disc:
    """In every second frame: the row of its middle, the pixels of it that are seen, and those of a second."""

    row: Array
    seen: Array
    second: Array

    @property
    def count(self) -> int:
        """0, 1 or 2 for more."""
        if float(np.percentile(self.seen, 90)) <= _LEAST_PX:
            return 0
        return 2 if float(np.median(self.second)) > _SECOND_PX else 1

    @property
    def motion(self) -> str:
        """ "rising", "setting" or "still"; "" where there is none."""
        if not self.count:
            return ""
        rate = slope(np.where(self.seen > _LEAST_PX, self.row, np.nan)) / 2
        return "still" if abs(rate) < _RATE else "setting" if rate > 0 else "rising"


def find_disc(view: View) -> Disc:
    """The best place of a round window over the votes for and against, in the best columns of the clip.

    Clouds, land and what is unknown have no vote, so a disc half hidden is found where it is.
    """
    votes = _votes(view)
    size = _MOON_PX if view.night else _SUN_PX
    inside, around = _round(size), _round(size + _RING_PX)
    around -= np.pad(inside, _RING_PX // 2)
    found = _sums(votes, inside) - _sums(np.maximum(votes, 0), around)
    column = int(np.argmax(found.max(axis=1).sum(axis=0)))
    beside = np.abs(np.arange(found.shape[2]) - column)
    near, away = (found[:, :, columns].max(axis=2) for columns in (beside < 4, beside > size))
    return Disc(np.argmax(near, axis=1) + 0.5, near.max(axis=1), away.max(axis=1))


def _round(size: int) -> Array:
    """A disc of ones in a square of this size."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)


def _sums(votes_THW: Array, window: Array) -> Array:
    """The votes under the window about every pixel."""
    return np.stack([cv2.filter2D(v_HW, -1, window, borderType=cv2.BORDER_CONSTANT) for v_HW in votes_THW])


def _votes(view: View) -> Array:
    """1 for the colour of sun or moon, -1 for sky and glow, 0 for what may hide it."""
    stop = int(view.horizon + 4)
    f_TRWC, known, sky = view.f_THWC[::2, :stop], view.known[::2, :stop], view.sky_above(stop)
    tint = np.asarray(_tint(view), np.float32)
    from_disc, from_sky = distance(f_TRWC, tint), distance(f_TRWC, sky)
    votes = np.where(from_line(f_TRWC, sky, tint) < 0.12, -1, 0).astype(np.float32)
    for tone in palette.CLOUDS:
        cloudy = distance(f_TRWC, cloud_colour(view, tone))
        votes[(cloudy < 0.2) & (cloudy < from_disc) & (cloudy < from_sky)] = 0
    votes[opened((from_disc < 0.3) & (from_sky > 1.6 * from_disc))] = 1
    votes[~known] = 0
    votes[:, int(view.horizon - 2) :] = 0
    return votes


def _tint(view: View) -> Colour:
    """The colour of sun or moon in a sky of this mood."""
    return palette.MOON if view.night else palette.LOW_SUN if view.mood == "setting" else palette.SUN
