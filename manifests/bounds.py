"""What rows of one profile may ask for: sizes, times, lengths of prompts, languages and given files.

Decides whether numbers lie within a profile's limits, in the frames that planning will round them to.
Does not decide what is wrong whatever the profile (validate).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.assets import asset_findings
from manifests.findings import Finding, Level, Levels, empty, floats

AUDIO_RATE_HZ = 48_000  # of every film's sound
MAX_CLOCK_HZ = 2**31 - 1


@dataclass(frozen=True)
class Limits:
    """What a profile's model and the configuration accept; fps is the rate of rows without their own."""

    size_multiple_px: int
    max_width_px: int
    max_height_px: int
    fps_num: int
    fps_den: int
    max_fps: float
    max_shot_s: float
    max_film_s: float
    languages: frozenset[str]
    takes: frozenset[str] = frozenset()  # columns of a shot that name a file
    needs: frozenset[str] = frozenset()  # of these, the ones that every shot has
    max_shot_frames: int | None = None  # of a model that draws a shot in one window
    max_prompt_chars: int = 2000
    roots: tuple[Path, ...] = ()
    temporal_compression: int = 4  # pixel frames to a latent frame
    period: int = 0  # latent frames after which one is of a single pixel frame, as the first is; 0 for never


@dataclass(frozen=True, eq=False)
class _Times:
    """Frame rates and lengths of shots as numpy float64; NaN where the row does not say them soundly."""

    num: Any  # frame rate of each row
    den: Any
    frames: Any  # of each shot

    def seconds(self, shots: Level) -> Any:
        """Length of each shot."""
        return self.frames * self.den[shots.rows] / self.num[shots.rows]


@dataclass(frozen=True, eq=False)
class _Spans:
    """Later prompts in frames, as numpy arrays of one entry a prompt; NaN where a time is not known."""

    start: Any
    blend: Any
    seconds: Any  # of the blend, as given; none is 0
    follows: Any  # bool: the prompt before is of the same shot
    length: Any  # of the prompt's shot
    known: Any  # bool: the start and the rate are


def bound_findings(levels: Levels, profile: str, limits: Limits) -> Iterator[Finding]:
    """The findings of rows that all name `profile`."""
    times = _times(levels, limits)
    yield from _sizes(levels.rows, limits)
    yield from _rates(levels.rows, times, limits.max_fps)
    yield from _clocks(levels.rows, times)
    yield from _durations(levels, times, limits)
    yield from _prompts(levels.prompts, _spans(levels.prompts, times), limits)
    yield from _prompt_lengths(levels, limits.max_prompt_chars)
    yield from _known_languages(levels.languages, limits.languages)
    yield from asset_findings(levels.shots, profile, limits.takes, limits.needs, limits.roots)
    if limits.max_shot_frames is not None:
        yield from _windows(levels.shots, times, limits.max_shot_frames)


def _rates(rows: Level, times: _Times, most: float) -> Iterator[Finding]:
    """A rate that no screen has would make millions of frames of a short row."""
    hint = f"give a rate of at most {most:g} frames a second, such as 24 and 1"
    over = pa.array(np.nan_to_num(times.num / times.den, nan=0.0) > most)
    message = f"the row's frame rate, {{v}} over fps_den, is above {most:g} frames a second"
    yield from rows.report(over, "E305_FPS_HIGH", "fps_num", message, hint)


