"""A voice track longer than memory: samples in a file, levelled and handed on a second at a time.

Decides: how loud a voice is. Does not decide: what is said and when (finish), or how it is coded (mux).

Audio is mono float32, one axis, and is taken by slices, so that an array serves as well as a file.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

Block = NDArray[np.float32]
Filter = tuple[str, str]  # name and options, as FFmpeg has them

LOUDNESS_LUFS = -16.0  # what web players expect
PEAK = 10 ** (-2 / 20)  # of full scale; the 2 dB are for what AAC and players add between samples
SILENT_LUFS = -70.0  # what the meter says when nothing passes its gate
SAMPLE_BYTES = np.dtype(np.float32).itemsize


class Samples(Protocol):
    """Mono float32 samples: an array, or a Track."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, span: slice, /) -> Block:
        """The samples of a span without a step, clipped to those there are."""


@dataclass(frozen=True)
class Track:
    """Samples that lie bare in a file; a slice reads no more than itself."""

    path: Path

    def __len__(self) -> int:
        """How many samples the file holds."""
        return self.path.stat().st_size // SAMPLE_BYTES

    def __getitem__(self, span: slice, /) -> Block:
        """Read a span."""
        # A memory map would be shorter, but every page read would stay in the resident set.
        start, stop, _ = span.indices(len(self))
        return np.fromfile(self.path, np.float32, max(0, stop - start), offset=start * SAMPLE_BYTES)


def place(samples: Block, start: int, file: BinaryIO) -> None:
    """Let samples sound from sample `start` of a track's file; what is jumped over is silence."""
    file.seek(start * SAMPLE_BYTES)
    file.write(samples.tobytes())


def audio_frames(samples: Samples, rate: int, total: int) -> Iterator[av.AudioFrame]:
    """The samples, continued by silence to `total`, a second at a time."""
    for start in range(0, total, rate):
        piece = np.zeros(min(rate, total - start), np.float32)
        sounding = samples[start : start + len(piece)]
        if sounding.ndim != 1 or sounding.dtype != np.float32:
            raise ValueError(f"expected mono float32 samples, got shape {sounding.shape} of {sounding.dtype}")
        piece[: len(sounding)] = sounding
        yield audio_frame(piece[np.newaxis], rate, start)


def audio_frame(block: Block, rate: int, start: int) -> av.AudioFrame:
    """Mono samples, shape (1, n), that sound from sample `start`."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
    return frame


def level(samples: Samples, rate: int, path: Path) -> Samples:
    """Bring a voice to about LOUDNESS_LUFS (EBU R128, integrated) with no sample above PEAK, into a new file.

    Speech has peaks so far above its loudness that gain alone would clip. A limiter holds them, and two more
    measurements make up for what it takes. Silence, and less than the 0.4 s that the meter needs, stay as
    they are, and nothing is written.
    """
    gain_db = 0.0
    for _ in range(3):
        loudness = loudness_lufs(samples, rate, *_amplified(gain_db))
        if loudness <= SILENT_LUFS:
            return samples
        gain_db += LOUDNESS_LUFS - loudness
    with path.open("wb") as file:
        for frame in _filtered(samples, rate, *_amplified(gain_db), ("aformat", "sample_fmts=flt")):
            file.write(frame.to_ndarray().tobytes())
    return Track(path)


def _amplified(gain_db: float) -> tuple[Filter, ...]:
    """Gain, and a limiter at PEAK."""
    gain = ("volume", f"{gain_db}dB:precision=double")
    # latency=1 takes the limiter's look-ahead out again: captions must not run ahead of the voice.
    return ("aformat", "sample_fmts=dbl"), gain, ("alimiter", f"limit={PEAK}:level=disabled:latency=1")


def loudness_lufs(samples: Samples, rate: int, *filters: Filter) -> float:
    """Integrated loudness as of EBU R128 behind filters; SILENT_LUFS for silence and for less than 0.4 s."""
    value = None
    for frame in _filtered(samples, rate, *filters, ("ebur128", "metadata=1")):
        value = frame.metadata.get("lavfi.r128.I", value)
    return SILENT_LUFS if value is None or math.isnan(float(value)) else float(value)


def _filtered(samples: Samples, rate: int, *filters: Filter) -> Iterator[av.AudioFrame]:
    """Mono samples through a chain of FFmpeg filters, of which each holds a few milliseconds."""
    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate, layout="mono", format="fltp", time_base=Fraction(1, rate))
    nodes = [graph.add(name, options) for name, options in filters]
    graph.link_nodes(source, *nodes, graph.add("abuffersink")).configure()
    for frame in chain(audio_frames(samples, rate, len(samples)), [None]):
        graph.push(frame)
        yield from _ready(graph)


def _ready(graph: Graph) -> Iterator[av.AudioFrame]:
    """What a graph has ready."""
    while True:
        try:
            filtered = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(filtered, av.AudioFrame)
        yield filtered
