"""How the camera moves over a landscape, and the clip as a camera that stands still would have seen it.

Shapes: f_THWC as in `pixels`. Decides pan and zoom from how the lower half of the frame changes. Does not
decide what is seen there.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.chalk.oracle.pixels import Array, Mask
from engine.chalk.teacher import _NEAREST, _ZOOM, FPS

_RATES = (-0.10, -0.07, -0.04, 0.0, 0.04, 0.07, 0.10)  # of the scale, a second
_GAIN = 0.95  # a zoom must explain this much better than none
_COLUMNS = 4  # wide enough for waves to average out
_LAGS = (11, 16, 21)  # frames between those compared for a zoom
_PAN_LAG, _PAN_REACH = 8, 10


def zoom_of(f_THWC: Array) -> str:
    """ "in", "out" or ""."""
    coarse = _coarse(f_THWC)
    lags = [lag for lag in _LAGS if lag < len(f_THWC)]
    costs = [sum(_zoom_cost(coarse, rate, lag) for lag in lags) for rate in _RATES]
    best = int(np.argmin(costs))
    if costs[best] > _GAIN * costs[_RATES.index(0.0)]:
        return ""
    return "in" if _RATES[best] > 0 else "out" if _RATES[best] < 0 else ""


def _coarse(f_THWC: Array) -> Array:
    """Frames of full height and few columns (T, H, 6, 3)."""
    size = (_COLUMNS, f_THWC.shape[1])
    return np.stack([cv2.resize(f_HWC, size, interpolation=cv2.INTER_AREA) for f_HWC in f_THWC])


def _zoom_cost(f_THKC: Array, rate: float, lag: int) -> float:
    """Mean difference between frames and earlier ones scaled about the middle, in the lower half."""
    n_frames, height = f_THKC.shape[:2]
    rows = np.arange(int(height * 0.52), int(height * 0.93)) + 0.5
    source = height / 2 + (rows - height / 2) / np.exp(rate * lag / FPS) - 0.5
    low = np.clip(np.floor(source).astype(int), 0, height - 2)
    part = np.clip(source - low, 0, 1)[None, :, None, None].astype(np.float32)
    known = source <= height - 1
    before, after = f_THKC[: n_frames - lag : 2], f_THKC[lag::2][:, np.arange(len(rows)) + int(height * 0.52)]
    scaled = before[:, low] * (1 - part) + before[:, low + 1] * part
    return float(np.abs(scaled - after)[:, known].mean())


def pan_of(f_THWC: Array) -> str:
    """ "left", "right" or "": the way that the camera turns, against which the land moves."""
    shift = drift(f_THWC[:, int(f_THWC.shape[1] * 0.52) :])
    return "" if abs(shift) < 3 else "left" if shift > 0 else "right"


def drift(f_THWC: Array) -> int:
    """Pixels by which the picture moves right in 8 frames; 0 where no shift explains it better than rest."""
    lag = min(_PAN_LAG, len(f_THWC) - 1)
    before, after = f_THWC[: len(f_THWC) - lag : 2], f_THWC[lag::2]
    width = f_THWC.shape[2]
    costs = {}
    for shift in range(-_PAN_REACH, _PAN_REACH + 1):
        left, right = max(0, -shift), max(0, shift)
        here = before[:, :, left : width - right]
        costs[shift] = float(np.abs(here - after[:, :, right : width - left]).mean())
    best = min(costs, key=lambda shift: costs[shift])
    return best if costs[best] < 0.8 * costs[0] else 0


def steadied(f_THWC: Array, zoom: str) -> tuple[Array, Mask]:
    """The clip without its zoom, at the scale at which the teacher draws, and where it is known (T, H, W)."""
    known = np.ones(f_THWC.shape[:3], bool)
    if not zoom:
        return f_THWC, known
    height, width = f_THWC.shape[1:3]
    still = np.empty_like(f_THWC)
    for i, f_HWC in enumerate(f_THWC):
        gone = min(float(np.exp(_ZOOM * i / FPS)), _NEAREST)
        scale = gone if zoom == "in" else _NEAREST / gone
        matrix = np.array([[scale, 0, width / 2 * (1 - scale)], [0, scale, height / 2 * (1 - scale)]])
        matrix[:, 2] += (scale - 1) / 2  # pixel centres lie at halves
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        still[i] = cv2.warpAffine(
            f_HWC, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        away_y = np.abs(np.arange(height) + 0.5 - height / 2) * scale < height / 2
        away_x = np.abs(np.arange(width) + 0.5 - width / 2) * scale < width / 2
        known[i] = away_y[:, None] & away_x
    return still, known
