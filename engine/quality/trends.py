"""How a span changes as a whole: drift, flicker, smoothness, motion. Needs no layout.

n samples, one a second. VBench: Huang et al. (2024); DIS flow stands in for its networks RAFT and AMT, so
smoothness and dynamic degree compare with themselves only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from engine.quality.frames import Measured, Series

LEVELS = 255.0
LEAST_SAMPLES = 4  # seconds, below which a slope is not worth a name
Item = TypeVar("Item")


@dataclass(frozen=True)
class Drift:
    """Slopes a minute, and the end less the start: dE (CIE76, in L*a*b*), the others in % of their median."""

    de_per_min: float
    saturation_per_min: float
    contrast_per_min: float
    sharpness_per_min: float
    de_end: float
    saturation_end: float
    contrast_end: float
    sharpness_end: float


def slope(times: Series, values: Series) -> float:
    """Theil-Sen: the median slope of all pairs, which a few odd samples do not move."""
    i, j = np.triu_indices(len(times), k=1)
    return float(np.median((values[j] - values[i]) / (times[j] - times[i])))


def drift(measured: Measured, fps: float) -> Drift | None:
    """Trends of colour, saturation, contrast and sharpness over samples once a second; None for too few."""
    samples = thinned(measured.samples)
    if len(samples) < LEAST_SAMPLES:
        return None
    at = np.asarray([sample.index for sample in samples])
    minutes = at / fps / 60
    lab = np.asarray([sample.lab for sample in samples])
    found = {
        "de_per_min": de_per_min(minutes, lab),
        "de_end": float(np.linalg.norm([_end(channel) for channel in lab.T])),
    }
    others = {name: measured.series[name][at] for name in ("contrast", "sharpness")}
    others["saturation"] = np.asarray([sample.saturation for sample in samples])
    for name, values in others.items():
        found[f"{name}_per_min"] = _share(slope(minutes, values), values)
        found[f"{name}_end"] = _share(_end(values), values)
    return Drift(**found)


def de_per_min(minutes: Series, lab: Series) -> float:
    """The length of the slopes of L*a*b* means (n, 3) at times (n,)."""
    return float(np.linalg.norm([slope(minutes, channel) for channel in lab.T]))


def thinned(samples: Sequence[Item], most: int = 600) -> Sequence[Item]:
    """At most so many, evenly spaced: the pairs of all seconds of a long film would fill the memory."""
    if len(samples) <= most:
        return samples
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def _share(change: float, values: Series) -> float:
    """A change in % of the median."""
    middle = float(np.median(np.abs(values)))
    return 100 * change / middle if middle > 0 else 0.0


def _end(values: Series) -> float:
    """The last fifth's median less the first's."""
    n = max(1, len(values) // 5)
    return float(np.median(values[-n:]) - np.median(values[:n]))


def flicker_score(difference: Series) -> float:
    """VBench's temporal flickering: 1 less the mean frame difference over 255. Motion lowers it too."""
    return 1 - float(np.nanmean(difference)) / LEVELS


def luma_flicker(luma: Series) -> float:
    """The amplitude of alternation in mean luma, in % of it: half of a frame less its two neighbours' mean.

    The median over frames, since steps at a few frames are no flicker: they are what seam indices are for.
    """
    high_pass = (luma[1:-1] - (luma[:-2] + luma[2:]) / 2) / 2
    return float(100 * np.median(np.abs(high_pass)) / max(float(luma.mean()), 1.0))


def smoothness_score(interpolation: Series) -> float:
    """VBench's motion smoothness, by DIS: 1 less the mean error of interpolated odd frames over 255."""
    return 1 - float(np.nanmean(interpolation)) / LEVELS


def dynamic_degree(fastest: Series) -> float:
    """Mean speed of the fastest 5% of pixels, in pixels a frame at a shorter side of 256 px; 0 is a still."""
    return float(np.nanmean(fastest))
