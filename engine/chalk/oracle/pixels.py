"""Pixels as numbers that bear a little noise: colours, distances, blobs, trends over time.

Shapes: f_THWC is float32 in [0, 1], smoothed over 3 × 3 pixels; a mask is (T, H, W). Decides how colours and
series are measured. Does not decide what any of it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Colour = tuple[float, float, float]
_HUE_TOLERANCE = 30.0  # degrees
_SQUARE = np.ones((3, 3), np.uint8)


def to_float(f_THWC: npt.NDArray[np.uint8]) -> Array:
    """Bytes as numbers in [0, 1], each frame smoothed so that noise of a few per cent does not matter."""
    smooth = np.empty(f_THWC.shape, np.float32)
    for i, f_HWC in enumerate(f_THWC):
        smooth[i] = cv2.GaussianBlur(f_HWC.astype(np.float32), (3, 3), 0)
    return np.asarray(smooth / 255, np.float32)


def distance(f_THWC: Array, colour: Colour | Array) -> Array:
    """How far each pixel is from a colour, in red, green and blue."""
    apart = f_THWC - np.asarray(colour, np.float32)
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", apart, apart)), np.float32)


def chroma(f_THWC: Array) -> Array:
    """0 for greys, up to 1 for pure colours."""
    red, green, blue = f_THWC[..., 0], f_THWC[..., 1], f_THWC[..., 2]
    most = np.maximum(np.maximum(red, green), blue)
    return np.asarray(most - np.minimum(np.minimum(red, green), blue), np.float32)


def hue(colour: Array | Colour) -> float:
    """Degrees round the colour circle, red at 0."""
    red, green, blue = (float(part) for part in colour)
    return float(np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360)


def name_of(colour: Array, names: Mapping[str, Colour]) -> str:
    """The name whose hue is nearest; "" where none is near."""
    apart = {name: abs((hue(colour) - hue(named) + 180) % 360 - 180) for name, named in names.items()}
    nearest = min(apart, key=lambda name: apart[name])
    return nearest if apart[nearest] < _HUE_TOLERANCE else ""


def opened(mask_THW: Mask, size: int = 3) -> Mask:
    """The mask without lines, stars and specks that are thinner than size pixels."""
    kernel = np.ones((size, size), np.uint8)
    frames = mask_THW.astype(np.uint8)
    return np.stack([cv2.morphologyEx(frame, cv2.MORPH_OPEN, kernel) for frame in frames]).astype(bool)


def blobs(mask_HW: Mask, least_px: int = 20) -> list[tuple[float, float, int]]:
    """Centre x, centre y and area of each connected part."""
    n, _, stats, centres = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    return [
        (float(centres[i][0]), float(centres[i][1]), int(areas[i]))
        for i in range(1, n)
        if areas[i] >= least_px
    ]


def centres(weight_THW: Array | Mask) -> tuple[Array, Array, Array]:
    """Centre x, centre y (NaN where nothing is) and weight of every frame."""
    _, height, width = weight_THW.shape
    columns, rows = weight_THW.sum(axis=1), weight_THW.sum(axis=2)
    total = columns.sum(axis=1)
    some = np.where(total > 0, total, np.nan)
    return columns @ (np.arange(width) + 0.5) / some, rows @ (np.arange(height) + 0.5) / some, total


def slope(series: Array) -> float:
    """Change a frame: the median over pairs a quarter of the clip apart, which a gap does not move."""
    lag = max(1, len(series) // 4)
    steps = (series[lag:] - series[:-lag]) / lag
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) if len(steps) else 0.0


def straightness(series: Array) -> float:
    """How much of the variance a straight line explains: near 1 for a trend, near 0 for to and fro."""
    values = series[np.isfinite(series)]
    if len(values) < 4 or float(np.std(values)) < 1e-6:
        return 1.0
    return float(np.corrcoef(np.arange(len(values)), values)[0, 1] ** 2)


def reach(series: Array) -> float:
    """From the 5th to the 95th percentile."""
    values = series[np.isfinite(series)]
    return float(np.subtract(*np.percentile(values, (95, 5)))) if len(values) else 0.0
