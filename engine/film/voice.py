"""Draft narration by eSpeak NG, always in a helper process.

The library is GPL-3 and keeps its state in globals, so this process never loads it: the helper takes one JSON
request on stdin and answers with one JSON line and raw little-endian 16-bit samples.
"""

import ctypes
import importlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LANGUAGES = ("as", "bn", "en", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te", "ur")
FASTEST = 1.15  # beyond this a narration sounds hurried
NATURAL_WPM = 175  # the library's own default pace
SLOWEST_WPM, HIGHEST_WPM = 80, 450  # what the library accepts
TIMEOUT_S = 60.0  # synthesis takes tens of milliseconds; a minute means that the helper hangs

# Constants of speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _RATE, _UTF8, _CHARACTER_POSITION = 2, 0x8000, 1, 1, 1
_EVENT_END, _EVENT_WORD = 0, 1


class Span(NamedTuple):
    """One spoken word: its characters in the text and its time in seconds."""

    char_start: int
    char_stop: int
    start_s: float
    stop_s: float


@dataclass(frozen=True, eq=False)  # arrays have no single truth value, so == would raise
class Speech:
    """Mono narration with the times of its words."""

    samples: npt.NDArray[np.float32]
    sample_rate: int
    words: tuple[Span, ...]

    @property
    def length_s(self) -> float:
        """Length of the narration in seconds."""
        return len(self.samples) / self.sample_rate


class VoiceError(RuntimeError):
    """The helper process failed, hung or answered nonsense."""


class NarrationTooLong(ValueError):
    """The text does not fit its shot even at the fastest pace."""

    def __init__(self, natural_s: float, fastest_s: float, max_s: float, words_to_cut: int) -> None:
        """Keep the lengths, so that a report can name them."""
        super().__init__(
            f"the narration takes {natural_s:.2f} s ({fastest_s:.2f} s at {FASTEST}x) and the shot has "
            f"{max_s:.2f} s: cut about {words_to_cut} word{'s' if words_to_cut > 1 else ''}"
        )
        self.natural_s, self.fastest_s, self.max_s = natural_s, fastest_s, max_s
        self.words_to_cut = words_to_cut

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Travel between processes: an exception is otherwise rebuilt from its message alone."""
        return type(self), (self.natural_s, self.fastest_s, self.max_s, self.words_to_cut)


def speak(text: str, language: str, rate: float = 1.0) -> Speech:
    """Speak text in a BCP-47 language; rate 1.0 is the voice's own pace."""
    if not math.isfinite(rate):
        raise ValueError(f"rate must be a finite number, not {rate}")
    return _speak_at(text, language, round(NATURAL_WPM * rate))


def fit(text: str, language: str, max_s: float) -> Speech:
    """Speak text in at most max_s seconds, as slowly as that allows, or raise NarrationTooLong."""
    if not (math.isfinite(max_s) and max_s > 0):
        raise ValueError(f"max_s must be a positive number of seconds, not {max_s}")
    natural = speak(text, language)
    if natural.length_s <= max_s:
        return natural
    fastest_wpm = math.floor(NATURAL_WPM * FASTEST)
    fastest = _speak_at(text, language, fastest_wpm)
    if fastest.length_s > max_s:
        cut = math.ceil(len(text.split()) * (1 - max_s / fastest.length_s))
        raise NarrationTooLong(natural.length_s, fastest.length_s, max_s, cut)
    return _slowest_that_fits(text, language, max_s, fastest, fastest_wpm)


def _slowest_that_fits(text: str, language: str, max_s: float, best: Speech, best_wpm: int) -> Speech:
    """Bisect the pace between natural, which is too long, and best_wpm, which fits."""
    too_slow = NATURAL_WPM
    while best_wpm - too_slow > 1:
        wpm = (best_wpm + too_slow) // 2
        tried = _speak_at(text, language, wpm)
        if tried.length_s <= max_s:
            best, best_wpm = tried, wpm
        else:
            too_slow = wpm
    return best


def _speak_at(text: str, language: str, wpm: int) -> Speech:
    """Check the request, ask the helper and read its answer."""
    # The library stops at a NUL: the rest of the narration would be lost without a word.
    if not text.strip() or "\0" in text:
        raise ValueError("the text to speak must not be blank or hold a NUL character")
    if not SLOWEST_WPM <= wpm <= HIGHEST_WPM:
        low, high = SLOWEST_WPM / NATURAL_WPM, HIGHEST_WPM / NATURAL_WPM
        raise ValueError(f"rate {wpm / NATURAL_WPM:.2f} is outside {low:.2f} to {high:.2f}")
    request = {"text": text, "voice": _voice(language), "wpm": wpm}
    return _parse(_ask(json.dumps(request).encode()))


def _voice(language: str) -> str:
    """Return the library's voice name: the primary subtag of the language."""
    primary = language.split("-")[0].lower()
    if primary not in LANGUAGES:
        raise ValueError(f"no voice for language {language!r}; there are {', '.join(LANGUAGES)}")
    return primary


def _ask(request: bytes) -> bytes:
    """Run the helper once; a process for each request also makes equal requests sound equal."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "engine.film.voice"]  # -P: never a module of the current folder
    env = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=TIMEOUT_S, env=env)
    except subprocess.TimeoutExpired as error:
        raise VoiceError(f"the voice gave no answer in {TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()[-500:]
        raise VoiceError(f"the voice ended with status {done.returncode}: {reason}")
    return done.stdout


def _parse(answer: bytes) -> Speech:
    """Read the helper's answer: a JSON line, then the samples it announces."""
    head, _, pcm = answer.partition(b"\n")
    try:
        header = json.loads(head)
        rate, count = int(header["sample_rate"]), int(header["samples"])
        words = tuple(Span(*word) for word in header["words"])
    except (ValueError, KeyError, TypeError) as error:
        raise VoiceError(f"the voice answered with a broken header: {head[:100]!r}") from error
    if rate <= 0 or count <= 0 or len(pcm) != 2 * count:
        raise VoiceError(f"the voice announced {count} samples at {rate} Hz and sent {len(pcm)} bytes")
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)
    return Speech(samples, rate, words)


