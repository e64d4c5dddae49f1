"""Do seams show? Indices that compare what happens at a seam with what happens inside windows.

T frames of a span; a series x (T,) has NaN where it is not defined. No index sees every fault: a cross-fade
of two windows that disagree leaves the frame difference as it is; warp error, folding and softness show it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.quality.frames import Measured, Series
from engine.quality.layout import Mask, Seam, Span, interior, stride_of

# Added to both sides of a ratio: below this a change is rounding or the codec's, and its ratio means nothing.
NOISE = {"difference": 0.1, "second_difference": 0.1, "warp_error": 0.1, "jerk": 0.1}
LEAST_PERIODS = 3  # to fold: with two, any two curves differ between phases
LEAST_STRIDE = 4
SHUFFLES = 199
ROUNDING = 1e-9  # of a turn: whole frames must not fall into the phase before


@dataclass(frozen=True)
class SeamIndex:
    """How much larger a change is at seams than inside windows: 1 is no difference.

    `share` of the `n_interior` interior spans as long as a seam reach what the seam does. The rank p-value
    counts the seam in, so that few spans prove little.
    """

    ratio: float
    share: float
    n_interior: int
    p_value: float


@dataclass(frozen=True)
class Folding:
    """The share of a series' variance that the phase within a window explains; chance gives 1 / periods.

    The p-value is the share of SHUFFLES that give as much with every stride turned to a random phase.
    """

    share: float
    periods: float
    p_value: float


def seam_indices(measured: Measured, span: Span) -> dict[str, SeamIndex]:
    """The seam index of every series that has one; those without an interior to compare with are left out."""
    seams = span.seams or ()
    found = {
        name: seam_index(_series(measured, name), seams, noise, span.pulse) for name, noise in NOISE.items()
    }
    return {name: index for name, index in found.items() if index is not None}


def _series(measured: Measured, name: str) -> Series:
    return measured.jerk if name == "jerk" else measured.series[name]


def seam_index(x: Series, seams: Sequence[Seam], noise: float, pulse: int = 1) -> SeamIndex | None:
    """Median over seams of the largest x in the seam, over the median of the largest x in interior spans.

    The same order statistic on both sides, over equally many changes: a maximum over a mean would exceed one
    in a film without any seam. None where no seam, or no interior span of its length, can be compared.
    """
    compared = [
        ((own + noise) / (np.median(others) + noise), np.mean(others >= own), others.size)
        for own, others in compared_maxima(x, seams, pulse)
    ]
    if not compared:
        return None
    ratio, share, n_interior = np.median(np.asarray(compared, dtype=float), axis=0)
    p_value = (share * n_interior + 1) / (n_interior + 1)
    return SeamIndex(float(ratio), float(share), int(n_interior), float(p_value))


def compared_maxima(x: Series, seams: Sequence[Seam], pulse: int) -> Iterator[tuple[float, Series]]:
    """For every seam its own largest x, and that of every interior span of its length, at least one pulse.

    A seam longer than half of the longest interior stretch, as in a shot of two windows, is itself taken in
    spans of that length, and stands by their median: there is no longer span to compare it with.
    """
    inside = interior(seams, len(x)) & np.isfinite(x)
    longest = max((len(run) for run in "".join("x" if i else " " for i in inside).split()), default=0)
    for seam in seams:
        n_changes = max(seam.n_changes, pulse)
        own, length = x[seam.start : seam.start + n_changes], min(n_changes, (longest + 1) // 2)
        if 0 < length <= len(own) and np.isfinite(own).all():
            yield float(np.median(_maxima(own, length))), _maxima(x, length, inside)


def _maxima(x: Series, length: int, allowed: Mask | None = None) -> Series:
    """The largest x of every span of `length` changes that lies wholly in `allowed`, or anywhere."""
    spans = np.lib.stride_tricks.sliding_window_view(x, length)
    if allowed is not None:
        spans = spans[np.lib.stride_tricks.sliding_window_view(allowed, length).all(axis=1)]
    return np.asarray(spans.max(axis=1), dtype=np.float64)


def folding(x: Series, seams: Sequence[Seam], pulse: int = 1) -> Folding | None:
    """Variance between phases over all variance, after a moving mean over one stride is taken away.

    A mean over one pulse, or two frames, removes rhythms that strides keep and windows do not make: the
    decoder's, of whole latent frames, and that of every other frame. The most sensitive test over many
    windows: it need not know where in a window the fault is. None for fewer than LEAST_PERIODS strides, or
    strides too short to have phases.
    """
    stride = stride_of(seams)
    if stride is None or stride < LEAST_STRIDE or len(x) < LEAST_PERIODS * stride:
        return None
    defined, n_phases = np.isfinite(x), round(stride)
    whole = moving_mean(np.where(defined, x, np.nanmedian(x)), max(pulse, 2))
    detrended = (whole - moving_mean(whole, n_phases))[defined]
    turns = turns_of(seams, len(x), stride)[defined]
    share = folded_share(detrended, turns, n_phases)
    draws = np.random.default_rng(0).random((SHUFFLES, int(turns.max()) + 1))
    chance = [folded_share(detrended, turns + draw[turns.astype(np.intp)], n_phases) for draw in draws]
    return Folding(share, len(x) / stride, (1 + sum(c >= share for c in chance)) / (1 + SHUFFLES))


def folded_share(x: Series, turns: Series, n_phases: int) -> float:
    """Variance of the means at each phase, over the variance of x; 0 for a series that does not change."""
    phase = ((turns % 1 + ROUNDING) * n_phases).astype(np.intp) % n_phases
    total, counts = float(x.var()), np.bincount(phase)
    if total <= 0:
        return 0.0
    means = np.bincount(phase, weights=x) / np.maximum(counts, 1)
    return float(np.average((means - x.mean()) ** 2, weights=counts)) / total


def moving_mean(x: Series, width: int) -> Series:
    """The mean over `width` around every place; at the ends over what there is."""
    box = np.ones(min(width, len(x)))
    return np.asarray(np.convolve(x, box, "same") / np.convolve(np.ones(len(x)), box, "same"))


def turns_of(seams: Sequence[Seam], n_frames: int, stride: float) -> Series:
    """Every frame's place in whole and broken strides, 0 or more; a seam begins a stride.

    Strides of balanced windows differ by rounding; beyond the first and last seam the typical one goes on.
    """
    starts = np.asarray([seam.start for seam in seams], dtype=float)
    before = starts[0] - stride * np.arange(int(starts[0] / stride) + 1, 0, -1)
    after = starts[-1] + stride * np.arange(1, int(n_frames / stride) + 2)
    marks = np.r_[before, starts, after]
    return np.interp(np.arange(n_frames), marks, np.arange(len(marks)))


def softness(sharpness: Series, seams: Sequence[Seam]) -> float | None:
    """Sharpness in overlaps over sharpness inside the windows beside them, the median over seams; 1 is equal.

    Below one: windows that disagree were averaged, into ghosts or blur. The neighbours are as near on one
    side as on the other, so a picture that grows sharper by itself cancels. None without overlaps.
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
