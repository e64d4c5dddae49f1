"""Row-level validation: every problem of a manifest as a finding, checked column by column.

The checks run vectorised over flattened lists; Python loops run over batches, profiles, the problems found,
distinct image paths and times that fall on half a frame, so a manifest of a million sound rows costs little.
Decides whether rows can be planned. What needs fonts or voices is checked above this room.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.bounds import Limits, bound_findings
from manifests.findings import Finding, Level, Levels, empty, repeated, true
from manifests.links import asks_order, link_findings
from manifests.schema import SCHEMA
from manifests.stream import Batch, batches_of

__all__ = ["Limits", "validate", "validated"]

# What manifests.store takes as part of a key: no dot first, none last (".mp4" follows), no two together.
ID_PATTERN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
MAX_ID_CHARS = 128
# Format characters (Cf) stay allowed: Indic scripts need the zero-width joiners.
CONTROL_IN_LINE = r"[\x{00}-\x{1f}\x{7f}-\x{9f}]"
CONTROL_IN_TEXT = r"[\x{00}-\x{08}\x{0b}\x{0c}\x{0e}-\x{1f}\x{7f}-\x{9f}]"  # a prompt may have lines and tabs


def validate(table: pa.Table, limits: Mapping[str, Limits]) -> list[Finding]:
    """All findings of `table` in row order; an empty list means that it can be planned.

    `limits` says what rows of each profile may ask for; a row of another profile is a finding.
    """
    return [one for _, found in validated(table, batches_of(table), limits) for one in found]


def validated(
    links: pa.Table, batches: Iterable[Batch], limits: Mapping[str, Limits]
) -> Iterator[tuple[Levels, list[Finding]]]:
    """Each batch of a manifest with its findings in row order; `links` are manifests.links.LINKS of all rows.

    Of a manifest without rows there is one batch of none, with a finding.
    """
    if len(links) == 0:
        nothing = Levels.of(SCHEMA.empty_table().to_struct_array().combine_chunks(), np.arange(0))
        yield nothing, [Finding(-1, "", "E100_EMPTY", "", "the manifest has 0 rows", "add at least one row")]
    again = repeated(links.column("row_id").combine_chunks())
    linked = sorted(link_findings(links), key=_row) if asks_order(links) else []
    places = np.array([finding.row_index for finding in linked])
    for start, batch in batches:
        levels = Levels.of_batch(start, batch)
        twice = again.slice(start, batch.num_rows)
        first, end = np.searchsorted(places, [start, start + batch.num_rows])
        yield levels, sorted([*_batch(levels, twice, limits), *linked[first:end]], key=_row)


def _row(finding: Finding) -> int:
    return finding.row_index


def _batch(levels: Levels, twice: Any, limits: Mapping[str, Limits]) -> Iterator[Finding]:
    """The findings of some rows; `twice` says whose row_id an earlier row has."""
    yield from _ids(levels, twice)
    yield from _missing(levels)
    yield from _profiles(levels.rows, limits)
    yield from _sizes(levels.rows)
    yield from _fps(levels.rows)
    yield from _durations(levels.shots)
    yield from _texts(levels)
    yield from _languages(levels)
    profile = levels.rows.column("profile")
    for name, own in limits.items():
        group = levels.where(pc.equal(profile, name))
        if len(group.rows.data):
            yield from bound_findings(group, name, own)


def _ids(levels: Levels, twice: Any) -> Iterator[Finding]:
    """Ids become path components: safe characters, and each one once."""
    hint = f"use 1 to {MAX_ID_CHARS} of A-Z a-z 0-9 . _ - without a dot first, last or beside another"
    for level, field in ((levels.rows, "row_id"), (levels.shots, "shot_id")):
        ids = level.column(field)
        long = pc.greater(pc.utf8_length(ids), MAX_ID_CHARS)
        bad = pc.or_(pc.invert(pc.match_substring_regex(ids, ID_PATTERN)), long)
        bad = pc.and_(bad, pc.invert(empty(ids)))  # which is E101_MISSING
        yield from level.report(bad, "E102_BAD_ID", field, "id {v!r} is not usable in a path", hint)
    again = "id {v!r} occurs more than once"
    yield from levels.rows.report(twice, "E103_DUPLICATE_ROW", "row_id", again, "rename it")
    shots = levels.shots
    same = repeated(shots.keys("shot_id", shots.rows))
    yield from shots.report(same, "E104_DUPLICATE_SHOT", "shot_id", again, "rename it")


def _missing(levels: Levels) -> Iterator[Finding]:
    """Required fields without a value, rows without shots and shots without any prompt."""
    rows, shots = levels.rows, levels.shots
    required = (
        (rows, ("row_id", "profile")),
        (shots, ("shot_id",)),
        (levels.prompts, ("prompt",)),
        (levels.languages, ("lang",)),
        (levels.segments, ("shot_id", "text")),
    )
    for level, fields in required:
        for field in fields:
            gone = empty(level.column(field))
            yield from level.report(gone, "E101_MISSING", field, "no value", "give a value")
    gone = pc.is_null(levels.prompts.column("start_s"))
    yield from levels.prompts.report(gone, "E101_MISSING", "start_s", "no value", "give a time in seconds")
    count = pc.fill_null(pc.list_value_length(rows.column("shots")), 0)
    yield from rows.report(pc.equal(count, 0), "E105_NO_SHOTS", "shots", "the row has 0 shots", "add a shot")
    default = pc.take(empty(rows.column("prompt")), pa.array(shots.rows))
    bare = pc.and_(empty(shots.column("prompt")), default)
    hint = "give the shot or its row a prompt"
    yield from shots.report(bare, "E101_MISSING", "prompt", "neither shot nor row has a prompt", hint)


def _profiles(rows: Level, limits: Mapping[str, Limits]) -> Iterator[Finding]:
    """Profiles that the configuration has."""
    names = rows.column("profile")
    known = pc.is_in(names, value_set=pa.array(list(limits), pa.string()))
    lost = pc.invert(pc.or_(known, empty(names)))
    hint = f"use one of {', '.join(sorted(limits))}"
    yield from rows.report(lost, "E202_UNKNOWN_PROFILE", "profile", "profile {v!r} is not configured", hint)


def _sizes(rows: Level) -> Iterator[Finding]:
    """Both sides or neither: one side with the profile's other would be a shape that nobody asked for."""
    width, height = (pc.is_null(rows.column(field)) for field in ("width_px", "height_px"))
    hint = "give width_px and height_px, or neither to take the profile's"
    for field, own, other in (("width_px", width, height), ("height_px", height, width)):
        half = pc.and_(own, pc.invert(other))
        yield from rows.report(half, "E304_SIZE_HALF", field, "only the other side is given", hint)


