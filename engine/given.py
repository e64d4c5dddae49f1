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


def read_picture(file: bytes | BinaryIO, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """A picture f_HWC of this size: turned as its camera says, scaled to cover the size, and cut evenly.

    Raises ValueError where the file holds none, or one that is broken or too large to be meant.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            fitted = ImageOps.fit(upright, (width_px, height_px), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"no picture that can be read: {error}") from error
    return np.asarray(fitted, np.uint8)
