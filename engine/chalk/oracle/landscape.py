"""What stands over a land, and on it: the sky's mood, sun or moon, clouds, the land itself.

Shapes: f_THWC as in `pixels`, of a camera that stands still (`camera.steadied`); known_THW says where such a
camera's picture is known. Decides what is there and how sun and clouds move. Does not decide rain or vapour:
`weather` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.camera import drift
from engine.chalk.oracle.pixels import Array, Colour, Mask, distance, opened, slope

_SUN_RATE = 0.22  # pixels a frame above which a sun rises or sets
_SUN_PX, _MOON_PX = 17, 15  # across
_TONES = ("white", "grey")


@dataclass(frozen=True)
class View:
    """A landscape seen by a camera that stands still."""

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
        return mood_of(self)

    @property
    def night(self) -> bool:
        """Whether the moon's sky is over the land."""
        return self.mood == "moon"

    @cached_property
    def from_sky(self) -> Array:
        """Distance (T, H, W) of every pixel from the nearest of the colours of its mood's sky."""
        return _from_line(self.f_THWC, *palette.SKY[self.mood])

    @cached_property
    def disc(self) -> tuple[Array, Array]:
        """Row and visible area of sun or moon in every second frame."""
        return disc_of(self)

    @cached_property
    def clouds(self) -> dict[str, Mask]:
        """Where white and where grey clouds are seen."""
        return {tone: clouds_of(self, tone) for tone in _TONES}


def mood_of(view: View) -> str:
    """The mood whose gradient is near to most of the upper sky."""
    rows = np.arange(2, int(view.horizon * 0.75), 2)
    f_TRWC, known = view.f_THWC[::4, rows, ::2], view.known[::4, rows, ::2]
    votes = {}
    for mood in palette.SKY:
        from_mood = distance(f_TRWC, _gradient(mood, (rows + 0.5) / view.horizon)[:, None])
        votes[mood] = float((1 / (1 + (from_mood / 0.1) ** 2))[known].mean())
    return max(votes, key=lambda mood: votes[mood])


def sky_of_rows(view: View, rows: Array) -> Array:
    """The colours (n, 3) that the sky of this mood has at these rows."""
    return _gradient(view.mood, (rows + 0.5) / view.horizon)


def _gradient(mood: str, share: Array) -> Array:
    """The colours (n, 3) of a sky from its top, at share 0, to its lower edge, at share 1."""
    top, bottom = (np.asarray(colour, np.float32) for colour in palette.SKY[mood])
    return np.asarray(top + np.clip(share, 0, 1)[:, None] * (bottom - top), np.float32)


def _from_line(f_THWC: Array, one: Colour | Array, other: Colour | Array) -> Array:
    """Distance of every pixel from the nearest mixture of two colours."""
    start = np.asarray(one, np.float32)
    way = np.asarray(other, np.float32) - start
    length = np.einsum("...c,...c->...", way, way)
    share = np.clip(np.einsum("...c,...c->...", f_THWC - start, way) / length, 0, 1)
    return distance(f_THWC, start + share[..., None] * way)


def disc_of(view: View) -> tuple[Array, Array]:
    """The row of the middle of sun or moon in every second frame, and how much of it is seen, in pixels.

    The best place of a round window over pixels that speak for it (of its colour) and against it (of the
    sky's); clouds, land and what is unknown say nothing, so a disc half hidden is found where it is.
    """
    votes_THW = _disc_votes(view)
    size = _MOON_PX if view.night else _SUN_PX
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)
    found = np.stack([cv2.filter2D(v_HW, -1, window, borderType=cv2.BORDER_CONSTANT) for v_HW in votes_THW])
    column = int(np.argmax(found.max(axis=1).sum(axis=0)))
    near = found[:, :, max(0, column - 3) : column + 4].max(axis=2)
    return np.argmax(near, axis=1) + 0.5, near.max(axis=1)


def _disc_votes(view: View) -> Array:
    """1 for the colour of sun or moon, -1 for sky and glow, 0 for what may hide it (T/2, rows, W)."""
    rows = slice(0, int(view.horizon + 4))
    f_TRWC, sky = view.f_THWC[::2, rows], sky_of_rows(view, np.arange(float(rows.stop)))[:, None]
    tint = np.asarray(_tint(view), np.float32)
    from_disc, from_sky = distance(f_TRWC, tint), distance(f_TRWC, sky)
    votes = np.where(_from_line(f_TRWC, sky, tint) < 0.12, -1, 0).astype(np.float32)
    for tone in _TONES:
        cloudy = distance(f_TRWC, cloud_colour(view, tone))
        votes[(cloudy < 0.2) & (cloudy < from_disc) & (cloudy < from_sky)] = 0
    votes[opened((from_disc < 0.3) & (from_sky > 1.6 * from_disc))] = 1
    votes[~view.known[::2, rows]] = 0
    votes[:, int(view.horizon - 2) :] = 0
    return votes


