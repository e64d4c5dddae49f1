"""From shared segments to one language version: burn the title, join, narrate, mux, sign.

Decides: the order, how a title fades and where a narration lies in time. Does not decide: how a title looks
(titles), how a voice sounds (voice), how loud it is (track) or how captions break (captions).

Shapes: f_HWC picture, uint8 RGB; tile_HW4 title, uint8 RGBA, straight alpha.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.film.captions import Cue, cues, write_webvtt
from engine.film.encode import Picture, encode_segment
from engine.film.join import count_frames, join_segments, read_header
from engine.film.mux import mux_film
from engine.film.provenance import Claim, Identity, sign
from engine.film.sheet import read_pictures
from engine.film.titles import draw_title
from engine.film.track import SAMPLE_BYTES, Samples, Track, level, place
from engine.film.voice import NarrationTooLong, Speech, fit

VOICE_RATE_HZ = 22_050  # of a track on which nobody speaks
ROUNDING_S = 1e-3  # how far a sum of shot lengths may be off


@dataclass(frozen=True)
class Line:
    """A narration and the span of its shot, in seconds from the film's start."""

    text: str
    start_s: float
    max_s: float


class LineTooLong(NarrationTooLong):
    """A narration does not fit its shot; `index` says which line, so that the caller can name the shot."""

    def __init__(self, index: int, line: Line, natural_s: float, fastest_s: float, words_to_cut: int) -> None:
        """Keep the line beside the lengths."""
        super().__init__(natural_s, fastest_s, line.max_s, words_to_cut)
        self.index, self.line = index, line

    def __str__(self) -> str:
        """Say where before what."""
        return f"line {self.index}, at {self.line.start_s:.2f} s: {super().__str__()}"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Travel between processes: an exception is otherwise rebuilt from its message alone."""
        return type(self), (self.index, self.line, self.natural_s, self.fastest_s, self.words_to_cut)


@dataclass(frozen=True)
class Version:
    """What makes one language version differ from the others; an empty title burns nothing in.

    `crf` and `preset` must be the segments' own, or the title segment would not join them.
    """

    lang: str
    title: str
    lines: tuple[Line, ...]
    claim: Claim
    fps: Fraction
    crf: int = 18
    preset: str = "medium"


@dataclass(frozen=True)
class VersionFacts:
    """What a finished version measures; `captions` is the WebVTT file beside it, None without narration."""

    frame_count: int
    duration_s: float
    width_px: int
    height_px: int
    size_bytes: int
    captions: Path | None


def opacity(time_s: float, show_s: float, fade_s: float) -> float:
    """How much of a title shown from 0 to show_s is seen: eased in and out over fade_s at either end."""
    edge_s = min(time_s, show_s - time_s)
    if edge_s < 0:
        return 0.0
    share = min(1.0, edge_s / fade_s) if fade_s > 0 else 1.0
    return share * share * (3 - 2 * share)


def title_segment(
    source: Path,
    target: Path,
    tile: NDArray[np.uint8],
    fps: Fraction,
    *,
    show_s: float = 3.0,
    fade_s: float = 0.5,
    crf: int = 18,
    preset: str = "medium",
) -> int:
    """Re-encode a segment with tile_HW4 over its first show_s seconds, or all of it; returns the frame count.

    A segment of another rate than `fps` or another size than the tile raises ValueError. One picture is in
    memory at a time. The result joins segments that were encoded with the same `crf` and `preset`.
    """
    header, count = read_header(source), count_frames(source)
    height, width = tile.shape[:2]
    if header.rate != fps:
        raise ValueError(f"{source} has {header.rate} frames a second, not {fps}")
    if header.size != f"{width}x{height}":
        raise ValueError(f"the title is {width}x{height} px and {source} is {header.size} px")
    show_s = min(show_s, float(count / fps))
    seen = (opacity(float(index / fps), show_s, min(fade_s, show_s / 2)) for index in range(count))
    pictures = _titled(read_pictures(source), tile, seen)
    return encode_segment(pictures, target, fps, crf=crf, preset=preset)


def _titled(pictures: Iterator[Picture], tile: NDArray[np.uint8], seen: Iterator[float]) -> Iterator[Picture]:
    """Blend the tile over each picture; only the box that holds ink is computed."""
    inked = [np.flatnonzero(tile[..., 3].any(axis=axis)) for axis in (1, 0)]
    box = tuple(slice(at[0], at[-1] + 1) if at.size else slice(0) for at in inked)
    ink_HWC = tile[box][..., :3].astype(np.float32)
    alpha_HW1 = tile[box][..., 3:].astype(np.float32) / 255
    for f_HWC, share in zip(pictures, seen, strict=True):
        if share > 0:
            under = f_HWC[box].astype(np.float32)
            f_HWC[box] = np.rint(under + share * alpha_HW1 * (ink_HWC - under)).astype(np.uint8)
        yield f_HWC


def narrate(lines: Sequence[Line], lang: str, total_s: float, folder: Path) -> tuple[Samples, int, list[Cue]]:
    """Speak each line in its shot on one track of total_s seconds; returns samples, their rate in Hz, cues.

    The samples lie in files in `folder`, and come into memory a line at a time. A caption lasts as long as
    its words are spoken, not as long as the shot. Lines must come in order and end before the film does, else
    ValueError; one that is too long even when spoken fast raises LineTooLong.
    """
    _check_order(lines, total_s)
    rate, captions = VOICE_RATE_HZ, []
    limits = [*(line.start_s for line in lines), total_s][1:]
    spoken = Track(folder / "spoken.f32")
    with spoken.path.open("wb") as file:
        for index, (line, limit_s) in enumerate(zip(lines, limits, strict=True)):
            speech = _speak(index, line, lang)
            rate, start = speech.sample_rate, max(0, round(line.start_s * speech.sample_rate))
            # Sums of shot lengths are rounded, so a line may seem to reach a hair into the next.
            place(speech.samples[: round(limit_s * rate) - start], start, file)
            captions += cues(line.text, line.start_s, min(line.start_s + speech.length_s, limit_s))
        file.truncate(round(total_s * rate) * SAMPLE_BYTES)
    return level(spoken, rate, folder / "levelled.f32"), rate, captions


def _check_order(lines: Sequence[Line], total_s: float) -> None:
    """Refuse lines that would speak over each other or after the end."""
    free_s = 0.0
    for index, line in enumerate(lines):
        stop_s = line.start_s + line.max_s
        span = f"line {index} spans {line.start_s:.3f} to {stop_s:.3f} s"
        if line.start_s < free_s - ROUNDING_S:
            raise ValueError(f"{span}, but the one before it ends at {free_s:.3f} s")
        if stop_s > total_s + ROUNDING_S:
            raise ValueError(f"{span}, but the film ends at {total_s:.3f} s")
        free_s = stop_s


def _speak(index: int, line: Line, lang: str) -> Speech:
    """Fit one line into its shot."""
    try:
        return fit(line.text, lang, line.max_s)
    except NarrationTooLong as error:
        cause = (error.natural_s, error.fastest_s, error.words_to_cut)
        raise LineTooLong(index, line, *cause) from error


def make_version(
    segments: Sequence[Path], out: Path, version: Version, identity: Identity, workdir: Path
) -> VersionFacts:
    """Finish one language in `out`, with its captions beside it as .vtt; returns what was made.

    All segments but the first are copied, so their pictures are those of every other language. Nothing is
    left in `workdir`; `out` appears whole and signed, after its captions. Raises what its steps raise.
    """
    if not segments:
        raise ValueError(f"no segments to finish into {out}")
    with tempfile.TemporaryDirectory(prefix=".version-", dir=workdir) as folder:
        pictures, film = Path(folder, "pictures.mp4"), Path(folder, "film.mp4")
        first = _with_title(segments[0], Path(folder, "title.mp4"), version)
        frame_count = join_segments([first, *segments[1:]], pictures)
        total_s = float(frame_count / version.fps)
        samples, rate, spoken = narrate(version.lines, version.lang, total_s, Path(folder))
        mux_film(
            pictures,
            film,
            lang=version.lang,
            title=version.title,
            audio=(samples, rate) if version.lines else None,
            cues=spoken,
            fps=version.fps,
        )
        captions = out.with_suffix(".vtt") if spoken else None
        if captions is not None:
            write_webvtt(spoken, captions)
        sign(film, out, version.claim, identity)  # any later write would make the signature invalid
    width, height = map(int, read_header(out).size.split("x"))
    return VersionFacts(frame_count, total_s, width, height, out.stat().st_size, captions)


def _with_title(segment: Path, target: Path, version: Version) -> Path:
    """The first segment with the title burnt in, or as it is if there is none."""
    if not version.title:
        return segment
    width, height = map(int, read_header(segment).size.split("x"))
    tile = draw_title(version.title, version.lang, width, height)
    title_segment(segment, target, tile, version.fps, crf=version.crf, preset=version.preset)
    return target
