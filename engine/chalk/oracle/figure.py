"""Which figure stands before a plain day or night, and of which colour.

Shapes: f_THWC as in `pixels`. Decides kind and colour from what surrounds a figure (floor, soil, beam, sun)
and from its outline. Does not decide how it moves: `motion` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.pixels import Array, Mask, blobs, chroma, distance, name_of, opened
from engine.chalk.scenes import Figure
from engine.chalk.teacher import draw

_APART, _CHROMA = 0.24, 0.21  # of a figure that is a third there
_GROUND_PX, _BEAM_PX = 12, 7
_OUTLINES = ("circle", "square", "triangle", "heart")
_SECTORS = 24
_ALIKE = 0.15


@dataclass(frozen=True)
class Plain:
    """A clip before a plain backdrop."""

    f_THWC: Array
    night: bool

    @cached_property
    def backdrop(self) -> Array:
        """Its colour (3,), as this clip has it."""
        f_NC = self.f_THWC[::2, 4:-14:3, ::3].reshape(-1, 3)
        return np.asarray(np.median(f_NC, axis=0), np.float32)

    @cached_property
    def apart(self) -> Array:
        """Distance of every pixel from the backdrop."""
        return distance(self.f_THWC, self.backdrop)

    @cached_property
    def ground(self) -> str:
        """ "floor", "soil" or ""."""
        from_backdrop = np.median(self.f_THWC[:, -7:-2].reshape(-1, 3), axis=0) - self.backdrop
        if float(np.linalg.norm(from_backdrop)) < 0.13:
            return ""
        # seen from the backdrop, so that a tint of the whole clip does not matter
        colour = from_backdrop + np.asarray(palette.NIGHT if self.night else palette.DAY)
        shade = palette.DUSK if self.night else 1.0
        apart = {name: distance(colour, np.asarray(known) * shade) for name, known in palette.GROUNDS.items()}
        return min(apart, key=lambda name: float(apart[name]))

    @cached_property
    def beam(self) -> bool:
        """Whether something lies along the upper edge."""
        colour = np.median(self.f_THWC[:, 1:4].reshape(-1, 3), axis=0)
        return float(np.linalg.norm(colour - self.backdrop)) > 0.13

    @cached_property
    def coloured(self) -> Mask:
        """Where something of a strong colour is, save ground and beam."""
        mask = (self.apart > _APART) & (chroma(self.f_THWC) > _CHROMA)
        if self.ground:
            mask[:, -_GROUND_PX:] = False
        if self.beam:
            mask[:, :_BEAM_PX] = False
        return opened(mask)

    @cached_property
    def best(self) -> list[int]:
        """The frames that show most of it: at most a third of them."""
        area = self.coloured.sum(axis=(1, 2))
        most = np.argsort(-area, kind="stable")[: max(1, len(area) // 3)]
        return [int(i) for i in most if 2 * area[i] > area.max()]


def plain(f_THWC: Array) -> Plain | None:
    """The clip as one before a plain backdrop; None for a landscape, whose sides differ from high to low."""
    height, width = f_THWC.shape[1:3]
    sides = np.r_[0 : width // 7, width - width // 7 : width]
    upper, lower = (
        np.median(f_THWC[::3, rows][:, :, sides].reshape(-1, 3), axis=0)
        for rows in (slice(_BEAM_PX, int(0.3 * height)), slice(int(0.65 * height), height - _GROUND_PX))
    )
    if float(np.linalg.norm(upper - lower)) > 0.12:
        return None
    for night, colour in ((False, palette.DAY), (True, palette.NIGHT)):
        if float(np.linalg.norm(lower - colour)) < 0.15:
            return Plain(f_THWC, night)
    return None


def kind_of(clip: Plain) -> str:
    """One of scenes.KINDS; "" where nothing known is seen."""
    if not clip.coloured.sum(axis=(1, 2)).max() > 20:
        return "moon" if clip.night and lit(clip).sum(axis=(1, 2)).max() > 20 else ""
    if clip.ground:
        return "plant" if clip.ground == "soil" else "ball"
    if clip.beam:
        return "pendulum"
    if _has_sun(clip):
        return "planet"
    return "gears" if _is_wide(clip) else outline_of(clip)


def lit(clip: Plain) -> Mask:
    """What is bright and without colour, larger than a star: a moon."""
    return opened((clip.f_THWC.mean(axis=-1) > 0.55) & (chroma(clip.f_THWC) < 0.3), 3)


def _has_sun(clip: Plain) -> bool:
    """Whether a sun stands in the middle with one thing apart from it."""
    _, height, width = clip.coloured.shape
    votes = []
    for i in clip.best:
        parts = blobs(clip.coloured[i])
        away = [np.hypot(x - width / 2, y - height / 2) for x, y, _ in parts]
        votes.append(len(parts) == 2 and min(away) < 6 and max(away) > 13)
    return bool(np.mean(votes) > 0.5)


def _is_wide(clip: Plain) -> bool:
    """Whether it is half as wide again as high, and open: two wheels."""
    ratios = []
    for i in clip.best:
        rows, columns = (np.flatnonzero(clip.coloured[i].any(axis=axis)) for axis in (1, 0))
        ratios.append((columns[-1] - columns[0] + 1) / (rows[-1] - rows[0] + 1))
    return float(np.median(ratios)) > 1.27


def outline_of(clip: Plain) -> str:
    """The form whose outline is nearest; "" where none is near."""
    profile = _profile(clip)
    apart = {kind: _unlike(profile, known) for kind, known in _known_outlines().items()}
    nearest = min(apart, key=lambda kind: apart[kind])
    return nearest if apart[nearest] < _ALIKE else ""


def _unlike(one: Array, other: Array) -> float:
    """How much two outlines differ in harmonics 1 and 3 to 7: not in the second, which a stretch changes."""
    waves = np.abs(np.fft.rfft(one - other))[:8] / len(one)
    return float(waves[1] + waves[3:].sum())


def _profile(clip: Plain) -> Array:
    """Distance of the edge from the centre in every direction (24,), 1 on average, over the best frames."""
    profiles = []
    for i in sorted(clip.best)[:: max(1, len(clip.best) // 6)]:
        y, x = np.nonzero(_enlarged(clip, i))
        angle = np.arctan2(y - y.mean(), x - x.mean()) / (2 * np.pi) % 1
        area = np.bincount((angle * _SECTORS).astype(int) % _SECTORS, minlength=_SECTORS)
        edge = np.sqrt(area)
        profiles.append(edge / edge.mean())
    return np.asarray(np.median(profiles, axis=0))


def _enlarged(clip: Plain, i: int) -> Mask:
    """The figure of frame i at three times its size, its edge where it is half the backdrop."""
    mask = clip.coloured[i]
    around = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    share = np.where(around, clip.apart[i], 0) / np.median(clip.apart[i][mask])
    return np.asarray(cv2.resize(share, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR) > 0.5)


@lru_cache(maxsize=1)
def _known_outlines() -> dict[str, Array]:
    """The profile of each form, read from the teacher's own drawing."""
    known = {}
    for kind in _OUTLINES:
        figure = Figure(kind, "red", "beat" if kind == "heart" else "grow")
        f_THWC = draw(figure, np.random.default_rng(0), n_frames=33, size=(64, 64))
        known[kind] = _profile(Plain(f_THWC.astype(np.float32) / 255, night=False))
    return known


def colour_of(clip: Plain, kind: str) -> str:
    """The name of the figure's colour: of a planet without its sun, of a plant's flower."""
    mask = clip.coloured & own_part(clip.coloured, kind)
    if not mask.any() or kind == "moon":
        return ""
    apart = clip.apart[mask]
    purest = apart >= np.quantile(apart, 0.6)  # what is smeared is mixed with the backdrop
    return name_of(np.median(clip.f_THWC[mask][purest], axis=0), palette.FIGURES)


def own_part(mask_THW: Mask, kind: str) -> Mask:
    """Where the colour is the figure's own."""
    _, height, width = mask_THW.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    if kind == "planet":
        return np.broadcast_to(np.hypot(columns - width / 2, rows - height / 2) > 12, mask_THW.shape)
    if kind == "plant":
        top = np.argmax(mask_THW.any(axis=2), axis=1)[:, None, None]
        return np.broadcast_to(rows < top + 7, mask_THW.shape)
    return np.ones_like(mask_THW)
