"""How the camera moves over a landscape, and the clip as a camera that stands still would have seen it.

Shapes: f_THWC as in `pixels`. Decides pan and zoom from how the lower half of the frame changes. Does not
decide what is seen there.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.chalk.oracle.pixels import Array, Mask
from engine.chalk.teacher import FPS, NEAREST, ZOOM

_RATES = (-0.10, -0.07, -0.04, 0.0, 0.04, 0.07, 0.10)  # of the scale, a second
_ZOOM_GAIN, _PAN_GAIN, _DRIFT_GAIN = 0.93, 0.85, 0.75  # what each may leave unexplained
_COLUMNS = 4  # wide enough for waves to average out
_LAGS = (11, 16, 21)  # frames between those compared for a zoom
_PAN_LAG, _PAN_REACH = 8, 10


def camera_of(f_THWC: Array, may_pan: bool) -> str:
    """One of scenes.CAMERAS: whichever of a zoom and a pan explains the land's motion best, if one does.

    Only over a land that stands still can a pan be told from what flows.
    """
    zoom, unexplained = _zoom(f_THWC)
    pan, left = _pan(f_THWC) if may_pan else ("", 1.0)
    return pan if pan and (left < unexplained or not zoom) else zoom


def _zoom(f_THWC: Array) -> tuple[str, float]:
    """ "in", "out" or "", and the share of the change that it leaves unexplained."""
    coarse = _coarse(f_THWC)
    lags = [lag for lag in _LAGS if lag < len(coarse)]
    costs = [sum(_zoom_cost(coarse, rate, lag) for lag in lags) for rate in _RATES]
    best = int(np.argmin(costs))
    unexplained = costs[best] / max(costs[_RATES.index(0.0)], 1e-6)
    if unexplained > _ZOOM_GAIN or not _RATES[best]:
        return "", 1.0
    return "in" if _RATES[best] > 0 else "out", unexplained


def _coarse(f_THWC: Array) -> Array:
    """Frames of full height and few columns (T-2, H, 4, 3), each the mean of three."""
    size = (_COLUMNS, f_THWC.shape[1])
    return calmed(np.stack([cv2.resize(f_HWC, size, interpolation=cv2.INTER_AREA) for f_HWC in f_THWC]))


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


def _pan(f_THWC: Array) -> tuple[str, float]:
    """ "left", "right" or "": the way that the camera turns, against which the land moves; as for a zoom."""
    shift, unexplained = _shift(f_THWC[:, int(f_THWC.shape[1] * 0.52) :])
    if abs(shift) < 3 or unexplained > _PAN_GAIN:
        return "", 1.0
    return "left" if shift > 0 else "right", unexplained


def calmed(f_TX: Array) -> Array:
    """The means of every three frames that follow each other (T-2, ...)."""
    return np.asarray((f_TX[:-2] + f_TX[1:-1] + f_TX[2:]) / 3, np.float32)


def drift(f_THWC: Array) -> int:
    """Pixels by which the picture moves right in 8 frames; 0 where no shift explains it better than rest."""
    shift, unexplained = _shift(f_THWC)
    return shift if unexplained < _DRIFT_GAIN else 0


def _shift(f_THWC: Array) -> tuple[int, float]:
    """The best shift to the right in 8 frames, and the share of the change that it leaves unexplained."""
    calm = calmed(np.stack([cv2.blur(f_HWC, (5, 5)).reshape(f_HWC.shape) for f_HWC in f_THWC]))
    lag = min(_PAN_LAG, len(calm) - 1)
    before, after = calm[: len(calm) - lag : 2], calm[lag::2]
    width = f_THWC.shape[2]
    costs = {}
    for shift in range(-_PAN_REACH, _PAN_REACH + 1):
        left, right = max(0, -shift), max(0, shift)
        here = before[:, :, left : width - right]
        costs[shift] = float(np.abs(here - after[:, :, right : width - left]).mean())
    best = min(costs, key=lambda shift: costs[shift])
    return best, costs[best] / max(costs[0], 1e-6)


def steadied(f_THWC: Array, zoom: str) -> tuple[Array, Mask]:
    """The clip without its zoom, at the scale at which the teacher draws, and where it is known (T, H, W)."""
    known = np.ones(f_THWC.shape[:3], bool)
    if not zoom:
        return f_THWC, known
    height, width = f_THWC.shape[1:3]
    still = np.empty_like(f_THWC)
    for i, f_HWC in enumerate(f_THWC):
        gone = min(float(np.exp(ZOOM * i / FPS)), NEAREST)
        scale = gone if zoom == "in" else NEAREST / gone
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
