"""What stands over a land, and on it: the sky's mood, sun or moon, clouds, the land itself.

Shapes: f_THWC as in `pixels`, of a camera that stands still (`camera.steadied`); known_THW says where such a
camera's picture is known. Decides what is there and how sun and clouds move. Does not decide rain or vapour:
`weather` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.camera import drift
from engine.chalk.oracle.pixels import Array, Colour, Mask, centres, distance, opened

_SUN_RATE = 0.22  # pixels a frame above which a sun rises or sets
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
    def disc(self) -> Mask:
        """Where sun or moon is seen."""
        return disc_of(self)

    @cached_property
    def clouds(self) -> dict[str, Mask]:
        """Where white and where grey clouds are seen."""
        return {tone: clouds_of(self, tone) for tone in _TONES}


def mood_of(view: View) -> str:
    """The mood whose gradient most of the upper sky has."""
    rows = np.arange(2, int(view.horizon * 0.75), 2)
    f_TRWC, known = view.f_THWC[::4, rows, ::2], view.known[::4, rows, ::2]
    share = ((rows + 0.5) / view.horizon)[:, None, None].astype(np.float32)
    votes = {}
    for mood, (top, bottom) in palette.SKY.items():
        colours = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
        votes[mood] = float(np.exp(-((distance(f_TRWC, colours) / 0.1) ** 2))[known].mean())
    return max(votes, key=lambda mood: votes[mood])


def _from_line(f_THWC: Array, one: Colour, other: Colour) -> Array:
    """Distance of every pixel from the nearest mixture of two colours."""
    start = np.asarray(one, np.float32)
    way = np.asarray(other, np.float32) - start
    share = np.clip((f_THWC - start) @ (way / float(way @ way)), 0, 1)
    return distance(f_THWC, start + share[..., None] * way)


def disc_of(view: View) -> Mask:
    """Pixels much nearer to the colour of sun or moon than to the sky's, above the land."""
    tint = palette.MOON if view.night else palette.LOW_SUN if view.mood == "setting" else palette.SUN
    from_disc = distance(view.f_THWC, tint)
    near = (from_disc < 0.3) & (view.from_sky > 1.6 * from_disc) & view.known
    near[:, int(view.horizon - 2) :] = False
    return opened(near, 7 if view.night else 3)


def has_disc(view: View) -> bool:
    """Whether sun or moon is seen."""
    return float(np.percentile(view.disc.sum(axis=(1, 2)), 90)) > 40


def disc_motion(view: View) -> str:
    """ "rising", "setting" or "still"; "" where there is none."""
    _, y, area = centres(view.disc)
    seen = np.flatnonzero(area > 20)
    if len(seen) < 4:
        return ""
    rate = np.polyfit(seen, y[seen], 1)[0]
    return "still" if abs(rate) < _SUN_RATE else "setting" if rate > 0 else "rising"


def clouds_of(view: View, tone: str) -> Mask:
    """Pixels nearer to this tone of cloud than to the sky, in the rows of clouds."""
    shade = palette.CLOUDS_AT_NIGHT if view.night else 1.0
    red, green, blue = palette.CLOUDS[tone]
    from_cloud = distance(view.f_THWC, (red * shade, green * shade, blue * min(1.0, shade * 1.1)))
    near = (from_cloud < 0.17) & (from_cloud < view.from_sky) & view.known
    near[:, int(view.height * 0.37) :] = False
    return opened(near, 5)


def cloud_tone(view: View) -> str:
    """ "white", "grey" or "" where there is no cloud."""
    area = {tone: float(np.percentile(mask.sum(axis=(1, 2)), 90)) for tone, mask in view.clouds.items()}
    most = max(area, key=lambda tone: area[tone])
    return most if area[most] > 50 else ""


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
    n = len(mask) // 8 + 1
    both = known[:n].all(axis=0) & known[-n:].all(axis=0)
    last = float((mask[-n:] & both).sum())
    return float((mask[:n] & both).sum()) / last if last else 1.0


def land_of(view: View) -> str:
    """ "sea", "river", "mountains" or "hills"; "" where below the horizon is neither blue nor green."""
    lower = np.percentile(_blueness(view), 30, axis=0)
    blue = float((lower > 0.05).mean())
    if blue > 0.7:
        return "sea"
    if float((lower < -0.03).mean()) < 0.3:
        return ""
    return "river" if blue > 0.06 else "mountains" if _rock(view) > 0.25 else "hills"


def _blueness(view: View) -> Array:
    """Blue less green of the land's lower part (T, rows, W), NaN where unknown."""
    start = int(view.horizon + 8)
    part = view.f_THWC[::2, start:]
    return np.asarray(part[..., 2] - part[..., 1])


def _rock(view: View) -> float:
    """The share of columns that show rock at the horizon."""
    dim = palette.DIM.get(view.mood, 1.0)
    red, green, blue = palette.ROCK
    rows = slice(int(view.horizon - 10), int(view.horizon + 3))
    from_rock = distance(view.f_THWC[::2, rows], (red * dim, green * dim, blue * min(1.0, dim * 1.1)))
    rock = (from_rock < 0.12) & (from_rock < view.from_sky[::2, rows])
    return float((rock.sum(axis=1) >= 3).mean())
