"""One language version as a file: the pictures' packets copied, one voice track, one caption track.

Decides: clocks, language tags, how the tracks lie side by side. Does not decide: what is said and when
(finish), how captions break (captions), or what the film claims about itself (provenance, which writes last).
"""

import heapq
import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from engine.film.captions import Cue, iso_639_2
from engine.film.encode import mp4_options, whole_file
from engine.film.join import video_packets, video_stream
from engine.film.languages import NATIVE_NAMES
from engine.film.track import Samples, audio_frame, audio_frames

AnyPacket: TypeAlias = "Packet[Any]"

AUDIO_RATE_HZ = 48_000  # what every player and HLS packager takes
AUDIO_BITS_S = 96_000  # mono speech is transparent well below this
AAC_FRAME = 1024  # samples
CAPTION_CLOCK_HZ = 1000
# The caption encoder wants an ASS header, of which MP4 keeps the font's name, size and colour.
CAPTION_STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BackColour, Alignment
Style: Default,Sans,16,&Hffffff,&H0,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def film_options(fps: Fraction) -> dict[str, str]:
    """Muxer options: a movie clock in which a frame, a sample and a millisecond are whole ticks."""
    # Edit lists are counted in this clock: a coarser one would round the end of the voice track.
    return mp4_options(fps) | {"movie_timescale": str(math.lcm(fps.numerator, AUDIO_RATE_HZ))}


def track_tags(lang: str) -> dict[str, str]:
    """The three-letter language of a track and the name by which players list it."""
    return {"language": iso_639_2(lang), "handler_name": NATIVE_NAMES[lang.split("-")[0].lower()]}


def mux_film(
    video: Path,
    out: Path,
    *,
    lang: str,
    title: str,
    audio: tuple[Samples, int] | None,
    cues: Sequence[Cue],
    fps: Fraction,
) -> int:
    """Put pictures, mono `audio` (samples, Hz) and captions into the MP4 `out`; returns the frame count.

    The video's packets are copied, and the film is as long as the video: the voice is continued by silence.
    A voice or a caption that outlasts the pictures, or a damaged video, raises ValueError and leaves no file.
    Without audio and cues the film is visual only, and `lang` may be "und".
    """
    with whole_file(out) as partial, av.open(partial, "w", format="mp4", options=film_options(fps)) as film:
        picture, frames = _add_video(film, video, fps)
        voice = _add_voice(film, lang) if audio is not None else None
        text = _add_captions(film, lang) if cues else None
        film.metadata["title"] = title
        tracks: list[Iterator[AnyPacket]] = [_copied(video, picture, frames)]
        if audio is not None and voice is not None:
            tracks.append(_voice_packets(*audio, voice, frames / fps))
        if text is not None:
            tracks.append(_caption_packets(cues, text, frames / fps))
        # In order of time, so that neither the muxer nor a player ever has to hold a whole track.
        for packet in heapq.merge(*tracks, key=_time):
            film.mux(packet)
    return frames


def _time(packet: AnyPacket) -> Fraction:
    """When a packet is decoded, in seconds."""
    assert packet.dts is not None
    return packet.dts * packet.time_base


def _add_video(film: OutputContainer, video: Path, fps: Fraction) -> tuple[VideoStream, int]:
    """A stream like the video's own, and how many frames its header promises."""
    with av.open(video) as container:
        source = video_stream(container, video)
        if source.average_rate != fps:
            raise ValueError(f"{video} has {source.average_rate} frames a second, not {fps}")
        stream = film.add_stream_from_template(source)
        stream.time_base = source.time_base
        return stream, source.frames


def _add_voice(film: OutputContainer, lang: str) -> AudioStream:
    stream = film.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
    stream.codec_context.bit_rate = AUDIO_BITS_S
    stream.metadata.update(track_tags(lang))
    return stream


def _add_captions(film: OutputContainer, lang: str) -> SubtitleStream:
    stream = film.add_stream("mov_text")
    assert isinstance(stream, SubtitleStream)
    context = stream.codec_context
    context.subtitle_header = CAPTION_STYLE
    context.time_base = stream.time_base = Fraction(1, CAPTION_CLOCK_HZ)
    context.open()  # writes the sample description; the samples themselves are written by hand
    stream.metadata.update(track_tags(lang))
    return stream


def _copied(video: Path, stream: VideoStream, frames: int) -> Iterator[AnyPacket]:
    """The video's packets as they are; ValueError at the end if some could not be read."""
    count = 0
    for packet in video_packets(video):
        packet.stream = stream
        count += not packet.is_corrupt
        yield packet
    if count != frames:
        raise ValueError(f"{video} is damaged: {count} of {frames} frames are readable")


def _voice_packets(samples: Samples, rate: int, stream: AudioStream, film_s: Fraction) -> Iterator[AnyPacket]:
    """The whole voice through one encoder: pieces encoded apart would each bring AAC's lead-in, and click."""
    spare_s = Fraction(len(samples), rate) - film_s
    if spare_s >= Fraction(1, rate):  # less than one sample is rounding
        raise ValueError(f"the voice outlasts the film of {float(film_s):.3f} s by {float(spare_s):.3f} s")
    for frame in _resampled(samples, rate, math.floor(film_s * AUDIO_RATE_HZ)):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _resampled(samples: Samples, rate: int, total: int) -> Iterator[av.AudioFrame]:
    """The voice and then silence at the film's rate, exactly `total` samples, an AAC frame at a time."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=AUDIO_RATE_HZ, frame_size=AAC_FRAME)
    done = 0
    for frame in audio_frames(samples, rate, math.ceil(Fraction(total * rate, AUDIO_RATE_HZ)) + rate):
        for piece in resampler.resample(frame):
            block = piece.to_ndarray()[:, : total - done].astype(np.float32, copy=False)
            if block.size:
                yield audio_frame(block, AUDIO_RATE_HZ, done)
            done += block.shape[1]
    assert done == total


def _caption_packets(cues: Sequence[Cue], stream: SubtitleStream, film_s: Fraction) -> Iterator[AnyPacket]:
    """Captions as MP4 timed text: a length and UTF-8, so that no caption can be taken for markup."""
    free, end = 0, math.floor(film_s * CAPTION_CLOCK_HZ)
    for cue in cues:
        start = round(cue.start_s * CAPTION_CLOCK_HZ)
        stop = min(round(cue.stop_s * CAPTION_CLOCK_HZ), end)
        if not free <= start < stop:
            span = f"{cue.start_s:.3f} to {cue.stop_s:.3f} s of a film of {float(film_s):.3f} s"
            raise ValueError(f"the caption {cue.text!r} at {span} meets no free time")
        text = cue.text.encode()
        packet = Packet(struct.pack(">H", len(text)) + text)
        packet.stream, packet.time_base = stream, Fraction(1, CAPTION_CLOCK_HZ)
        packet.pts = packet.dts = start
        packet.duration, free = stop - start, stop
        yield packet