# What follows runs in the helper process only.


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; the last field is a union of eight bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _check(status: int, what: str) -> None:
    """Stop the helper when a call of the library failed."""
    if status != 0:
        raise SystemExit(f"eSpeak NG could not {what} (status {status})")


def _load(voice: str, wpm: int) -> tuple[ctypes.CDLL, int]:
    """Load and set up the library; return it with its sample rate."""
    loader = importlib.import_module("espeakng_loader")  # untyped, and wanted in the helper only
    library = ctypes.CDLL(loader.get_library_path())
    data = os.fsencode(loader.get_data_path())
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
    if sample_rate <= 0:
        raise SystemExit("eSpeak NG could not read its data")
    _check(library.espeak_SetVoiceByName(voice.encode()), f"select the voice {voice}")
    _check(library.espeak_SetParameter(_RATE, wpm, 0), f"speak at {wpm} words a minute")
    return library, sample_rate


def _synthesise(library: ctypes.CDLL, text: str) -> tuple[bytes, list[tuple[int, int, float]]]:
    """Return native 16-bit samples, and for each word its first and last character and its start."""
    pcm, words = bytearray(), []

    def collect(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_WORD:
                first = event.text_position - 1  # the library counts from one
                words.append((first, first + event.length, event.audio_position / 1000))
            index += 1
        return 0

    callback = _Callback(collect)  # a name keeps it alive while the library holds its address
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    size, start = ctypes.c_size_t(len(data) + 1), ctypes.c_uint(0)
    status = library.espeak_Synth(data, size, start, _CHARACTER_POSITION, 0, _UTF8, None, None)
    _check(status, "speak the text")
    return bytes(pcm), words


def _spans(words: list[tuple[int, int, float]], length_s: float) -> list[Span]:
    """Let each word last until the next one starts."""
    stops = [word[2] for word in words[1:]] + [length_s]
    return [Span(*word, stop) for word, stop in zip(words, stops, strict=False)]


def main() -> None:
    """Answer the one request on stdin."""
    request = json.load(sys.stdin.buffer)
    library, sample_rate = _load(request["voice"], request["wpm"])
    pcm, words = _synthesise(library, request["text"])
    samples = np.frombuffer(pcm, dtype=np.int16).astype("<i2")
    spans = _spans(words, len(samples) / sample_rate)
    header = {"sample_rate": sample_rate, "samples": len(samples), "words": spans}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + samples.tobytes())


if __name__ == "__main__":
    main()
