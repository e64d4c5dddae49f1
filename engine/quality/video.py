"""Any video file as RGB pictures, one in memory at a time, and the size that metrics work at.

Shapes: f_HWC picture, uint8 RGB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from engine.film.encode import Picture
from engine.film.join import video_stream
from engine.film.sheet import EXACT

WORKING_PX = 480  # the longer side: flow costs about 10 ms a pair, and a seam is no matter of fine detail
LEAST_PX = 16  # the shorter side: flow matches patches of 8 px in halved pictures; below, OpenCV may crash


@dataclass(frozen=True)
class Video:
    """What is known of a film before it is decoded; frames are counted, not taken from a header."""

    path: Path
    n_frames: int
    fps: Fraction
    width_px: int
    height_px: int


def open_video(path: Path) -> Video:
    """The facts of a video file. Raises ValueError for what is none, or is too small, with the reason."""
    try:
        with av.open(path) as container:
            stream = video_stream(container, path)
            fps, context = stream.average_rate, stream.codec_context
            count = sum(p.dts is not None and not p.is_discard for p in container.demux(stream))
    except OSError as error:  # FFmpeg's errors are too
        raise ValueError(f"cannot read {path} as a video: {error.strerror or error}") from error
    except av.FFmpegError as error:
        raise ValueError(f"cannot read {path} as a video: {error}") from error
    size = f"{context.width}x{context.height} px"
    if not count or not fps or not context.width or not context.height:
        raise ValueError(f"{path} has {count} frames of {size} at {fps or 'no'} frames a second")
    if min(context.width, context.height) < LEAST_PX:
        raise ValueError(f"{path}: {size} are too small, at least {LEAST_PX}x{LEAST_PX} px can be measured")
    return Video(path, count, fps, context.width, context.height)


def pictures_of(video: Video) -> Iterator[Picture]:
    """Decode a video. Raises ValueError if fewer frames can be read than were counted."""
    count = 0
    try:
        converter = VideoReformatter()
        with av.open(video.path) as container:
            for frame in container.decode(video_stream(container, video.path)):
                rgb = converter.reformat(frame, format="rgb24", interpolation=EXACT)
                yield rgb.to_ndarray().astype(np.uint8, copy=False)
                count += 1
    except av.FFmpegError as error:
        raise ValueError(
            f"{video.path} is damaged after {count} of {video.n_frames} frames: {error}"
        ) from error
    if count < video.n_frames:
        raise ValueError(f"{video.path} is damaged: {count} of {video.n_frames} frames are readable")


def working_size(f_HWC: Picture) -> Picture:
    """The picture, reduced by area averages until its longer side is at most WORKING_PX; never enlarged.

    A very narrow one stays longer, as its shorter side keeps LEAST_PX.
    """
    height, width = f_HWC.shape[:2]
    scale = min(1.0, max(WORKING_PX / max(height, width), LEAST_PX / min(height, width)))
    if scale == 1.0:
        return f_HWC
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(f_HWC, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
