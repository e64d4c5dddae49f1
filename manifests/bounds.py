"""What rows of one profile may ask for: sizes, times, lengths of prompts, languages and given files.

Decides whether numbers lie within a profile's limits, in the frames that planning will round them to.
Does not decide what is wrong whatever the profile (validate), or how times become frames (times).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.assets import asset_findings
from manifests.findings import Finding, Level, Levels, empty, floats, repeated
from manifests.sizes import Sizes, shown
from manifests.times import Times, prompt_findings, times_of

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
    most_px: int = 0  # as in Sizes
    widest: float = 0.0
    adapters: frozenset[str] = frozenset()

    @property
    def sizes(self) -> Sizes:
        """What a row may ask for."""
        sides = self.max_width_px, self.max_height_px
        return Sizes(self.size_multiple_px, *sides, self.most_px, self.widest)


def bound_findings(levels: Levels, profile: str, limits: Limits) -> Iterator[Finding]:
    """The findings of rows that all name `profile`."""
    times = times_of(levels, limits.fps_num, limits.fps_den)
    yield from _sizes(levels.rows, limits.sizes)
    yield from _rates(levels.rows, times, limits.max_fps)
    yield from _clocks(levels.rows, times)
    yield from _durations(levels, times, limits)
    yield from prompt_findings(levels.prompts, times, limits.temporal_compression, limits.period)
    yield from _prompt_lengths(levels, limits.max_prompt_chars)
    for level in (levels.rows, levels.shots):
        yield from _adapters(level.child("adapters"), limits.adapters)
    yield from _known_languages(levels.languages, limits.languages)
    yield from asset_findings(levels.shots, profile, limits.takes, limits.needs, limits.roots)
    if limits.max_shot_frames is not None:
        yield from _windows(levels.shots, times, limits.max_shot_frames)


def _rates(rows: Level, times: Times, most: float) -> Iterator[Finding]:
    """A rate that no screen has would make millions of frames of a short row."""
    hint = f"give a rate of at most {most:g} frames a second, such as 24 and 1"
    over = pa.array(np.nan_to_num(times.num / times.den, nan=0.0) > most)
    message = f"the row's frame rate, {{v}} over fps_den, is above {most:g} frames a second"
    yield from rows.report(over, "E305_FPS_HIGH", "fps_num", message, hint)


def _clocks(rows: Level, times: Times) -> Iterator[Finding]:
    """A film's clock has whole ticks for a frame and for a sample of sound, and MP4 holds it in 32 bits."""
    sound = ~np.isnan(times.num)
    num, den = (np.where(sound, part, 1).astype(np.int64) for part in (times.num, times.den))
    over = np.lcm(num // np.gcd(num, den), AUDIO_RATE_HZ) > MAX_CLOCK_HZ
    message = f"a film of the row's frame rate, {{v}} over fps_den, needs a clock above {MAX_CLOCK_HZ} Hz"
    most = MAX_CLOCK_HZ // AUDIO_RATE_HZ
    hint = f"give a rate whose fps_num in lowest terms is at most {most}, such as 24 and 1 or 24000 and 1001"
    yield from rows.report(pa.array(over), "E306_FPS_CLOCK", "fps_num", message, hint)


def _sizes(rows: Level, sizes: Sizes) -> Iterator[Finding]:
    """Width and height that the profile's model draws; the nearest such size is offered for any other."""
    step, asked = sizes.multiple_px, _Asked(rows, sizes)

    def hint(entry: int) -> str:
        return f"nearest: {shown(sizes.nearest(*asked.size(entry)))}"

    for field, most in (("width_px", sizes.max_width_px), ("height_px", sizes.max_height_px)):
        size = rows.column(field)
        remainder = pc.subtract(size, pc.multiply(pc.divide(size, step), step))
        message = f"{{v}} px: the model of this profile draws multiples of {step} px"
        yield from rows.report(pc.not_equal(remainder, 0), "E301_SIZE_MULTIPLE", field, message, hint)
        outside = pc.or_(pc.less_equal(size, 0), pc.greater(size, most))
        message = f"{{v}} px is outside 1 to {most} px"
        yield from rows.report(outside, "E302_SIZE_RANGE", field, message, hint)
    message = (
        f"a frame of this width, {{v}} px, is larger than the {sizes.most_px:,} px that the model was taught"
    )
    yield from rows.report(asked.where(sizes.is_large), "E307_SIZE_AREA", "width_px", message, hint)
    message = f"the longer side is above {sizes.widest:g} times the shorter, at a width of {{v}} px"
    yield from rows.report(asked.where(sizes.is_wide), "E308_SIZE_SHAPE", "width_px", message, hint)


class _Asked:
    """The sizes that rows name; each distinct one is looked at once."""

    def __init__(self, rows: Level, sizes: Sizes) -> None:
        self.most = np.array([sizes.max_width_px, sizes.max_height_px])
        self.sides = np.stack([floats(rows.column(field)) for field in ("width_px", "height_px")], axis=1)

    def size(self, entry: int) -> tuple[int, int]:
        """Width and height; of a row with one side alone it is a square."""
        wide, high = self.sides[entry]
        return int(np.nan_to_num(wide, nan=high)), int(np.nan_to_num(high, nan=wide))

    def where(self, wrong: Callable[[int, int], bool]) -> Any:
        """True for the rows of whose size this holds, if both sides are in range."""
        distinct, place = np.unique(self.sides, axis=0, return_inverse=True)
        fair = np.all((distinct > 0) & (distinct <= self.most), axis=1)
        bad = [
            bool(ok) and wrong(int(size[0]), int(size[1])) for ok, size in zip(fair, distinct, strict=True)
        ]
        return pa.array(np.asarray(bad, dtype=bool)[place.reshape(-1)])


def _durations(levels: Levels, times: Times, limits: Limits) -> Iterator[Finding]:
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


def _windows(shots: Level, times: Times, most: int) -> Iterator[Finding]:
    """A shot of a model that knows what it is given at a window's beginning only is one window."""
    long = pa.array(np.nan_to_num(times.frames, nan=0.0) > most)
    message = f"the shot is longer than a window of the profile's model, {most} frames"
    hint = "cut it into shots that each start from a picture of their own"
    yield from shots.report(long, "E407_WINDOW_LONG", "duration_s", message, hint, entry=True)


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


def _adapters(named: Level, allowed: frozenset[str]) -> Iterator[Finding]:
    """Adapters that the profile has, each once in its list, at a scale that is a number."""
    names, scales = named.column("name"), named.column("scale")
    unknown = pc.invert(
        pc.fill_null(pc.is_in(names, value_set=pa.array(sorted(allowed), pa.string())), False)
    )
    hint = f"use one of {', '.join(sorted(allowed))}" if allowed else "leave it out: the profile has none"
    message = "the profile has no adapter {v!r}"
    yield from named.report(unknown, "E207_UNKNOWN_ADAPTER", "name", message, hint)
    message, hint = "adapter {v!r} is named more than once", "keep one entry for it"
    again = repeated(named.keys("name", named.parent))
    yield from named.report(again, "E208_DUPLICATE_ADAPTER", "name", message, hint)
    odd = pc.invert(pc.is_finite(scales))
    hint = "give a number, or none for the profile's own"
    yield from named.report(odd, "E209_ADAPTER_SCALE", "scale", "a scale of {v}", hint)
