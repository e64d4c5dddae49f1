"""Films at a glance: a contact sheet with a row for a shot.

Decides: which shots are shown when there are many, which frames stand for a shot, how a sheet is laid out.
Does not decide what a shot is called.

Shapes: f_HWC picture, uint8 RGB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from engine.film.encode import Picture, whole_file
from engine.film.join import video_stream

# FFmpeg's fast conversion darkens by about one level in 255, which would show where a re-encoded segment
# meets a copied one; with these flags, RGB converted back is the same luma to the bit.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
WIDTH_PX = 1600
MARGIN_PX, GAP_PX, HEAD_PX, ROW_GAP_PX = 48, 12, 36, 32
LABEL_PX, NOTE_PX = 20, 15
ROWS = (
    24  # at a glance; all shots of a long film would take memory with its length, and be too tall for a JPEG
)
PAPER, INK, QUIET = (18, 20, 24), (240, 240, 236), (134, 140, 150)
LARGEST = 2.0  # small drafts are enlarged at most this much: more would only show blur


@dataclass(frozen=True)
class Shot:
    """A row of the sheet: a shot, and how large its thumbnails are."""

    segment: Path
    label: str
    frame_count: int
    length_s: float
    still_px: tuple[int, int]  # width, height


def read_pictures(path: Path) -> Iterator[Picture]:
    """Decode a file to RGB pictures, one in memory at a time; ValueError when frames cannot be read."""
    count, converter = 0, VideoReformatter()
    with av.open(path) as container:
        stream = video_stream(container, path)
        for frame in _decoded(container, stream, path):
            count += 1
            rgb = converter.reformat(frame, format="rgb24", interpolation=EXACT)
            yield rgb.to_ndarray().astype(np.uint8, copy=False)
        if count != stream.frames:
            raise ValueError(f"{path} is damaged: {count} of {stream.frames} frames are readable")


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    """The stream's frames; a decoder's error does not name the file, so it is told with the path."""
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def contact_sheet(
    segments: Sequence[Path], labels: Sequence[str], out: Path, *, columns: int = 3, width_px: int = WIDTH_PX
) -> tuple[int, int]:
    """Draw `columns` frames of each shot, first to last, in a row under its label; returns width and height.

    One segment is one shot. Of more than ROWS shots, ROWS evenly spaced ones are shown; the sheet says so.
    Each is decoded once, and memory holds the sheet and one picture. `out` is PNG or JPEG by its ending;
    labels are printable ASCII, which is all that the built-in typeface has.
    """
    if not segments or len(segments) != len(labels) or columns < 1:
        raise ValueError(f"{len(segments)} segments, {len(labels)} labels, {columns} columns make no sheet")
    for label in labels:
        if not (label.isascii() and label.isprintable()):
            raise ValueError(f"the label {label!r} is not printable ASCII")
    room_px = (width_px - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // columns
    if room_px < 1:
        raise ValueError(f"{columns} columns do not fit a sheet of {width_px} px")
    chosen = still_indices(len(segments), min(ROWS, len(segments)))
    shots = [_shot(segments[index], labels[index], room_px) for index in chosen]
    sheet = _draw(shots, columns)
    if len(shots) < len(segments):
        _draw_foot(sheet, f"{len(shots)} of {len(segments)} shots")
    _save(sheet, out)
    return sheet.size


def still_indices(frame_count: int, columns: int) -> list[int]:
    """Which frames stand for a shot: evenly spaced from the first to the last; a single one is the middle."""
    if columns == 1:
        return [frame_count // 2]
    return [round(column * (frame_count - 1) / (columns - 1)) for column in range(columns)]


def _header(segment: Path) -> tuple[int, float, tuple[int, int]]:
    """Frame count, length in seconds and size, as the header says; reading the pictures checks the count."""
    with av.open(segment) as container:
        stream = video_stream(container, segment)
        if not stream.frames or not stream.average_rate:
            raise ValueError(f"{segment} does not say how many frames it has, or how fast they are")
        size = stream.codec_context.width, stream.codec_context.height
        return stream.frames, float(Fraction(stream.frames) / stream.average_rate), size


def _shot(segment: Path, label: str, room_px: int) -> Shot:
    """Thumbnails are as wide as there is room for, or as the pictures bear to be enlarged."""
    count, length_s, (width, height) = _header(segment)
    scale = min(room_px / width, LARGEST)
    return Shot(segment, label, count, length_s, (round(width * scale), max(1, round(height * scale))))


def _stills(shot: Shot, columns: int) -> Iterator[tuple[int, Image.Image]]:
    """Decode a shot once, and give a thumbnail to every column; a short shot shows a frame more than once."""
    wanted = still_indices(shot.frame_count, columns)
    for index, picture in enumerate(read_pictures(shot.segment)):
        if index in wanted:
            still = Image.fromarray(picture).resize(shot.still_px, Image.Resampling.LANCZOS)
            yield from ((column, still) for column in range(columns) if wanted[column] == index)


def _draw(shots: Sequence[Shot], columns: int) -> Image.Image:
    """Lay the rows out under each other on dark paper."""
    cell_px = max(shot.still_px[0] for shot in shots)
    width = 2 * MARGIN_PX + columns * cell_px + (columns - 1) * GAP_PX
    rows = [HEAD_PX + shot.still_px[1] + ROW_GAP_PX for shot in shots]
    sheet = Image.new("RGB", (width, 2 * MARGIN_PX + sum(rows) - ROW_GAP_PX), PAPER)
    top = MARGIN_PX
    for shot, height in zip(shots, rows, strict=True):
        _draw_head(ImageDraw.Draw(sheet), shot, top, width)
        for column, still in _stills(shot, columns):
            sheet.paste(still, (MARGIN_PX + column * (cell_px + GAP_PX), top + HEAD_PX))
        top += height
    return sheet


def _draw_head(pen: ImageDraw.ImageDraw, shot: Shot, top: int, width: int) -> None:
    """Write the shot's label on the left, and its length on the right where there is room."""
    large, small = ImageFont.load_default(LABEL_PX), ImageFont.load_default(NOTE_PX)
    baseline, right = top + HEAD_PX - GAP_PX, width - MARGIN_PX
    pen.text((MARGIN_PX, baseline), shot.label, fill=INK, font=large, anchor="ls")
    note = f"{shot.frame_count} frames, {shot.length_s:.1f} s"
    if MARGIN_PX + large.getlength(shot.label) + 2 * GAP_PX + small.getlength(note) <= right:
        pen.text((right, baseline), note, fill=QUIET, font=small, anchor="rs")


def _draw_foot(sheet: Image.Image, note: str) -> None:
    """Write a note into the margin below the rows."""
    at = (MARGIN_PX, sheet.height - MARGIN_PX // 2)
    ImageDraw.Draw(sheet).text(at, note, fill=QUIET, font=ImageFont.load_default(NOTE_PX), anchor="lm")


def _save(image: Image.Image, out: Path) -> None:
    """Write the image whole or not at all."""
    kind = FORMATS.get(out.suffix.lower())
    if kind is None:
        raise ValueError(f"{out} must end in one of {', '.join(FORMATS)}")
    with whole_file(out) as partial:
        image.save(partial, format=kind, quality=92)
