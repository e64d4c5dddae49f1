"""Colours of a shot held to its beginning: a slow change of most of the picture is taken back, no other.

n samples of a shot, one a second; P cells of a picture. Colours are CIE L*a*b*, dE is CIE76, pictures f_HWC
uint8 RGB. Decides: the curve of gain and bias over a shot, its bounds, and how it is laid on a picture. Does
not decide: which shots are held (engine.changes), nor over which drift (a profile's quality.max_drift).

After research/stitching.md, 2.10: means and deviations in L*a*b*, matched to the shot's own beginning by a
gain and a bias that are continuous in time. Two things keep wanted change out. In time, each cell goes
through a smoother that leaves straight lines as they are and lets go what comes and goes. In the picture,
means and deviations are of the half of all cells that changed most alike: a cloud that turned white darkens
no land.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.film.encode import Picture
from engine.quality.film import sample_indices
from engine.quality.trends import LEAST_SAMPLES, de_per_min, thinned
from engine.quality.video import working_size

ROWS, COLUMNS = 8, 12  # of cells
ALIKE = 0.5  # of the cells
SLOW = 4  # windows
MAX_GAIN = 0.1  # a gain lies in 1 ± this
MAX_SHIFT_DE = 10.0  # that a mean colour is moved by
LEAST_SPREAD = 1.0  # of a channel's deviation, below which there is no contrast to restore
Numbers = NDArray[np.float64]


@dataclass(eq=False)
class Swatches:
    """The colours of a shot of n_frames, sampled while its pictures pass by: small numbers once a second."""

    n_frames: int
    fps: float
    indices: list[int] = field(default_factory=list)
    cells: list[Numbers] = field(default_factory=list)  # each (P, 3)

    def passing(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """The same pictures, one by one."""
        wanted = frozenset(thinned(sample_indices(self.n_frames, self.fps)))
        for index, picture in enumerate(pictures):
            if index in wanted:
                self.indices.append(index)
                self.cells.append(cells_of(picture))
            yield picture

    @property
    def de_per_min(self) -> float | None:
        """The drift of the mean colour, as `longtake quality` has it; None for too few samples."""
        if len(self.indices) < LEAST_SAMPLES:
            return None
        return de_per_min(np.asarray(self.indices) / self.fps / 60, np.asarray(self.cells).mean(axis=1))


@dataclass(frozen=True, eq=False)
class Held:
    """A correction of colours: at the frames `at` (n,) each channel times gain (n, 3) plus bias (n, 3)."""

    at: Numbers
    gain: Numbers
    bias: Numbers

    def over(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """The pictures with their colours corrected, on straight lines in time between samples."""
        for index, picture in enumerate(pictures):
            gain, bias = (_at(index, self.at, values) for values in (self.gain, self.bias))
            yield recoloured(picture, gain, bias)


def held(swatches: Swatches, window_s: float) -> Held:
    """The correction that takes a shot of two samples or more back to the colours of its first window.

    What comes and goes with a period of SLOW windows is halved before it is looked at, and of what does so
    within a window a hundredth is left, or a third at the ends, where it could be the beginning of a drift.
    """
    c_NPC, at = np.asarray(swatches.cells), np.asarray(swatches.indices, dtype=np.float64)
    apart_s = (at[-1] - at[0]) / (len(at) - 1) / swatches.fps
    s_NPC = smoothed(c_NPC, max(SLOW * window_s / apart_s, 2.0))
    first = slice(0, max(1, int(np.searchsorted(at, window_s * swatches.fps))))
    s_NPC = s_NPC[:, alike(s_NPC - s_NPC[first].mean(axis=0))]
    mean, spread = s_NPC.mean(axis=1), s_NPC.std(axis=1)
    wanted = mean + _no_longer(mean[first].mean(axis=0) - mean, MAX_SHIFT_DE)
    gain = _gain(spread, spread[first].mean(axis=0))
    return Held(at, gain, wanted - gain * mean)


def smoothed(y_N: Numbers, period: float) -> Numbers:
    """Series along the first axis without what comes and goes: Whittaker's smoother of order two.

    It minimises |y - s|^2 + w |second differences of s|^2 (Eilers, 2003): straight lines pass unchanged, and
    w = (2 sin(pi / period))^-4 leaves half of a wave of so many samples, less of shorter ones.
    """
    n = len(y_N)
    bend = np.diff(np.eye(n), n=2, axis=0)
    weight = (2 * np.sin(np.pi / period)) ** -4
    s_N = np.linalg.solve(np.eye(n) + weight * bend.T @ bend, y_N.reshape(n, -1))
    return np.asarray(s_N.reshape(y_N.shape), dtype=np.float64)


def alike(change_NPC: Numbers) -> NDArray[np.intp]:
    """The cells whose change stays nearest to the median one, in their order."""
    off = np.linalg.norm(change_NPC - np.median(change_NPC, axis=1, keepdims=True), axis=2).max(axis=0)
    return np.sort(np.argsort(off, kind="stable")[: max(1, round(ALIKE * len(off)))])


def cells_of(f_HWC: Picture) -> Numbers:
    """Mean colours (P, 3) of a picture's cells; their mean is the picture's."""
    lab = cv2.cvtColor(working_size(f_HWC).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    cells = cv2.resize(lab, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells.reshape(-1, 3), dtype=np.float64)


def recoloured(f_HWC: Picture, gain: Numbers, bias: Numbers) -> Picture:
    """A picture with its L*a*b* times gain (3,) plus bias (3,)."""
    lab = cv2.cvtColor(f_HWC.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    rgb = cv2.cvtColor((lab * gain + bias).astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray((rgb * 255).round().clip(0, 255), dtype=np.uint8)


def _at(index: int, at: Numbers, values: Numbers) -> Numbers:
    """Values (n, 3) at one frame."""
    return np.array([np.interp(index, at, channel) for channel in values.T])


def _gain(spread: Numbers, wanted: Numbers) -> Numbers:
    """What takes deviations (n, 3) to the wanted (3,), within its bounds; 1 where there is no contrast."""
    gain = np.clip(wanted / np.maximum(spread, LEAST_SPREAD), 1 - MAX_GAIN, 1 + MAX_GAIN)
    return np.where(np.minimum(spread, wanted) < LEAST_SPREAD, 1.0, gain)


def _no_longer(shift: Numbers, most: float) -> Numbers:
    """Vectors (n, 3), those longer than `most` cut to that length."""
    length = np.linalg.norm(shift, axis=1, keepdims=True)
    return np.asarray(shift * np.minimum(1.0, most / np.maximum(length, most)), dtype=np.float64)
