"""Each problem of a manifest gives its finding, at its place; a sound manifest gives none."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from manifests.schema import SCHEMA
from manifests.validate import Finding, Limits, validate


def limits(*roots: Path) -> Limits:
    return Limits(16, 1920, 1088, 60.0, frozenset({"hi-IN", "ta-IN", "bn-IN"}), roots=roots)


def shot(**changes: Any) -> dict[str, Any]:
    return {"shot_id": "s1", "prompt": "a river", "duration_s": 4.0} | changes


def row(**changes: Any) -> dict[str, Any]:
    base = {"row_id": "film", "profile": "p", "width_px": 1280, "height_px": 720, "fps_num": 24, "fps_den": 1}
    return base | {"shots": [shot()]} | changes


def findings(*rows: dict[str, Any], roots: tuple[Path, ...] = ()) -> list[Finding]:
    return validate(pa.Table.from_pylist(list(rows), schema=SCHEMA), limits(*roots))


def spoken(
    lang: str | None = "hi-IN", shot_id: str | None = "s1", text: str | None = "नदी"
) -> dict[str, Any]:
    return {"languages": [{"lang": lang, "segments": [{"shot_id": shot_id, "text": text}]}]}


def test_sound_manifest_has_no_findings() -> None:
    joiner = spoken(text="क्\u200dष")
    assert findings(row(**joiner), row(row_id="b", shots=[shot(duration_s=None, duration_frames=48)])) == []


def test_empty_manifest() -> None:
    assert [f.code for f in findings()] == ["E100_EMPTY"]


CASES = [
    ("row id missing", row(row_id=None), "E101_MISSING", "/row_id"),
    ("profile missing", row(profile=""), "E101_MISSING", "/profile"),
    ("shot id missing", row(shots=[shot(shot_id=None)]), "E101_MISSING", "/shots/0/shot_id"),
    ("no prompt at all", row(shots=[shot(prompt=None)]), "E101_MISSING", "/shots/0/prompt"),
    ("language missing", row(**spoken(lang=None)), "E101_MISSING", "/languages/0/lang"),
    ("text missing", row(**spoken(text=None)), "E101_MISSING", "/languages/0/segments/0/text"),
    ("row id with a slash", row(row_id="a/b"), "E102_BAD_ID", "/row_id"),
    ("row id of dots", row(row_id=".."), "E102_BAD_ID", "/row_id"),
    ("shot id with a space", row(shots=[shot(shot_id="a b")]), "E102_BAD_ID", "/shots/0/shot_id"),
    ("duplicate shot", row(shots=[shot(), shot()]), "E104_DUPLICATE_SHOT", "/shots/1/shot_id"),
    ("no shots", row(shots=[]), "E105_NO_SHOTS", "/shots"),
    ("null shots", row(shots=None), "E105_NO_SHOTS", "/shots"),
    ("unknown language", row(**spoken(lang="xx-XX")), "E203_UNKNOWN_LANG", "/languages/0/lang"),
    ("unknown shot", row(**spoken(shot_id="s9")), "E204_UNKNOWN_SHOT", "/languages/0/segments/0/shot_id"),
    ("size not a multiple", row(width_px=1281), "E301_SIZE_MULTIPLE", "/width_px"),
    ("size too large", row(height_px=1104), "E302_SIZE_RANGE", "/height_px"),
    ("size zero", row(width_px=0), "E302_SIZE_RANGE", "/width_px"),
    ("fps zero", row(fps_num=0), "E303_FPS", "/fps_num"),
    ("fps half given", row(fps_den=None), "E303_FPS", "/fps_den"),
    ("both durations", row(shots=[shot(duration_frames=9)]), "E401_DURATION_CHOICE", "/shots/0/duration_s"),
    ("no duration", row(shots=[shot(duration_s=None)]), "E401_DURATION_CHOICE", "/shots/0/duration_s"),
    ("zero duration", row(shots=[shot(duration_s=0.0)]), "E402_DURATION_ZERO", "/shots/0/duration_s"),
    ("NaN duration", row(shots=[shot(duration_s=float("nan"))]), "E402_DURATION_ZERO", "/shots/0/duration_s"),
    (
        "negative frames",
        row(shots=[shot(duration_s=None, duration_frames=-1)]),
        "E402_DURATION_ZERO",
        "/shots/0/duration_frames",
    ),
    ("long duration", row(shots=[shot(duration_s=60.5)]), "E403_DURATION_LONG", "/shots/0/duration_s"),
    (
        "long in frames",
        row(shots=[shot(duration_s=None, duration_frames=1441)]),
        "E403_DURATION_LONG",
        "/shots/0/duration_frames",
    ),
    ("long prompt", row(shots=[shot(prompt="x" * 2001)]), "E501_PROMPT_LONG", "/shots/0/prompt"),
    ("control in prompt", row(prompt="a\x00b"), "E502_CONTROL_CHAR", "/prompt"),
    ("control in title", row(title="a\nb"), "E502_CONTROL_CHAR", "/title"),
]


@pytest.mark.parametrize(("bad", "code", "path"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_problem_gives_exactly_its_finding(bad: dict[str, Any], code: str, path: str) -> None:
    found = findings(row(row_id="sound"), bad)
    assert [(f.row_index, f.code, f.json_path) for f in found] == [(1, code, path)]
    assert found[0].row_id == (bad["row_id"] or "")
    assert found[0].message and found[0].hint


def test_duplicate_row_is_found_at_its_second_place() -> None:
    assert [(f.row_index, f.code) for f in findings(row(), row())] == [(1, "E103_DUPLICATE_ROW")]


def test_equal_shot_ids_in_different_rows_are_allowed() -> None:
    assert findings(row(), row(row_id="b")) == []


def test_segment_does_not_find_the_shot_of_another_row() -> None:
    found = findings(row(shots=[shot(shot_id="other")]), row(row_id="b", **spoken(shot_id="other")))
    assert [f.code for f in found] == ["E204_UNKNOWN_SHOT"]


def test_messages_have_numbers_and_units() -> None:
    assert findings(row(width_px=1281))[0].message == "1281 px is not a multiple of 16 px"
    assert findings(row(shots=[shot(duration_s=60.5)]))[0].message == "60.5 s is longer than 60 s"


def test_prompt_may_have_lines_and_fall_back_to_the_row() -> None:
    assert findings(row(prompt="a\nriver\n", shots=[shot(prompt=None)])) == []


def image(uri: str, root: Path) -> list[str]:
    return [f.code for f in findings(row(shots=[shot(first_frame_uri=uri)]), roots=(root,))]


def test_image_below_a_root_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert image("a.png", tmp_path) == []
    assert image(str(tmp_path / "a.png"), tmp_path) == []
    assert image(f"file://{tmp_path}/a.png", tmp_path) == []


def test_missing_image(tmp_path: Path) -> None:
    assert image("a.png", tmp_path) == ["E310_ASSET_404"]
    assert image("a\x00.png", tmp_path) == ["E310_ASSET_404"]


def test_image_outside_the_roots(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "a.png")
    for uri in ("../a.png", str(tmp_path / "a.png"), "link.png", "../absent.png"):
        assert image(uri, root) == ["E311_ASSET_OUTSIDE"]


def test_remote_image_is_refused(tmp_path: Path) -> None:
    assert image("http://host/a.png", tmp_path) == ["E312_ASSET_SCHEME"]
