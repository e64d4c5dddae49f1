"""What a shot is given to start from: a picture, as the model draws it.

Decides how a picture of any size becomes one of the model's size. Does not decide where pictures may come
from (manifests) or what a model makes of one (families).
"""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST = 64_000_000  # pixels; a larger picture would take a worker's memory for nothing


def _check(image: Image.Image) -> None:
    """Refuse, before it is decoded, what could only be read wrongly."""
    if image.width * image.height > _MOST:
        raise ValueError(f"{image.width} x {image.height} pixels are too many: give {_MOST:,} at most")
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError("it moves: give a still picture")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its channels have more than 8 bits (mode {image.mode}): save it with 8")


def read_picture(file: bytes | BinaryIO, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """A picture f_HWC of this size: turned as its camera says, scaled to cover the size, and cut evenly.

    What is transparent becomes white. Raises ValueError where the file holds no PNG, JPEG or WebP picture, or
    one that is broken, moves, has more than 8 bits a channel, or is too large to be meant.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS) as image:
            _check(image)
            fitted = ImageOps.fit(_opaque(image), (width_px, height_px), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"no picture that can be read: {error}") from error
    return np.asarray(fitted, np.uint8)


def _opaque(image: Image.Image) -> Image.Image:
    """Upright, in RGB, and on white."""
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
