"""Captions: text to timed cues that no script is broken by, WebVTT, and language codes for MP4.

Lengths count grapheme clusters, because a conjunct of several code points is one sign on the screen.
"""

import math
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import regex  # type: ignore[import-untyped]

LINE_CLUSTERS = 42
LINES = 2
_NO_BREAK = "\u00a0"
_SPACES = re.compile(r"[^\S\u00a0\u202f]+")  # no-break spaces are there to hold words together
_CLOSING = re.compile(r"[।॥\u06d4؟،.,;:!?)\]}»”\u2019…]+")
_ISO_639_2 = {
    "as": "asm",
    "bn": "ben",
    "en": "eng",
    "gu": "guj",
    "hi": "hin",
    "kn": "kan",
    "ml": "mal",
    "mr": "mar",
    "or": "ori",
    "pa": "pan",
    "ta": "tam",
    "te": "tel",
    "ur": "urd",
}


@dataclass(frozen=True)
class Cue:
    """One caption; its lines are separated by a newline."""

    start_s: float
    stop_s: float
    text: str


def clusters(text: str) -> int:
    """Count grapheme clusters."""
    return len(regex.findall(r"\X", text))


def cues(text: str, start_s: float, stop_s: float) -> list[Cue]:
    """Spread text over the span in cues of at most two lines; a word longer than a line has its own line."""
    if not (math.isfinite(stop_s) and 0 <= start_s < stop_s):
        raise ValueError(f"captions need a span of time, not {start_s} to {stop_s}")
    lines = _lines(_words(text))
    blocks = [_balance(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]
    ends = list(accumulate(clusters(block) for block in blocks))
    times = [start_s] + [start_s + (stop_s - start_s) * end / ends[-1] for end in ends[:-1]] + [stop_s]
    return [Cue(times[at], times[at + 1], block) for at, block in enumerate(blocks)]


def _words(text: str) -> list[str]:
    """Split at spaces, but keep a danda or another closing mark with the word before it."""
    words: list[str] = []
    for word in filter(None, _SPACES.split(text)):
        if words and _CLOSING.fullmatch(word):
            words[-1] += _NO_BREAK + word
        else:
            words.append(word)
    return words


def _lines(words: list[str]) -> list[str]:
    """Fill lines with as many words as fit."""
    lines: list[str] = []
    for word in words:
        if lines and clusters(f"{lines[-1]} {word}") <= LINE_CLUSTERS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _balance(lines: list[str]) -> str:
    """Break a cue where its longer line is shortest: a full line above one word reads badly."""
    if len(lines) < LINES:
        return "\n".join(lines)
    words = " ".join(lines).split(" ")
    pairs = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    return "\n".join(min(pairs, key=lambda pair: max(map(clusters, pair))))


def write_webvtt(cues: Sequence[Cue], path: str | os.PathLike[str]) -> None:
    """Write cues as WebVTT; the file appears whole or not at all."""
    blocks = ["WEBVTT"] + [_block(cue) for cue in cues]
    _replace(Path(path), ("\n\n".join(blocks) + "\n").encode())


def _block(cue: Cue) -> str:
    """Render one cue."""
    start, stop = _clock(cue.start_s), _clock(cue.stop_s)
    if start >= stop:  # players drop such a cue without a word
        raise ValueError(f"the caption {cue.text!r} lasts less than a millisecond")
    # A bare & or < starts markup, and --> would start another cue.
    text = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{start} --> {stop}\n{text}"


def _clock(seconds: float) -> str:
    """Format seconds as hh:mm:ss.mmm."""
    minutes, ms = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _replace(path: Path, data: bytes) -> None:
    """Put data at path in one step, so that no reader sees half a file."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)  # mkstemp lets only the owner read
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def iso_639_2(lang: str) -> str:
    """Return the three letters by which MP4 names a BCP-47 language."""
    code = _ISO_639_2.get(lang.split("-")[0].lower())
    if code is None:
        raise ValueError(f"no MP4 code for language {lang!r}; there are {', '.join(_ISO_639_2)}")
    return code
