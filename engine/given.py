"""What a shot is given: a picture or a clip, as the model draws it.

Decides how a picture of any size becomes one of the model's size, and which frames of a clip of any rate are
taken. Does not decide where files may come from (manifests) or what a model makes of them (families).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP")
# Playlists are not among them: FFmpeg would follow them to any file or address.
_CLIPS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"}
_LATE_S = Fraction(1, 1000)  # by which times may be, that the coarsest container clock has rounded
_MOST = 64_000_000  # pixels; a larger picture would take a worker's memory for nothing


class _Unfit(ValueError):
    """A picture that is sound, but not one to be drawn from."""


def _check(image: Image.Image) -> None:
    """Refuse, before it is decoded, what could only be read wrongly."""
    if image.width * image.height > _MOST:
        raise _Unfit(f"{image.width} x {image.height} pixels are too many: give {_MOST:,} at most")
    if getattr(image, "n_frames", 1) > 1:
        raise _Unfit("it moves: give a still picture")
    if image.mode.startswith(("I", "F")):
        raise _Unfit(f"its channels have more than 8 bits (mode {image.mode}): save it with 8")


def read_picture(file: bytes | BinaryIO, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """A picture f_HWC of this size: turned as its camera says, scaled to cover the size, and cut evenly.

    What is transparent becomes white. Raises ValueError where the file holds no PNG, JPEG or WebP picture, or
    one that is broken, moves, has more than 8 bits a channel, or is too large to be meant.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS) as image:
            _check(image)
            fitted = ImageOps.fit(_opaque(image), (width_px, height_px), Image.Resampling.LANCZOS)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"no picture that can be read: {_why(error)}") from error
    return np.asarray(fitted, np.uint8)


def _why(error: Exception) -> str:
    """What is wrong with a picture, in other words than Pillow's; what `_check` says is clear already."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(_FORMATS)}, or only the start of one: save it as one of these"
    if isinstance(error, Image.DecompressionBombError):
        return f"its pixels are too many: give {_MOST:,} at most"
    return str(error) if isinstance(error, _Unfit) else "it is damaged or cut short: save or copy it again"


def frame_times(path: Path) -> list[Fraction]:
    """When every frame of a clip is shown, in s from the first, in order; all are decoded for it.

    Raises ValueError where the file holds no video in a known container, or a damaged one.
    """
    times = [time for time, _ in _decoded(path)]
    if not times:
        raise ValueError("no video that can be read: it has no frames")
    return [time - times[0] for time in times]


def read_clip(
    path: Path, width_px: int, height_px: int, fps: Fraction, n_frames: int, *, from_end: bool
) -> npt.NDArray[np.uint8]:
    """So many frames f_THWC of a clip at this size and rate: its first ones, or its last ones.

    Pictures are turned, scaled and cut as read_picture does. Raises ValueError as frame_times does.
    """
    wanted = picked_frames(frame_times(path), fps, n_frames, from_end=from_end)
    size, kept = (width_px, height_px), {}
    for index, (_, frame) in enumerate(_decoded(path)):
        if index in wanted:
            image = Image.fromarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            kept[index] = np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS), np.uint8)
    return np.stack([kept[index] for index in wanted])


def picked_frames(times: Sequence[Fraction], fps: Fraction, n_frames: int, *, from_end: bool) -> list[int]:
    """Which frames of a clip, shown at `times`, are its first or last n_frames at another rate.

    Each is the one that is on the screen at its time; counted from the end, the last is the clip's own. Where
    a clip is too short, its last frame stands still, or from the end, its first.
    """
    start = times[-1] - (n_frames - 1) / fps if from_end else Fraction(0)
    at = (start + number / fps for number in range(n_frames))
    return [max(0, bisect_right(times, time + _LATE_S) - 1) for time in at]


def clip_length(times: Sequence[Fraction], fps: Fraction) -> int:
    """How many frames a clip has at another rate; its last is shown as long as the one before."""
    last = times[-1] - times[-2] if len(times) > 1 else 1 / fps
    return max(1, int((times[-1] + last) * fps + Fraction(1, 2)))


def _decoded(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Every frame of a clip with its time in s, in the order in which they are shown."""
    try:
        with av.open(str(path), options=_CLIPS) as clip:
            if not clip.streams.video:
                raise ValueError("no video that can be read: it has no pictures")
            for frame in clip.decode(clip.streams.video[0]):
                if frame.pts is None or frame.time_base is None:
                    raise ValueError("no video that can be read: a frame has no time")
                yield frame.pts * frame.time_base, frame
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except (av.FFmpegError, OSError) as error:
        raise ValueError(
            "no video that can be read: it is damaged, cut short or of another kind than MP4, MOV, WebM, "
            "MKV, AVI or MPEG: save it again as one of these"
        ) from error


def _opaque(image: Image.Image) -> Image.Image:
    """Upright, in RGB, and on white."""
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
