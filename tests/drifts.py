"""Clips of chalk's teacher, which are steady, and the same made to drift by a known line."""

import cv2
import numpy as np

from engine.chalk.teacher import FPS, SIZES, draw
from engine.quality.film import sample_indices
from engine.quality.frames import measure_frames
from engine.quality.trends import drift


def drawn(scene, seconds=20):
    """A composed clip f_THWC."""
    rng = np.random.default_rng(0)
    return draw(scene, rng, n_frames=seconds * FPS, size=SIZES[0], composed=True)


def drifting(f_THWC, de_per_min, direction=(0.6, 0.0, 0.8)):
    """The clip, all of whose colours drift evenly in L*a*b*."""
    moved = []
    for t, picture in enumerate(f_THWC):
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        lab += np.float32(direction) * np.float32(de_per_min * t / FPS / 60)
        moved.append((cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8))
    return np.stack(moved)


def drift_of(pictures):
    """As `longtake quality` measures it."""
    at = frozenset(sample_indices(len(pictures), FPS))
    return drift(measure_frames(pictures, at, frozenset()), FPS).de_per_min