def _fps(rows: Level) -> Iterator[Finding]:
    """The frame rate is a fraction of two positive numbers, or wholly the profile's."""
    num, den = rows.column("fps_num"), rows.column("fps_den")
    hint = "give fps_num and fps_den as positive integers, such as 24 and 1"
    for field, own, other in (("fps_num", num, den), ("fps_den", den, num)):
        bad = pc.or_(true(pc.less_equal(own, 0)), pc.and_(pc.is_null(own), pc.is_valid(other)))
        yield from rows.report(bad, "E303_FPS", field, "frame rate part {v} is not positive", hint)


def _durations(shots: Level) -> Iterator[Finding]:
    """Exactly one duration for a shot, above zero."""
    frames, seconds = shots.column("duration_frames"), shots.column("duration_s")
    given, too = pc.is_valid(frames), pc.is_valid(seconds)
    hint = "give exactly one of duration_frames and duration_s"
    for bad, message in (
        (pc.and_(given, too), "both durations given"),
        (pc.invert(pc.or_(given, too)), "no duration given"),
    ):
        yield from shots.report(bad, "E401_DURATION_CHOICE", "duration_s", message, hint)
    for field, unit, value in (("duration_frames", "frames", frames), ("duration_s", "s", seconds)):
        zero = pc.invert(pc.greater(value, 0))  # inverted, so that NaN is refused as well
        message = f"{{v}} {unit} is not above 0 {unit}"
        yield from shots.report(zero, "E402_DURATION_ZERO", field, message, "give a positive duration")


def _texts(levels: Levels) -> Iterator[Finding]:
    """No control characters in anything shown, spoken or encoded."""
    lines = [(level, "title", CONTROL_IN_LINE) for level in (levels.rows, levels.languages)]
    prompts = [
        (level, field) for level in (levels.rows, levels.shots) for field in ("prompt", "negative_prompt")
    ]
    rest = [*prompts, (levels.prompts, "prompt"), (levels.segments, "text")]
    for level, field, pattern in lines + [(level, field, CONTROL_IN_TEXT) for level, field in rest]:
        bad = pc.match_substring_regex(level.column(field), pattern)
        message = "{v!r} has a control character"
        yield from level.report(bad, "E502_CONTROL_CHAR", field, message, "remove the character")


def _languages(levels: Levels) -> Iterator[Finding]:
    """One version of a film in a language, narrating shots of the same row, each at most once."""
    shots, languages, segments = levels.shots, levels.languages, levels.segments
    again = repeated(languages.keys("lang", languages.rows))
    hint = "keep one entry for the language"
    message = "language {v!r} occurs more than once in the row"
    yield from languages.report(again, "E205_DUPLICATE_LANG", "lang", message, hint)
    named = segments.keys("shot_id", segments.rows)
    known = pc.is_in(named, value_set=shots.keys("shot_id", shots.rows))
    lost = pc.and_(pc.invert(empty(segments.column("shot_id"))), pc.invert(known))
    hint = "name a shot of the same row"
    yield from segments.report(lost, "E204_UNKNOWN_SHOT", "shot_id", "the row has no shot {v!r}", hint)
    again = repeated(segments.keys("shot_id", segments.parent))
    hint = "join the texts into one segment"
    message = "shot {v!r} is narrated more than once in the language"
    yield from segments.report(again, "E206_DUPLICATE_SEGMENT", "shot_id", message, hint)
