"""Row-level validation: every problem of a manifest as a finding, checked column by column.

The checks run vectorised over flattened lists; Python loops run over the problems found and over
distinct image paths only, so a manifest of a million sound rows costs little.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ID_PATTERN = r"^[A-Za-z0-9._-]{1,128}$"
# Format characters (Cf) stay allowed: Indic scripts need the zero-width joiners.
CONTROL_IN_LINE = r"[\x{00}-\x{1f}\x{7f}-\x{9f}]"
CONTROL_IN_TEXT = r"[\x{00}-\x{08}\x{0b}\x{0c}\x{0e}-\x{1f}\x{7f}-\x{9f}]"  # a prompt may have lines and tabs


@dataclass(frozen=True)
class Limits:
    """What the models and the configuration accept."""

    size_multiple_px: int
    max_width_px: int
    max_height_px: int
    max_shot_s: float
    languages: frozenset[str]
    max_prompt_chars: int = 2000
    roots: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One problem: where it is, a stable code, what was found and what to do."""

    row_index: int
    row_id: str
    code: str
    json_path: str
    message: str
    hint: str


@dataclass(frozen=True)
class Level:
    """The entries of one nesting level, flattened, each with its row and its place in the row."""

    data: Any  # StructArray, one entry each
    rows: Any  # numpy int64: row index of each entry
    row_ids: Any  # StringArray over the rows of the manifest
    prefix: Callable[[int], str]  # JSON path of entry i

    def column(self, name: str) -> Any:
        """The values of one field; an entry that is null gives null."""
        return pc.struct_field(self.data, [name])

    def keys(self, name: str) -> Any:
        """Field `name` qualified by row, so that equal ids of different rows stay apart."""
        return pc.binary_join_element_wise(pa.array(self.rows).cast(pa.string()), self.column(name), "/")

    def child(self, name: str) -> tuple["Level", Any]:
        """The entries of list field `name`, and the index of the entry here that holds each."""
        lists = self.column(name)
        parent = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        place = np.arange(len(parent)) - np.searchsorted(parent, parent)

        def prefix(i: int) -> str:
            return f"{self.prefix(int(parent[i]))}/{name}/{int(place[i])}"

        return Level(pc.list_flatten(lists), self.rows[parent], self.row_ids, prefix), parent

    def report(self, mask: Any, code: str, field: str, message: str, hint: str) -> Iterator[Finding]:
        """A finding for every entry where `mask` is true (null is false); `{v}` in `message` is the value."""
        values = self.column(field)
        for i in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
            row = int(self.rows[i])
            name = self.row_ids[row].as_py() or ""
            yield Finding(
                row,
                name,
                code,
                f"{self.prefix(i)}/{field}",
                message.format(v=_short(values[i].as_py())),
                hint,
            )


def validate(table: pa.Table, limits: Limits) -> list[Finding]:
    """All findings of `table` in row order; an empty list means that it can be rendered."""
    if table.num_rows == 0:
        return [Finding(-1, "", "E100_EMPTY", "", "the manifest has 0 rows", "add at least one row")]
    data = pa.concat_arrays([batch.to_struct_array() for batch in table.combine_chunks().to_batches()])
    rows = Level(data, np.arange(len(data)), pc.struct_field(data, ["row_id"]), lambda i: "")
    shots, _ = rows.child("shots")
    languages, _ = rows.child("languages")
    segments, _ = languages.child("segments")
    found = [
        *_ids(rows, shots),
        *_missing(rows, shots, languages, segments),
        *_sizes(rows, limits),
        *_fps(rows),
        *_durations(rows, shots, limits),
        *_texts(rows, shots, languages, segments, limits),
        *_languages(shots, languages, segments, limits),
        *_images(shots, limits.roots),
    ]
    return sorted(found, key=lambda f: f.row_index)


