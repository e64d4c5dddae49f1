"""A whole film, decoded once: every shot measured on its own, and a few pictures kept for the plot.

Memory does not grow with the pictures: numbers a frame, small things a second, and STILLS thumbnails a film.

Shapes: f_HWC picture, uint8 RGB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np

from engine.film.encode import Picture
from engine.film.sheet import still_indices
from engine.quality.frames import Measured, measure_frames
from engine.quality.layout import LEAST_FRAMES, Span, window_centres
from engine.quality.scores import Scores, score
from engine.quality.video import Video, pictures_of

STILLS = 10
STILL_PX = 240  # wide


@dataclass(frozen=True, eq=False)
class ShotQuality:
    """A shot's series and its scores."""

    measured: Measured
    scores: Scores

    @property
    def span(self) -> Span:
        """Which frames of the film they are of."""
        return self.scores.span


@dataclass(eq=False)
class FilmQuality:
    """What was measured of a film; `short` are the spans too short to measure."""

    video: Video
    shots: list[ShotQuality] = field(default_factory=list)
    short: list[Span] = field(default_factory=list)
    stills: list[tuple[int, Picture]] = field(default_factory=list)


def measure_film(video: Video, spans: Sequence[Span]) -> FilmQuality:
    """Decode a film once and measure its spans, which are in order and do not overlap.

    Raises ValueError for a span beyond the film's end, a film without a span long enough, or a damaged file.
    """
    if spans and spans[-1].stop > video.n_frames:
        raise ValueError(
            f"{video.path} has {video.n_frames} frames, and {spans[-1].label} ends at {spans[-1].stop}"
        )
    if not any(len(span) >= LEAST_FRAMES for span in spans):
        most = max((len(span) for span in spans), default=0)
        raise ValueError(f"{video.path}: {most} frames are too few, at least {LEAST_FRAMES} can be measured")
    film = FilmQuality(video)
    pictures, at = _with_stills(film), 0
    for span in spans:
        for _ in islice(pictures, span.start - at):
            pass
        _measure(film, span, islice(pictures, len(span)))
        at = span.stop
    for _ in pictures:  # to the end: the file may be damaged there
        pass
    return film


def _measure(film: FilmQuality, span: Span, pictures: Iterator[Picture]) -> None:
    if len(span) < LEAST_FRAMES:
        film.short.append(span)
        for _ in pictures:
            pass
        return
    fps = float(film.video.fps)
    seconds = sample_indices(len(span), fps)
    centres = window_centres(span.seams, len(span)) if span.seams else seconds
    measured = measure_frames(pictures, frozenset(seconds), frozenset(centres))
    film.shots.append(ShotQuality(measured, score(span, measured, fps)))


def sample_indices(n_frames: int, fps: float) -> list[int]:
    """One frame a second from the first on; every frame where there are fewer."""
    return sorted({round(k * fps) for k in range(int((n_frames - 1) / fps) + 1)} & set(range(n_frames)))


def _with_stills(film: FilmQuality) -> Iterator[Picture]:
    """The film's pictures; evenly spaced ones leave a thumbnail as they pass."""
    wanted = set(still_indices(film.video.n_frames, STILLS))
    for index, picture in enumerate(pictures_of(film.video)):
        if index in wanted:
            film.stills.append((index, _still(picture)))
        yield picture


def _still(f_HWC: Picture) -> Picture:
    height, width = f_HWC.shape[:2]
    size = (STILL_PX, max(1, round(STILL_PX * height / width)))
    return np.asarray(cv2.resize(f_HWC, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
