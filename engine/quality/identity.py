"""Is it still the same place and thing? Colour and layout of anchor frames over their distance in time.

No network, so no semantics: what these see is colours and where light and dark lie. The curve's shape tells
blending, which falls to its floor within a window and stays there, from drift, which decays slowly.

Shapes: f_HWC picture, uint8 RGB. n anchors.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.film.encode import Picture
from engine.quality.flow import luma_of

HUES, SATURATIONS, VALUES = 16, 8, 8
THUMBNAIL_PX = 32
LEAST_FEATURES = 24  # of the first frame; a plain picture has too few to say anything
FEATURES = 300
REPROJECTION_PX = 3.0
MOST_ANCHORS = 256  # compared, each with each


@dataclass(frozen=True, eq=False)
class Anchor:
    """What is kept of a frame: roots of its HSV histogram, its 32x32 luma (mean 0, norm 1), ORB inliers.

    `inliers` is the share of the first frame's features found again, consistent with one homography; None
    where the first frame has too few.
    """

    index: int
    histogram: NDArray[np.float32]
    thumbnail: NDArray[np.float32]
    inliers: float | None


@dataclass(frozen=True)
class Lag:
    """Anchors `lag_s` apart: mean Bhattacharyya distance (0 same, 1 nothing shared), mean correlation."""

    lag_s: float
    distance: float
    correlation: float
    n_pairs: int


class Likeness:
    """Collects a span's anchors; remembers its first frame's features."""

    def __init__(self) -> None:
        self.anchors: list[Anchor] = []
        self.orb = cv2.ORB.create(FEATURES)
        self.first: tuple[Any, Any] = ((), None)

    def see(self, index: int, f_HWC: Picture, keep: bool) -> None:
        """Look at the span's next frame, and keep it as an anchor if asked."""
        if index and not keep:
            return
        luma = luma_of(f_HWC)
        found = self.orb.detectAndCompute(luma, None)
        if not index:
            self.first = found
        if keep:
            self.anchors.append(
                Anchor(index, hsv_histogram(f_HWC), luma_thumbnail(luma), inliers(self.first, found))
            )


def hsv_histogram(f_HWC: Picture) -> NDArray[np.float32]:
    """Square roots of the shares of HSV bins: a product of two is the Bhattacharyya coefficient."""
    hsv = cv2.cvtColor(f_HWC, cv2.COLOR_RGB2HSV)
    bins, limits = [HUES, SATURATIONS, VALUES], [0, 180, 0, 256, 0, 256]
    counts = cv2.calcHist([hsv], [0, 1, 2], None, bins, limits)
    shares = np.asarray(counts, dtype=np.float32).ravel() / counts.sum()
    return np.asarray(np.sqrt(shares), dtype=np.float32)


def luma_thumbnail(luma_HW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luma at 32x32, mean 0 and norm 1, flat: a product of two is their correlation."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = np.asarray(cv2.resize(luma_HW, size, interpolation=cv2.INTER_AREA), dtype=np.float32).ravel()
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    return small / norm if norm > 0 else small


def inliers(first: tuple[Any, Any], now: tuple[Any, Any]) -> float | None:
    """The share of the first frame's ORB features that one homography finds again (RANSAC)."""
    (points, words), (points_now, words_now) = first, now
    if len(points) < LEAST_FEATURES:
        return None
    if words_now is None:
        return 0.0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, words_now)
    if len(matches) < 4:
        return 0.0
    source = np.asarray([points[m.queryIdx].pt for m in matches], dtype=np.float32)
    target = np.asarray([points_now[m.trainIdx].pt for m in matches], dtype=np.float32)
    cv2.setRNGSeed(0)  # RANSAC draws from it: the same film has the same figures
    _, mask = cv2.findHomography(source, target, cv2.RANSAC, REPROJECTION_PX)
    return 0.0 if mask is None else float(mask.sum()) / len(points)


def identity_curve(anchors: tuple[Anchor, ...], fps: float) -> tuple[Lag, ...]:
    """Likeness of all pairs of anchors by how many anchors apart, nearest first; () for fewer than two.

    Of very many anchors MOST_ANCHORS are compared, evenly spaced.
    """
    if len(anchors) > MOST_ANCHORS:
        chosen = np.linspace(0, len(anchors) - 1, MOST_ANCHORS).round().astype(int)
        anchors = tuple(anchors[i] for i in chosen)
    if len(anchors) < 2:
        return ()
    histograms = np.stack([anchor.histogram for anchor in anchors])
    thumbnails = np.stack([anchor.thumbnail for anchor in anchors])
    distance = np.sqrt(np.clip(1 - histograms @ histograms.T, 0, 1))
    correlation = thumbnails @ thumbnails.T
    times = np.asarray([anchor.index for anchor in anchors]) / fps
    return tuple(_lag(k, times, distance, correlation) for k in range(1, len(anchors)))


def _lag(
    k: int, times: NDArray[np.float64], distance: NDArray[np.float32], correlation: NDArray[np.float32]
) -> Lag:
    """All pairs that are k anchors apart."""
    lag_s = float((times[k:] - times[:-k]).mean())
    distances, correlations = np.diagonal(distance, k), np.diagonal(correlation, k)
    return Lag(round(lag_s, 3), float(distances.mean()), float(correlations.mean()), len(distances))
