"""Frames of the size that a model draws, as frames of the size that a film has."""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from engine.film.encode import Picture


def scaled(frames: Iterable[Picture], width_px: int, height_px: int) -> Iterator[Picture]:
    """Each picture (H, W, 3) at the film's size, by Lanczos; unchanged where it has that size already."""
    for frame in frames:
        if frame.shape[:2] == (height_px, width_px):
            yield frame
        else:
            image = Image.fromarray(frame).resize((width_px, height_px), Image.Resampling.LANCZOS)
            yield np.asarray(image)