def _ids(rows: Level, shots: Level) -> Iterator[Finding]:
    """Ids become path components: safe characters, and each one once."""
    hint = "use 1 to 128 of A-Z a-z 0-9 . _ - and not only dots"
    for level, field in ((rows, "row_id"), (shots, "shot_id")):
        ids = level.column(field)
        dots = pc.match_substring_regex(ids, r"^\.+$")  # "." and ".." would leave the output folder
        bad = pc.or_(pc.invert(pc.match_substring_regex(ids, ID_PATTERN)), dots)
        yield from level.report(bad, "E102_BAD_ID", field, "id {v!r} is not usable in a path", hint)
    for level, field, keys, code in (
        (rows, "row_id", rows.column("row_id"), "E103_DUPLICATE_ROW"),
        (shots, "shot_id", shots.keys("shot_id"), "E104_DUPLICATE_SHOT"),
    ):
        yield from level.report(_repeated(keys), code, field, "id {v!r} occurs more than once", "rename it")


def _missing(rows: Level, shots: Level, languages: Level, segments: Level) -> Iterator[Finding]:
    """Required fields without a value, rows without shots and shots without any prompt."""
    required = (
        (rows, ("row_id", "profile")),
        (shots, ("shot_id",)),
        (languages, ("lang",)),
        (segments, ("shot_id", "text")),
    )
    for level, fields in required:
        for field in fields:
            empty = _empty(level.column(field))
            yield from level.report(empty, "E101_MISSING", field, "no value", "give a value")
    count = pc.fill_null(pc.list_value_length(rows.column("shots")), 0)
    yield from rows.report(pc.equal(count, 0), "E105_NO_SHOTS", "shots", "the row has 0 shots", "add a shot")
    default = pc.take(_empty(rows.column("prompt")), pa.array(shots.rows))
    bare = pc.and_(_empty(shots.column("prompt")), default)
    hint = "give the shot or its row a prompt"
    yield from shots.report(bare, "E101_MISSING", "prompt", "neither shot nor row has a prompt", hint)


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


def _fps(rows: Level) -> Iterator[Finding]:
    """The frame rate is a fraction of two positive numbers, or wholly the profile's."""
    num, den = rows.column("fps_num"), rows.column("fps_den")
    hint = "give fps_num and fps_den as positive integers, such as 24 and 1"
    for field, own, other in (("fps_num", num, den), ("fps_den", den, num)):
        bad = pc.or_(_true(pc.less_equal(own, 0)), pc.and_(pc.is_null(own), pc.is_valid(other)))
        yield from rows.report(bad, "E303_FPS", field, "frame rate part {v} is not positive", hint)


def _durations(rows: Level, shots: Level, limits: Limits) -> Iterator[Finding]:
    """Exactly one duration for a shot, above zero and short enough for the model."""
    frames, seconds = shots.column("duration_frames"), shots.column("duration_s")
    given, too = pc.is_valid(frames), pc.is_valid(seconds)
    hint = "give exactly one of duration_frames and duration_s"
    for bad, message in (
        (pc.and_(given, too), "both durations given"),
        (pc.invert(pc.or_(given, too)), "no duration given"),
    ):
        yield from shots.report(bad, "E401_DURATION_CHOICE", "duration_s", message, hint)
    index = pa.array(shots.rows)
    num, den = (pc.take(rows.column(n), index).cast(pa.float64()) for n in ("fps_num", "fps_den"))
    in_seconds = pc.divide(pc.multiply(frames.cast(pa.float64()), den), num)
    most = limits.max_shot_s
    for field, unit, value, length in (
        ("duration_frames", "frames", frames, in_seconds),
        ("duration_s", "s", seconds, seconds),
    ):
        zero = pc.invert(pc.greater(value, 0))  # inverted, so that NaN is refused as well
        message = f"{{v}} {unit} is not above 0 {unit}"
        yield from shots.report(zero, "E402_DURATION_ZERO", field, message, "give a positive duration")
        message = f"{{v}} {unit} is longer than {most:g} s"
        hint = f"split the shot into shots of at most {most:g} s"
        yield from shots.report(pc.greater(length, most), "E403_DURATION_LONG", field, message, hint)


