"""One segment of the film: pictures in, a closed-GOP H.264 file out, one frame in memory at a time.

Segments are made by different workers and joined later without re-encoding, so all settings that reach the
stream's header are fixed here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from uuid import uuid4

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
# No picture refers across a segment's edge, and stitchable keeps the header free of per-segment tuning.
CLOSED_GOP = "keyint=48:min-keyint=48:scenecut=0:open-gop=0:stitchable=1"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to; it becomes `path` on success and is removed on failure."""
    # The same folder means the same file system, which is what makes the rename atomic.
    partial = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def mp4_options(fps: Fraction) -> dict[str, str]:
    """Muxer options: the index first, and clocks in which one frame is a whole number of ticks."""
    # The edit list is counted in the movie clock: at its default of 1000 Hz the film's end would be rounded.
    clock = str(fps.numerator)
    return {"movflags": "+faststart", "video_track_timescale": clock, "movie_timescale": clock}


def picture_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of an RGB picture that 4:2:0 chroma can carry."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"expected height x width x 3 uint8, got shape {picture.shape} of {picture.dtype}")
    height, width, _ = picture.shape
    if width % 2 or height % 2 or not picture.size:
        raise ValueError(f"width and height must be even and not zero, got {width}x{height}")
    return width, height


def to_video_frame(picture: Picture, index: int, converter: VideoReformatter) -> av.VideoFrame:
    """The picture as limited-range BT.709 4:2:0, shown at frame `index`.

    One converter serves a whole film: its tables take longer to set up than a small picture to convert.
    """
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    # Without a named target FFmpeg converts with BT.601, and the tags would then shift every colour.
    frame = converter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709)
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
    frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    frame.pts = index
    return frame


def add_video_stream(
    container: av.container.OutputContainer, size: tuple[int, int], fps: Fraction, crf: int, preset: str
) -> VideoStream:
    """A BT.709 H.264 stream that counts time in frames."""
    options = {"preset": preset, "crf": str(crf), "x264-params": CLOSED_GOP}
    stream = container.add_stream("libx264", rate=fps, options=options)
    context = stream.codec_context
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = 1 / fps
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def encode_segment(
    frames: Iterable[Picture], path: Path, fps: Fraction, *, crf: int = 18, preset: str = "medium"
) -> int:
    """Encode RGB pictures to the MP4 file `path` at exactly `fps`; returns how many there were.

    Frames are pulled as the encoder needs them, and `path` appears only when the file is complete.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise ValueError(f"no frames to encode for {path}")
    size, count = picture_size(first), 0
    with whole_file(path) as partial, av.open(partial, "w", format="mp4", options=mp4_options(fps)) as out:
        stream, converter = add_video_stream(out, size, fps, crf, preset), VideoReformatter()
        for count, picture in enumerate(chain([first], source), start=1):
            if picture_size(picture) != size:
                was, now = "{}x{}".format(*size), "{}x{}".format(*picture_size(picture))
                raise ValueError(f"frame {count - 1} is {now}, the segment began at {was}")
            out.mux(stream.encode(to_video_frame(picture, count - 1, converter)))
        out.mux(stream.encode(None))
    return count
