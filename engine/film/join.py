"""Joins closed-GOP segments into one film by copying packets: no picture is encoded twice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from engine.film.encode import mp4_options, whole_file


@dataclass(frozen=True)
class Header:
    """What two segments must share to play as one stream."""

    size: str
    rate: Fraction | None
    time_base: Fraction | None
    extradata: bytes


def video_stream(container: av.container.InputContainer, path: Path) -> VideoStream:
    """The video stream of an open file."""
    if not container.streams.video:
        raise ValueError(f"{path} holds no readable video")
    return container.streams.video[0]


def read_header(path: Path) -> Header:
    """The header of a segment's video stream."""
    with av.open(path) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        size = f"{context.width}x{context.height}"
        return Header(size, stream.average_rate, stream.time_base, bytes(context.extradata or b""))


def check_alike(first: Path, other: Path) -> Fraction:
    """Refuse two segments that a player could not show as one stream; returns their common rate."""
    a, b = read_header(first), read_header(other)
    for name in ("size", "rate", "time_base"):  # equal rates on unequal clocks would round timestamps
        if getattr(a, name) != getattr(b, name):
            difference = f"{name} {getattr(a, name)} against {getattr(b, name)}"
            raise ValueError(f"cannot join {first} and {other}: {difference}")
    if a.extradata != b.extradata:
        # FFmpeg would write several sample descriptions, which hardware players need not support.
        raise ValueError(f"cannot join {first} and {other}: they were encoded with different settings")
    if a.rate is None:
        raise ValueError(f"cannot join {first}: its frame rate is unknown")
    return a.rate


def video_packets(path: Path) -> "Iterator[Packet[VideoStream]]":
    """The packets of a file's video stream in decoding order."""
    with av.open(path) as container:
        for packet in container.demux(video_stream(container, path)):
            if packet.dts is not None:  # the demuxer ends with an empty packet that flushes decoders
                yield packet


def count_frames(path: Path) -> int:
    """How many pictures a file holds, counted rather than taken from its header."""
    return sum(1 for _ in video_packets(path))


def copy_packets(
    path: Path, out: av.container.OutputContainer, stream: VideoStream, first: int, fps: Fraction
) -> int:
    """Mux a segment's packets so that it begins at frame `first`; returns how many there were."""
    count = expected = 0
    for packet in video_packets(path):
        source, expected = packet.stream, packet.stream.frames
        tick = int(1 / fps / packet.time_base)
        assert packet.pts is not None
        packet.pts += first * tick - (source.start_time or 0)
        # Segments shorter than the reorder depth carry a smaller delay of their own, so decoding
        # times are counted through the film instead of shifted: else they would step back at a joint.
        packet.dts = (first + count - source.codec_context.reorder_depth) * tick
        packet.stream = stream
        count += not packet.is_corrupt
        out.mux(packet)
    if count != expected:
        raise ValueError(f"{path} is damaged: {count} of {expected} frames are readable")
    return count


def join_segments(paths: Sequence[Path], out: Path) -> int:
    """Join segments in order into the MP4 file `out` without re-encoding; returns the frame count.

    Segments that differ in size, rate or encoder settings are refused before anything is written.
    """
    if not paths:
        raise ValueError(f"no segments to join into {out}")
    rates = [check_alike(paths[0], path) for path in paths]
    fps = rates[0]
    count = 0
    with whole_file(out) as partial, av.open(partial, "w", format="mp4", options=mp4_options(fps)) as film:
        with av.open(paths[0]) as template:
            stream = film.add_stream_from_template(template.streams.video[0])
            stream.time_base = template.streams.video[0].time_base
        for path in paths:
            count += copy_packets(path, film, stream, count, fps)
    return count
