"""Temporal windows over a shot's latent frames, and the weights that blend them. No torch.

F latent frames of the shot, L frames of a window, n windows, o overlap, d discarded lead-in frames.
Ranges are half-open. Decides: where windows lie and what each frame's weight is. Does not decide: what
is blended (canvas) or in which order windows run (cluster).
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Window:
    """Latent frames [start, stop) of one shot."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(n_frames: int, size: int, overlap: int, unit: int = 1) -> tuple[Window, ...]:
    """Cover latent frames [0, n_frames) with windows of `size`; neighbours share at least `overlap`.

    Balanced: all windows have the same length (one compiled shape, the trained length) and overlaps
    differ by at most one unit. Windows begin at multiples of `unit` frames. A shot no longer than `size` is
    one window of its own length. Raises ValueError where the numbers cannot make a layout.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames={n_frames} latent frames: a shot has at least 1")
    if not 0 <= overlap < size:
        raise ValueError(f"overlap={overlap} latent frames must lie in [0, size={size})")
    if n_frames <= size:
        return (Window(0, n_frames),)
    slack, odd = divmod(n_frames - size, unit)
    most = (size - overlap) // unit
    if odd or not most:
        raise ValueError(
            f"windows of size={size} and overlap={overlap} latent frames that begin at multiples of {unit} "
            f"do not cover n_frames={n_frames}: give size + {unit} k frames, overlap at most size - {unit}"
        )
    gaps = max(1, -(-slack // most))
    # floor(k * slack / gaps + 1/2) in integers: floats would round differently on long shots
    starts = [(2 * k * slack + gaps) // (2 * gaps) for k in range(gaps + 1)]
    return tuple(Window(unit * start, unit * start + size) for start in starts)


@dataclass(frozen=True)
class Layout:
    """How a canvas is cut into windows, and how its latent frames lie in time.

    Sizes are in latent frames; lead_in is of blend_weights, the last four are of engine.families.facts.
    """

    size: int
    overlap: int
    lead_in: int
    temporal_compression: int = 4
    period: int = 0
    unit: int = 1  # that windows begin at multiples of
    patch_frames: int = 1

    @property
    def identity(self) -> dict[str, int]:
        """All of it; what most models have no use for only where it says something."""
        nothing = {"period": 0, "unit": 1, "patch_frames": 1}
        return {name: value for name, value in asdict(self).items() if nothing.get(name) != value}

    @property
    def clock(self) -> tuple[int, int]:
        """Pixel frames of a latent frame, and after how many latent frames one is of a single one."""
        return self.temporal_compression, self.period

    def windows(self, n_latent: int) -> tuple[Window, ...]:
        """Of a canvas of so many latent frames."""
        return plan_windows(n_latent, self.size, self.overlap, self.unit)


def blend_weights(windows: Sequence[Window], n_frames: int, lead_in: int = 1) -> Weights:
    """Weights (n, F), float64, non-negative; every column sums to one.

    Raised-cosine ramps written as differences of smooth steps, which telescope to one also where three
    windows meet. Each interior edge has `lead_in` frames of weight zero: the first latent of a window
    stands where the model expects an image latent, so its prediction is thrown away. Raises ValueError
    when windows overlap too little for that.
    """
    overlaps = [a.stop - b.start for a, b in itertools.pairwise(windows)]
    ramp = min(overlaps, default=0) + 1 - 2 * lead_in
    if overlaps and ramp < 1:
        raise ValueError(
            f"overlap={min(overlaps)} latent frames is too small for lead_in={lead_in}; "
            f"neighbouring windows must share at least {2 * lead_in}"
        )
    centres = [b.start + o / 2 for b, o in zip(windows[1:], overlaps, strict=True)]
    steps = [np.ones(n_frames), *(_smooth_step(n_frames, c, ramp) for c in centres), np.zeros(n_frames)]
    return -np.diff(np.stack(steps), axis=0)


def _smooth_step(n_frames: int, centre: float, ramp: int) -> Weights:
    """0 before `centre`, 1 after it, a raised cosine of `ramp` frames between; sampled at mid-frames."""
    u = (np.arange(n_frames) + 0.5 - centre) / ramp + 0.5
    return np.asarray(np.sin(np.pi / 2 * np.clip(u, 0.0, 1.0)) ** 2, dtype=np.float64)
