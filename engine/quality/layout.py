"""Where windows meet, in pixel frames: what the metrics compare with what. No opencv.

c pixel frames of a latent frame, F latent frames of a shot, n windows. Ranges are half-open. Decides: which
pixel frames more than one window made, which lie inside a single one, and where a window's centre is. A cut
between shots is no seam: spans are measured one by one, and none reaches over a cut.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.timeline import first_pixel
from engine.windows import Weights

LEAST = 1e-9  # a weight below this is rounding
AFTER = 2  # changes after a seam that still see it: jerk looks back over three of them
LEAST_FRAMES = 16  # below this there is nothing to compare a seam with
Mask = NDArray[np.bool_]


@dataclass(frozen=True, order=True)
class Seam:
    """Pixel frames [start, stop) that two windows made together; none, start == stop, where one just ends.

    The changes from a frame to the next that belong to it are start to stop, both included: into the overlap,
    inside it and out of it. A change is named by its later frame.
    """

    start: int
    stop: int

    @property
    def n_changes(self) -> int:
        """How many changes from a frame to the next belong to it."""
        return self.stop - self.start + 1


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of a film without a cut, and the seams in them, counted from `start`.

    `seams` is None where nobody knows the layout, and () where one window made the whole span. `pulse` is the
    pixel frames of a latent frame: decoders move a little more at every latent frame, which is no seam.
    """

    label: str
    start: int
    stop: int
    seams: tuple[Seam, ...] | None = None
    pulse: int = 1

    def __post_init__(self) -> None:
        for seam in self.seams or ():
            if not 0 < seam.start <= seam.stop < len(self):
                raise ValueError(
                    f"{self.label}: a seam at frames {seam.start} to {seam.stop} does not lie inside "
                    f"{len(self)} frames"
                )

    def __len__(self) -> int:
        return self.stop - self.start

    def without(self, n_frames: int) -> "Span":
        """The span less its first n_frames frames, and the seams that lie whole in what is left."""
        n = min(max(n_frames, 0), len(self))
        kept = self.seams and tuple(
            Seam(s.start - n, s.stop - n) for s in self.seams if s.start - n > AFTER + 1
        )
        return Span(self.label, self.start + n, self.stop, kept, self.pulse)


def seams_of_weights(weights: Weights, n_frames: int, c: int, period: int = 0) -> tuple[Seam, ...]:
    """The seams of a shot of n_frames shown pixel frames, whose windows are blended with weights (n, F).

    Between neighbours it reaches from the first latent frame in which the next window has weight to the last
    in which the one before still has: frames that are computed and discarded belong to one window only.
    """
    found = []
    for before, after in itertools.pairwise(weights):
        start = first_pixel(int(np.flatnonzero(after > LEAST)[0]), c, period)
        stop = first_pixel(int(np.flatnonzero(before > LEAST)[-1]) + 1, c, period)
        if 0 < start < n_frames:  # the shot's surplus frames are not shown
            found.append(Seam(start, min(max(start, stop), n_frames - 1)))
    return tuple(found)


def seams_every(stride: int, overlap: int, n_frames: int) -> tuple[Seam, ...]:
    """The seams of equal windows: the next one begins every `stride` frames and shares `overlap` of them."""
    if not 0 <= overlap < stride:
        raise ValueError(f"overlap={overlap} frames must lie in [0, stride={stride})")
    starts = range(stride, n_frames - overlap, stride)
    return tuple(Seam(start, start + overlap) for start in starts)


def seams_at(starts: Sequence[int], overlap: int) -> tuple[Seam, ...]:
    """The seams of windows that begin at the frames `starts` and share `overlap` frames with the one before.

    Raises ValueError for starts that do not rise, or that are nearer to each other than the overlap.
    """
    for before, after in itertools.pairwise(starts):
        if after <= before:
            raise ValueError(
                f"the seam at frame {after} follows the one at frame {before}: name them in order"
            )
        if after - before < overlap:
            raise ValueError(
                f"the seams at frames {before} and {after} are {after - before} frames apart, "
                f"less than the overlap of {overlap} frames"
            )
    return tuple(Seam(start, start + overlap) for start in starts)


def spans_between(
    cuts: Sequence[int], n_frames: int, seams: Sequence[Seam] | None = None, pulse: int = 1
) -> tuple[Span, ...]:
    """A span for every shot of a film of n_frames that has cuts before the frames `cuts`.

    Raises ValueError for cuts that do not rise, for cuts or seams that do not lie inside the film, and for a
    seam that lies on a cut.
    """
    edges, named = [0, *cuts, n_frames], ", ".join(map(str, cuts))
    if any(a >= b for a, b in itertools.pairwise(cuts)):
        raise ValueError(f"cuts at frames {named} do not rise: name them in order, each once")
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"cuts at frames {named} do not lie inside {n_frames} frames")
    for seam in seams or ():
        if not any(a < seam.start and seam.stop < b for a, b in itertools.pairwise(edges)):
            where = "one shot of the film" if cuts else "the film"
            raise ValueError(f"the seam at frames {seam.start} to {seam.stop} does not lie inside {where}, "
                             f"which has {n_frames} frames")  # fmt: skip
    pairs = enumerate(itertools.pairwise(edges), 1)
    return tuple(Span(f"shot {i}", a, b, _cut_out(a, b, seams), pulse) for i, (a, b) in pairs)


def _cut_out(start: int, stop: int, seams: Sequence[Seam] | None) -> tuple[Seam, ...] | None:
    """The seams inside [start, stop), counted from its start."""
    if seams is None:
        return None
    inside = (seam for seam in sorted(seams) if start < seam.start < stop)
    return tuple(Seam(seam.start - start, seam.stop - start) for seam in inside)


def interior(seams: Sequence[Seam], n_frames: int) -> Mask:
    """Which changes (n_frames,) see no seam, neither in their own frames nor just before them."""
    mask = np.ones(n_frames, dtype=bool)
    for seam in seams:
        mask[seam.start : seam.stop + 1 + AFTER] = False
    return mask


def stride_of(seams: Sequence[Seam]) -> float | None:
    """The typical distance of neighbouring seams in frames; None for fewer than two."""
    gaps = [b.start - a.start for a, b in itertools.pairwise(seams)]
    return float(np.median(gaps)) if gaps else None


def window_centres(seams: Sequence[Seam], n_frames: int) -> list[int]:
    """The middle frame of what each window made alone."""
    return [(a + b) // 2 for a, b in _alone(seams, n_frames)]


def _alone(seams: Sequence[Seam], n_frames: int) -> Iterator[tuple[int, int]]:
    """The frames that a single window made, window by window."""
    starts = [0, *(seam.stop for seam in seams)]
    stops = [*(seam.start for seam in seams), n_frames]
    return ((a, b) for a, b in zip(starts, stops, strict=True) if a < b)
