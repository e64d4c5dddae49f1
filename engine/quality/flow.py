"""Optical flow between pictures, and what follows from it. Owns the one DIS solver.

Shapes: g_HW luma, uint8; f_HWC picture, uint8 RGB; flow_HW2 pixels (x, y) from a picture to another.
DIS: Kroeger et al., Fast Optical Flow using Dense Inverse Search (2016).
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.film.encode import Picture

TRIMMED = 0.95  # of the warp errors of a picture: the rest is what appeared from behind something
FASTEST = 0.05  # of a picture's pixels count for the dynamic degree
REFERENCE_PX = 256  # the shorter side for which VBench states its threshold of motion
Flow = NDArray[np.float32]
Luma = NDArray[np.uint8]


def luma_of(f_HWC: Picture) -> Luma:
    """Luma (H, W)."""
    return np.asarray(cv2.cvtColor(f_HWC, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def flow_between(source_HW: Luma, target_HW: Luma) -> Flow:
    """Where every pixel of `source` is found in `target`, as an offset in pixels."""
    return np.asarray(_solver().calc(source_HW, target_HW, None), dtype=np.float32)  # type: ignore[call-overload]


@cache
def _solver() -> cv2.DISOpticalFlow:
    # The medium preset: the fast one finds a pan of 3.0 px to be 2.85 px.
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def moved(f_HWC: Picture, flow_HW2: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The picture sampled at each pixel's place plus its flow; beyond the edge, the edge."""
    x, y = _places(flow_HW2)
    out = cv2.remap(f_HWC.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, dtype=np.float32)


def _places(flow_HW2: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.indices(flow_HW2.shape[:2], dtype=np.float32)
    x, y = (place + flow_HW2[..., i] for i, place in enumerate((columns, rows)))
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def warp_error(before_HWC: Picture, now_HWC: Picture, flow_HW2: Flow) -> float:
    """Mean absolute difference, in levels of 255, of a picture and the one before moved along the flow.

    `flow` leads from `now` to `before`. Pixels that came in over the edge are left out, and so is the worst
    1 - TRIMMED of the others: what was hidden cannot be predicted.
    """
    error_HW = np.abs(moved(before_HWC, flow_HW2) - now_HWC).mean(axis=2)
    x, y = _places(flow_HW2)
    height, width = error_HW.shape
    seen = error_HW[(x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)]
    if not seen.size:
        return float(error_HW.mean())
    return float(seen[seen <= np.quantile(seen, TRIMMED)].mean())


def between(first_HWC: Picture, last_HWC: Picture) -> NDArray[np.float32]:
    """The picture half-way between two: both moved half their flow, and averaged.

    Smoothness in VBench's construction compares it with the picture that was really there.
    """
    flow = flow_between(luma_of(first_HWC), luma_of(last_HWC))
    return np.asarray((moved(first_HWC, -flow / 2) + moved(last_HWC, flow / 2)) / 2, dtype=np.float32)


def fastest(flow_HW2: Flow) -> float:
    """Mean magnitude of the fastest FASTEST of the pixels: pixels a frame, at a shorter side of 256 px."""
    speed = np.hypot(flow_HW2[..., 0], flow_HW2[..., 1]).ravel()
    n = max(1, round(FASTEST * speed.size))
    scale = REFERENCE_PX / min(flow_HW2.shape[:2])
    return float(scale * np.partition(speed, speed.size - n)[-n:].mean())