def _texts(rows: Level, shots: Level, languages: Level, segments: Level, limits: Limits) -> Iterator[Finding]:
    """Prompts of a bounded length; no control characters in anything shown, spoken or encoded."""
    most = limits.max_prompt_chars
    prompts = [(level, field) for level in (rows, shots) for field in ("prompt", "negative_prompt")]
    for level, field in prompts:
        size = pc.utf8_length(level.column(field))
        note = f"prompt is longer than {most} characters"
        yield from level.report(pc.greater(size, most), "E501_PROMPT_LONG", field, note, "shorten it")
    lines = [(rows, "title", CONTROL_IN_LINE), (languages, "title", CONTROL_IN_LINE)]
    texts = [(level, field, CONTROL_IN_TEXT) for level, field in [*prompts, (segments, "text")]]
    for level, field, pattern in lines + texts:
        bad = pc.match_substring_regex(level.column(field), pattern)
        message = "{v!r} has a control character"
        yield from level.report(bad, "E502_CONTROL_CHAR", field, message, "remove the character")


def _languages(shots: Level, languages: Level, segments: Level, limits: Limits) -> Iterator[Finding]:
    """Languages that a voice exists for, narrating shots that exist in the same row."""
    known = sorted(limits.languages)
    unknown = pc.invert(pc.is_in(languages.column("lang"), value_set=pa.array(known, pa.string())))
    unknown = pc.and_(unknown, pc.invert(_empty(languages.column("lang"))))
    hint = f"use one of {', '.join(known)}"
    yield from languages.report(unknown, "E203_UNKNOWN_LANG", "lang", "language {v!r} is not known", hint)
    keys = segments.keys("shot_id")
    lost = pc.and_(pc.is_valid(keys), pc.invert(pc.is_in(keys, value_set=shots.keys("shot_id"))))
    hint = "name a shot of the same row"
    yield from segments.report(lost, "E204_UNKNOWN_SHOT", "shot_id", "the row has no shot {v!r}", hint)


def _images(shots: Level, roots: tuple[Path, ...]) -> Iterator[Finding]:
    """First-frame images: local files below an allowed root, each distinct path looked up once."""
    uris = shots.column("first_frame_uri")
    codes = {uri: _image_code(uri, roots) for uri in pc.unique(uris).to_pylist() if uri is not None}
    for code, note, hint in (
        ("E310_ASSET_404", "no such file", "check the path"),
        ("E311_ASSET_OUTSIDE", "path is outside the allowed roots", "move the file below an allowed root"),
        ("E312_ASSET_SCHEME", "only local paths are read", "copy the image to an allowed root"),
    ):
        bad = pa.array([uri for uri, c in codes.items() if c == code], pa.string())
        yield from shots.report(
            pc.is_in(uris, value_set=bad),
            code,
            "first_frame_uri",
            "{v!r}: " + note,
            hint,
        )


def _image_code(uri: str, roots: tuple[Path, ...]) -> str | None:
    """The code of what is wrong with an image path, or None."""
    if "://" in uri and not uri.startswith("file:///"):
        return "E312_ASSET_SCHEME"
    try:
        allowed = [root.resolve() for root in roots]
        places = [(root / uri.removeprefix("file://")).resolve() for root in allowed]
        inside = [p for p in places if any(p.is_relative_to(root) for root in allowed)]
        # Outside is decided first, so that a finding never tells whether a foreign file exists.
        if not inside:
            return "E311_ASSET_OUTSIDE"
        return None if any(p.is_file() for p in inside) else "E310_ASSET_404"
    except (OSError, RuntimeError, ValueError):  # symlink loops, null bytes, names too long
        return "E310_ASSET_404"


def _repeated(keys: Any) -> Any:
    """True for every non-null key that an earlier entry has too."""
    codes = pc.fill_null(pc.dictionary_encode(keys).indices, -1).to_numpy(zero_copy_only=False)
    first = np.unique(codes, return_index=True)[1]
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return pa.array(again & (codes >= 0))


def _true(mask: Any) -> Any:
    """`mask` with null as false, where a null would swallow the other side of an `or`."""
    return pc.fill_null(mask, False)


def _empty(values: Any) -> Any:
    """True where a string is null or holds only white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)


def _short(value: Any) -> Any:
    """A value fit for a message: long text is cut at 200 characters."""
    return value[:200] + "…" if isinstance(value, str) and len(value) > 200 else value