def _tint(view: View) -> Colour:
    """The colour of sun or moon in a sky of this mood."""
    return palette.MOON if view.night else palette.LOW_SUN if view.mood == "setting" else palette.SUN


def has_disc(view: View) -> bool:
    """Whether sun or moon is seen."""
    return float(np.percentile(view.disc[1], 90)) > 20


def disc_motion(view: View) -> str:
    """ "rising", "setting" or "still"; "" where there is none."""
    row, seen = view.disc
    rate = slope(np.where(seen > 20, row, np.nan)) / 2
    if not has_disc(view):
        return ""
    return "still" if abs(rate) < _SUN_RATE else "setting" if rate > 0 else "rising"


def cloud_colour(view: View, tone: str) -> Colour:
    """The colour of white or of grey clouds by day or by night."""
    shade = palette.CLOUDS_AT_NIGHT if view.night else 1.0
    red, green, blue = palette.CLOUDS[tone]
    return red * shade, green * shade, blue * min(1.0, shade * 1.1)


def clouds_of(view: View, tone: str) -> Mask:
    """Pixels nearer to this tone of cloud than to the sky, in the rows of clouds."""
    from_cloud = distance(view.f_THWC, cloud_colour(view, tone))
    near = (from_cloud < (0.15 if view.night else 0.2)) & (from_cloud < view.from_sky) & view.known
    near[:, int(view.height * 0.37) :] = False
    return opened(near, 5 if view.night else 4)  # the moon's glow is like a thin cloud


def cloud_tone(view: View) -> str:
    """ "white", "grey" or "" where there is no cloud."""
    area = {tone: float(np.percentile(mask.sum(axis=(1, 2)), 95)) for tone, mask in view.clouds.items()}
    most = max(area, key=lambda tone: area[tone])
    return most if area[most] > 30 else ""


def cloud_motion(view: View, tone: str) -> str:
    """ "left", "right", "appear" or "still"; "" where there is no cloud."""
    if not tone:
        return ""
    mask = view.clouds[tone]
    shift = drift(mask[:, : int(view.height * 0.4), :, None].astype(np.float32))
    if abs(shift) >= 3:
        return "right" if shift > 0 else "left"
    return "appear" if _share_at_first(mask, view.known) < 0.35 else "still"


def _share_at_first(mask: Mask, known: Mask) -> float:
    """How much of what the last frames show of the clouds the first frames show, where both can be seen."""
    n = min(8, len(mask) // 4)
    both = known[:n] & known[-1]
    last = float((mask[-1] & both).sum())
    return float((mask[:n] & both).sum()) / last if last > 20 * n else 1.0


def land_of(view: View) -> str:
    """ "sea", "river", "mountains" or "hills"; "" where below the horizon is neither blue nor green."""
    lower = np.percentile(_blueness(view), 30, axis=0)
    blue = float((lower > 0.06).mean())
    if blue > 0.7:
        return "sea"
    if float((lower < -0.04).mean()) < 0.3:
        return ""
    return "river" if blue > 0.06 else "mountains" if _rock(view) > 0.25 else "hills"


def _blueness(view: View) -> Array:
    """Blue less green, as a share of both, of the land's lower part (T/2, rows, W)."""
    start = int(view.horizon + 8)
    part = view.f_THWC[::2, start:]
    green, blue = part[..., 1], part[..., 2]
    return np.asarray((blue - green) / (blue + green + 0.02))


def _rock(view: View) -> float:
    """The share of columns that show rock at the horizon."""
    dim = palette.DIM.get(view.mood, 1.0)
    red, green, blue = palette.ROCK
    rows = slice(int(view.horizon - 10), int(view.horizon + 3))
    from_rock = distance(view.f_THWC[::2, rows], (red * dim, green * dim, blue * min(1.0, dim * 1.1)))
    rock = (from_rock < 0.12) & (from_rock < view.from_sky[::2, rows])
    return float((rock.sum(axis=1) >= 3).mean())