def _clocks(rows: Level, times: _Times) -> Iterator[Finding]:
    """A film's clock has whole ticks for a frame and for a sample of sound, and MP4 holds it in 32 bits."""
    sound = ~np.isnan(times.num)
    num, den = (np.where(sound, part, 1).astype(np.int64) for part in (times.num, times.den))
    over = np.lcm(num // np.gcd(num, den), AUDIO_RATE_HZ) > MAX_CLOCK_HZ
    message = f"a film of the row's frame rate, {{v}} over fps_den, needs a clock above {MAX_CLOCK_HZ} Hz"
    most = MAX_CLOCK_HZ // AUDIO_RATE_HZ
    hint = f"give a rate whose fps_num in lowest terms is at most {most}, such as 24 and 1 or 24000 and 1001"
    yield from rows.report(pa.array(over), "E306_FPS_CLOCK", "fps_num", message, hint)


def whole_frames(seconds: Any, num: Any, den: Any) -> Any:
    """Frames in times, all numpy float64 (n,): seconds x num / den rounded half up, exactly; NaN stays NaN.

    The rate's parts hold integers. Floats decide alone except beside a half frame, where 0.3 s at 5 frames a
    second is 1.4999… and multiplies to 1.5.
    """
    exact = np.where(np.isfinite(seconds), seconds * num / den, np.nan)
    frames = np.floor(exact + 0.5)
    close = np.abs(exact + 0.5 - np.rint(exact + 0.5)) < 1e-9 * (1 + np.abs(exact))
    for i in np.flatnonzero(close & (exact != frames)):
        rate = Fraction(int(num[i]), int(den[i]))
        frames[i] = math.floor(Fraction(float(seconds[i])) * rate + Fraction(1, 2))
    return frames


def _times(levels: Levels, limits: Limits) -> _Times:
    rows, shots = levels.rows, levels.shots
    num, den = floats(rows.column("fps_num")), floats(rows.column("fps_den"))
    stock = np.isnan(num) & np.isnan(den)
    sound = (num > 0) & (den > 0)
    num = np.where(stock, limits.fps_num, np.where(sound, num, np.nan))
    den = np.where(stock, limits.fps_den, np.where(sound, den, np.nan))
    given, seconds = floats(shots.column("duration_frames")), floats(shots.column("duration_s"))
    rounded = whole_frames(seconds, num[shots.rows], den[shots.rows])
    chosen = np.where(np.isnan(seconds), given, np.where(np.isnan(given), rounded, np.nan))
    return _Times(num, den, np.where(chosen >= 0, chosen, np.nan))


def _sizes(rows: Level, limits: Limits) -> Iterator[Finding]:
    """Width and height: within the limits and a multiple of the model's step."""
    step = limits.size_multiple_px
    for field, most in (("width_px", limits.max_width_px), ("height_px", limits.max_height_px)):
        size = rows.column(field)
        remainder = pc.subtract(size, pc.multiply(pc.divide(size, step), step))
        yield from rows.report(
            pc.not_equal(remainder, 0),
            "E301_SIZE_MULTIPLE",
            field,
            f"{{v}} px is not a multiple of {step} px",
            f"use a multiple of {step} px",
        )
        outside = pc.or_(pc.less_equal(size, 0), pc.greater(size, most))
        message = f"{{v}} is outside 1 to {most} px"
        yield from rows.report(outside, "E302_SIZE_RANGE", field, message, f"use at most {most} px")


def _durations(levels: Levels, times: _Times, limits: Limits) -> Iterator[Finding]:
    """A shot has at least one frame, and neither it nor the film is too long."""
    shots, length, most = levels.shots, times.seconds(levels.shots), limits.max_shot_s
    seconds = shots.column("duration_s")
    vanishes = (times.frames < 1) & (floats(seconds) > 0)
    message, hint = "{v} s rounds to 0 frames", "give a duration of at least one frame"
    yield from shots.report(pa.array(vanishes), "E402_DURATION_ZERO", "duration_s", message, hint)
    hint = f"split the shot into shots of at most {most:g} s"
    in_frames = pc.and_(pc.is_valid(shots.column("duration_frames")), pa.array(length > most))
    for field, unit, long in (
        ("duration_frames", "frames", in_frames),
        ("duration_s", "s", pc.greater(seconds, most)),
    ):
        message = f"{{v}} {unit} is longer than {most:g} s"
        yield from shots.report(long, "E403_DURATION_LONG", field, message, hint)
    fair = np.where(length <= most, length, 0.0)  # a longer one has its finding
    total = np.bincount(shots.rows, weights=fair, minlength=len(levels.rows.data))
    message = f"the shots together are longer than {limits.max_film_s:g} s"
    hint = f"split the film into rows of at most {limits.max_film_s:g} s"
    long = pa.array(total > limits.max_film_s)
    yield from levels.rows.report(long, "E404_FILM_LONG", "shots", message, hint)


def _windows(shots: Level, times: _Times, most: int) -> Iterator[Finding]:
    """A shot of a model that knows what it is given at a window's beginning only is one window."""
    long = pa.array(np.nan_to_num(times.frames, nan=0.0) > most)
    message = f"the shot is longer than a window of the profile's model, {most} frames"
    hint = "cut it into shots that each start from a picture of their own"
    yield from shots.report(long, "E407_WINDOW_LONG", "duration_s", message, hint, entry=True)


def _spans(prompts: Level, times: _Times) -> _Spans:
    """Later prompts in whole frames, since rounding can make two blends meet that are apart in seconds."""
    num, den = times.num[prompts.rows], times.den[prompts.rows]
    seconds = np.where(pc.is_null(prompts.column("blend_s")), 0.0, floats(prompts.column("blend_s")))
    return _Spans(
        start=whole_frames(floats(prompts.column("start_s")), num, den),
        blend=whole_frames(seconds, num, den),
        seconds=seconds,
        follows=np.diff(prompts.parent, prepend=-1) == 0,
        length=times.frames[prompts.parent],
        known=~np.isnan(num) & pc.is_valid(prompts.column("start_s")).to_numpy(zero_copy_only=False),
    )


def _prompts(prompts: Level, spans: _Spans, limits: Limits) -> Iterator[Finding]:
    """Later prompts start in order inside their shot; their blends neither overlap nor leave it; all show."""
    start, blend, length = spans.start, spans.blend, spans.length
    wrong = ~((spans.seconds >= 0) & np.isfinite(spans.seconds))
    before = np.where(spans.follows, np.roll(start, 1), 0.0)
    free = np.where(spans.follows, np.roll(start + blend / 2, 1), 0.0)
    outside = ~((start > 0) & (np.isnan(length) | (start < length)))
    apart = (start - blend / 2 >= free) & (np.isnan(length) | (start + blend / 2 <= length))
    for bad, field, message, hint in (
        (outside, "start_s", "{v} s is not inside the shot", "start it after 0 s and before the shot's end"),
        (~outside & (start <= before), "start_s", "{v} s is not after the prompt before", "order by start"),
        (wrong, "blend_s", "{v} s is not a length", "give 0 s or more"),
        (
            ~outside & (start > before) & ~wrong & ~apart,
            "blend_s",
            "a change of {v} s around its start overlaps the one before or leaves the shot",
            "shorten the blend or move the start",
        ),
    ):
        yield from prompts.report(pa.array(bad & spans.known), "E405_PROMPT_TIME", field, message, hint)
    faulty = ~spans.known | outside | (start <= before) | wrong | ~apart
    sound = ~np.isin(prompts.parent, prompts.parent[faulty])  # a faulty neighbour says nothing of this one
    compression = limits.temporal_compression
    message = f"the prompt from {{v}} s on holds at no latent frame, which are {compression} frames apart"
    hint = f"let it hold for at least {compression} frames, or start it earlier"
    unseen = pa.array(sound & _unseen(spans, compression, limits.period))
    yield from prompts.report(unseen, "E406_PROMPT_UNSEEN", "start_s", message, hint, entry=True)


def _unseen(spans: _Spans, c: int, period: int) -> Any:
    """Prompts without weight at any latent frame, numpy bool; those of shots without faults are right.

    Latent frame 0 stands at pixel frame 0 and is the first prompt's; frame i stands at c i - (c - 1) / 2.
    With a period, that is so anew after every so many latent frames.
    """
    cycle = c * (period - 1) + 1 if period else np.inf  # pixel frames
    low = spans.start - spans.blend / 2
    high = np.where(np.append(spans.follows[1:], False), np.roll(spans.start + spans.blend / 2, -1), np.inf)
    before = np.floor(low / cycle)
    inside = low - (before * cycle if period else 0)
    place = (inside + (c - 1) / 2) / c
    # A blend has no weight where it begins; a change at once has all of it there.
    first = np.maximum(1, np.where(spans.blend > 0, np.floor(place) + 1, np.ceil(place)))
    if period:
        first = np.where((inside == 0) & (spans.blend == 0), 0, first)
        before, first = before + (first == period), first % period
    time = (before * cycle if period else 0) + np.where(first > 0, c * first - (c - 1) / 2, 0)
    return (before * period + first >= _latents(spans.length, c, period)) | (time >= high)


def _latents(length: Any, c: int, period: int) -> Any:
    """Latent frames of shots of so many pixel frames, numpy: what the engine makes of them."""
    if period:  # whole periods and the two latent frames behind them, of c + 1 pixel frames
        return period * np.maximum(np.ceil((length - c - 1) / (c * (period - 1) + 1)), 1) + 2
    least = np.ceil((length - 1) / c) + 1
    return least + ((least % 2 == 0) & (c > 1))  # odd, where decoders take pairs of them after the first


def _prompt_lengths(levels: Levels, most: int) -> Iterator[Finding]:
    """Prompts of a bounded length."""
    texts = [
        (level, field) for level in (levels.rows, levels.shots) for field in ("prompt", "negative_prompt")
    ]
    for level, field in [*texts, (levels.prompts, "prompt")]:
        size = pc.utf8_length(level.column(field))
        note = f"prompt is longer than {most} characters"
        yield from level.report(pc.greater(size, most), "E501_PROMPT_LONG", field, note, "shorten it")


def _known_languages(languages: Level, allowed: frozenset[str]) -> Iterator[Finding]:
    """Languages that a voice exists for."""
    tags, known = languages.column("lang"), sorted(allowed)
    unknown = pc.invert(pc.or_(pc.is_in(tags, value_set=pa.array(known, pa.string())), empty(tags)))
    hint = f"use one of {', '.join(known)}"
    yield from languages.report(unknown, "E203_UNKNOWN_LANG", "lang", "language {v!r} is not known", hint)
