"""Times of rows in frames: rates, lengths of shots, and whether later prompts hold where they are said to.

Decides which frames a time is rounded to, as planning does, and at which latent frames a prompt has weight.
Does not decide how long a shot or how high a rate may be (bounds).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.findings import Finding, Level, Levels, floats


@dataclass(frozen=True, eq=False)
class Times:
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


def times_of(levels: Levels, fps_num: int, fps_den: int) -> Times:
    """The times of some rows; the rate is of those without their own."""
    rows, shots = levels.rows, levels.shots
    num, den = floats(rows.column("fps_num")), floats(rows.column("fps_den"))
    stock = np.isnan(num) & np.isnan(den)
    sound = (num > 0) & (den > 0)
    num = np.where(stock, fps_num, np.where(sound, num, np.nan))
    den = np.where(stock, fps_den, np.where(sound, den, np.nan))
    given, seconds = floats(shots.column("duration_frames")), floats(shots.column("duration_s"))
    rounded = whole_frames(seconds, num[shots.rows], den[shots.rows])
    chosen = np.where(np.isnan(seconds), given, np.where(np.isnan(given), rounded, np.nan))
    return Times(num, den, np.where(chosen >= 0, chosen, np.nan))


def _spans(prompts: Level, times: Times) -> _Spans:
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


def prompt_findings(prompts: Level, times: Times, compression: int, period: int) -> Iterator[Finding]:
    """Later prompts start in order inside their shot; their blends neither overlap nor leave it; all show."""
    spans = _spans(prompts, times)
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
    message = f"the prompt from {{v}} s on holds at no latent frame, which are {compression} frames apart"
    hint = f"let it hold for at least {compression} frames, or start it earlier"
    unseen = pa.array(sound & _unseen(spans, compression, period))
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
