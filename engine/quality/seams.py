"""Do seams show? Indices that compare what happens at a seam with what happens inside windows.

T frames of a span; a series x (T,) has NaN where it is not defined. Formulas: `research/stitching.md` 4.2. No one
of them sees every fault: a cross-fade of two disagreeing windows leaves the frame difference as it is and shows in
the warp error, the folding and the softness.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.quality.frames import Measured, Series
from engine.quality.layout import Mask, Seam, interior, stride_of

# Added to both sides of a ratio: below this a change is rounding or the codec's, and its ratio means nothing.
NOISE = {"difference": 0.1, "second_difference": 0.1, "warp_error": 0.1, "jerk": 0.02}
LEAST_PERIODS = 3  # to fold: with two, any two curves differ between phases
LEAST_STRIDE = 4


@dataclass(frozen=True)
class SeamIndex:
    """How much larger a change is at seams than inside windows: 1 is no difference.

    `share` of the interior spans as long as a seam reach what the seam does: the rank p-value.
    """

    ratio: float
    share: float
    n_interior: int


@dataclass(frozen=True)
class Folding:
    """The share of a series' variance that the phase within a window explains; chance gives 1 / periods."""

    share: float
    periods: float


def seam_indices(measured: Measured, seams: Sequence[Seam]) -> dict[str, SeamIndex]:
    """The seam index of every series that has one; those without an interior to compare with are left out."""
    found = {name: seam_index(_series(measured, name), seams, noise) for name, noise in NOISE.items()}
    return {name: index for name, index in found.items() if index is not None}


def _series(measured: Measured, name: str) -> Series:
    return measured.jerk if name == "jerk" else measured.series[name]


def seam_index(x: Series, seams: Sequence[Seam], noise: float = 0.0) -> SeamIndex | None:
    """Median over seams of the largest x in the seam, over the median of the largest x in interior spans.

    The same order statistic on both sides, over equally many changes: a maximum over a mean would exceed one
    in a film without any seam. None where no seam, or no interior span of its length, can be compared.
    """
    inside = interior(seams, len(x)) & np.isfinite(x)
    compared = []
    for seam in seams:
        own, others = x[seam.start : seam.stop + 1], interior_maxima(x, inside, seam.n_changes)
        if others.size and np.isfinite(own).all():
            ratio = (own.max() + noise) / (np.median(others) + noise) if noise or others.any() else 1.0
            compared.append((ratio, float(np.mean(others >= own.max())), others.size))
    if not compared:
        return None
    ratio, share, n_interior = np.median(np.asarray(compared, dtype=float), axis=0)
    return SeamIndex(float(ratio), float(share), int(n_interior))


def interior_maxima(x: Series, inside: Mask, length: int) -> Series:
    """The largest x of every span of `length` changes that lies wholly inside windows."""
    if length > len(x):
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(x, length)
    whole = np.lib.stride_tricks.sliding_window_view(inside, length).all(axis=1)
    return np.asarray(windows[whole].max(axis=1), dtype=np.float64)


def folding(x: Series, seams: Sequence[Seam]) -> Folding | None:
    """Variance between phases over all variance, after a moving mean over one stride is taken away.

    The most sensitive test over many windows: it does not need to know where in a window the fault is. None
    for fewer than LEAST_PERIODS windows' strides, or strides too short to have phases.
    """
    stride = stride_of(seams)
    if stride is None or stride < LEAST_STRIDE or len(x) < LEAST_PERIODS * stride:
        return None
    defined = np.isfinite(x)
    detrended = detrend(np.where(defined, x, np.nanmedian(x)), round(stride))[defined]
    bins = phases(seams, len(x), stride)[defined]
    total = float(np.mean((detrended - detrended.mean()) ** 2))
    if total <= 0:
        return Folding(0.0, len(x) / stride)
    counts = np.bincount(bins)
    means = np.bincount(bins, weights=detrended) / np.maximum(counts, 1)
    between = float(np.average((means - detrended.mean()) ** 2, weights=counts))
    return Folding(between / total, len(x) / stride)


def detrend(x: Series, width: int) -> Series:
    """x less its moving mean over `width`; at the ends over what there is."""
    box = np.ones(min(width, len(x)))
    return x - np.convolve(x, box, "same") / np.convolve(np.ones(len(x)), box, "same")


def phases(seams: Sequence[Seam], n_frames: int, stride: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Where in its stride every frame lies, 0 to round(stride) - 1; balanced windows' strides may differ by a bit."""
    starts = np.asarray([seam.start for seam in seams], dtype=float)
    marks = np.r_[starts[0] - stride * np.arange(n_frames // int(stride) + 1, 0, -1), starts]
    marks = np.r_[marks, starts[-1] + stride * np.arange(1, n_frames // int(stride) + 2)]
    turns = np.interp(np.arange(n_frames), marks, np.arange(len(marks)))
    return np.minimum((turns % 1 * round(stride)).astype(np.intp), round(stride) - 1)


def softness(sharpness: Series, seams: Sequence[Seam]) -> float | None:
    """Sharpness in overlaps over sharpness inside the windows beside them, the median over seams; 1 is equal.

    Below one: windows that disagree were averaged, into ghosts or blur. The neighbours are as near on one
    side as on the other, so that a picture that grows sharper or softer by itself cancels. None without overlaps.
    """
    ratios = list(_softness(sharpness, seams))
    return float(np.median(ratios)) if ratios else None


def _softness(sharpness: Series, seams: Sequence[Seam]) -> Iterator[float]:
    inside = interior(seams, len(sharpness))
    for seam in seams:
        reach = max(seam.stop - seam.start, LEAST_STRIDE)
        sides = [
            np.flatnonzero(inside[: seam.start])[-reach:],
            np.flatnonzero(inside[seam.stop :]) + seam.stop,
        ]
        beside = np.r_[sides[0], sides[1][:reach]]
        if seam.stop > seam.start and sides[0].size and sides[1].size:
            alone = float(np.median(sharpness[beside]))
            if alone > 0:
                yield float(np.median(sharpness[seam.start : seam.stop])) / alone
