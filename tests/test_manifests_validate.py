"""Each problem of a manifest gives its finding, at its place; a sound manifest gives none."""

import sys
from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import manifests.stream
from manifests.assets import ASSETS
from manifests.findings import Finding
from manifests.keys import check_key
from manifests.schema import SCHEMA
from manifests.sizes import Sizes
from manifests.store import open_store
from manifests.times import whole_frames
from manifests.validate import Limits, validate

LIMITS = Limits(
    size_multiple_px=16,
    max_width_px=1920,
    max_height_px=1088,
    fps_num=8,
    fps_den=1,
    max_fps=120.0,
    max_shot_s=60.0,
    max_film_s=150.0,
    languages=frozenset({"hi-IN", "ta-IN", "bn-IN"}),
    takes=frozenset(ASSETS),
)
SMALL = replace(LIMITS, size_multiple_px=64, max_width_px=512, max_shot_s=5.0, takes=frozenset())


def shot(**changes: Any) -> dict[str, Any]:
    return {"shot_id": "s1", "prompt": "a river", "duration_s": 4.0} | changes


def row(**changes: Any) -> dict[str, Any]:
    base = {"row_id": "film", "profile": "p", "width_px": 1280, "height_px": 720, "fps_num": 24, "fps_den": 1}
    return base | {"shots": [shot()]} | changes


def findings(*rows: dict[str, Any], roots: tuple[Path, ...] = ()) -> list[Finding]:
    known = {"p": replace(LIMITS, roots=roots), "small": SMALL}
    return validate(pa.Table.from_pylist(list(rows), schema=SCHEMA), known)


def spoken(
    lang: str | None = "hi-IN", shot_id: str | None = "s1", text: str | None = "नदी"
) -> dict[str, Any]:
    return {"languages": [{"lang": lang, "segments": [{"shot_id": shot_id, "text": text}]}]}


def later(*prompts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row whose shot of 4 s at 24 frames a second has later prompts."""
    return row(shots=[shot(prompts=[{"start_s": 2.0, "prompt": "a boat"} | p for p in prompts])], **changes)


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
    ("row id with two dots together", row(row_id="a..b"), "E102_BAD_ID", "/row_id"),
    ("hidden row id", row(row_id=".hid"), "E102_BAD_ID", "/row_id"),
    ("row id with a dot last", row(row_id="a."), "E102_BAD_ID", "/row_id"),
    ("shot id with two dots together", row(shots=[shot(shot_id="a..b")]), "E102_BAD_ID", "/shots/0/shot_id"),
    ("hidden shot id", row(shots=[shot(shot_id=".hid")]), "E102_BAD_ID", "/shots/0/shot_id"),
    ("shot id with a dot last", row(shots=[shot(shot_id="a.")]), "E102_BAD_ID", "/shots/0/shot_id"),
    ("shot id with a space", row(shots=[shot(shot_id="a b")]), "E102_BAD_ID", "/shots/0/shot_id"),
    ("duplicate shot", row(shots=[shot(), shot()]), "E104_DUPLICATE_SHOT", "/shots/1/shot_id"),
    ("no shots", row(shots=[]), "E105_NO_SHOTS", "/shots"),
    ("null shots", row(shots=None), "E105_NO_SHOTS", "/shots"),
    ("later prompt without text", later({"prompt": " "}), "E101_MISSING", "/shots/0/prompts/0/prompt"),
    ("later prompt without time", later({"start_s": None}), "E101_MISSING", "/shots/0/prompts/0/start_s"),
    ("row id with a newline", row(row_id="a\n"), "E102_BAD_ID", "/row_id"),
    ("row id too long", row(row_id="a" * 129), "E102_BAD_ID", "/row_id"),
    ("unknown profile", row(profile="none{}"), "E202_UNKNOWN_PROFILE", "/profile"),
    (
        "language twice",
        row(languages=[{"lang": "hi-IN"}, {"lang": "ta-IN"}, {"lang": "hi-IN"}]),
        "E205_DUPLICATE_LANG",
        "/languages/2/lang",
    ),
    (
        "shot narrated twice",
        row(languages=[{"lang": "hi-IN", "segments": [{"shot_id": "s1", "text": "नदी"}] * 2}]),
        "E206_DUPLICATE_SEGMENT",
        "/languages/0/segments/1/shot_id",
    ),
    ("unknown language", row(**spoken(lang="xx-XX")), "E203_UNKNOWN_LANG", "/languages/0/lang"),
    ("unknown shot", row(**spoken(shot_id="s9")), "E204_UNKNOWN_SHOT", "/languages/0/segments/0/shot_id"),
    ("size not a multiple", row(width_px=1281), "E301_SIZE_MULTIPLE", "/width_px"),
    ("size too large", row(height_px=1104), "E302_SIZE_RANGE", "/height_px"),
    ("size zero", row(width_px=0), "E302_SIZE_RANGE", "/width_px"),
    ("size negative", row(width_px=-16), "E302_SIZE_RANGE", "/width_px"),
    ("half a size", row(height_px=None), "E304_SIZE_HALF", "/height_px"),
    ("fps zero", row(fps_num=0), "E303_FPS", "/fps_num"),
    ("fps half given", row(fps_den=None), "E303_FPS", "/fps_den"),
    ("fps beyond any screen", row(fps_num=1_000_000, fps_den=1), "E305_FPS_HIGH", "/fps_num"),
    ("fps no clock keeps", row(fps_num=1_000_003, fps_den=50_000), "E306_FPS_CLOCK", "/fps_num"),
    ("prompt never drawn", later({"start_s": 3.96}), "E406_PROMPT_UNSEEN", "/shots/0/prompts/0"),
    ("prompt too short", later({}, {"start_s": 2.1}), "E406_PROMPT_UNSEEN", "/shots/0/prompts/0"),
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
        "rounds to no frame at the profile's rate",
        row(fps_num=None, fps_den=None, shots=[shot(duration_s=0.01)]),
        "E402_DURATION_ZERO",
        "/shots/0/duration_s",
    ),
    ("negative duration", row(shots=[shot(duration_s=-4.0)]), "E402_DURATION_ZERO", "/shots/0/duration_s"),
    ("endless", row(shots=[shot(duration_s=float("inf"))]), "E403_DURATION_LONG", "/shots/0/duration_s"),
    (
        "long film",
        row(shots=[shot(shot_id=f"s{i}", duration_s=50.5) for i in range(3)]),
        "E404_FILM_LONG",
        "/shots",
    ),
    ("prompt at the start", later({"start_s": 0.0}), "E405_PROMPT_TIME", "/shots/0/prompts/0/start_s"),
    ("prompt in the first frame", later({"start_s": 0.01}), "E405_PROMPT_TIME", "/shots/0/prompts/0/start_s"),
    ("prompt before the start", later({"start_s": -1.0}), "E405_PROMPT_TIME", "/shots/0/prompts/0/start_s"),
    ("prompt at the end", later({"start_s": 4.0}), "E405_PROMPT_TIME", "/shots/0/prompts/0/start_s"),
    ("prompt never", later({"start_s": float("nan")}), "E405_PROMPT_TIME", "/shots/0/prompts/0/start_s"),
    ("prompts at once", later({}, {}), "E405_PROMPT_TIME", "/shots/0/prompts/1/start_s"),
    ("prompts back", later({}, {"start_s": 1.0}), "E405_PROMPT_TIME", "/shots/0/prompts/1/start_s"),
    ("negative blend", later({"blend_s": -0.01}), "E405_PROMPT_TIME", "/shots/0/prompts/0/blend_s"),
    ("endless blend", later({"blend_s": float("inf")}), "E405_PROMPT_TIME", "/shots/0/prompts/0/blend_s"),
    ("blend before the shot", later({"blend_s": 4.1}), "E405_PROMPT_TIME", "/shots/0/prompts/0/blend_s"),
    (
        "blend after the shot",
        later({"start_s": 3.5, "blend_s": 1.1}),
        "E405_PROMPT_TIME",
        "/shots/0/prompts/0/blend_s",
    ),
    (
        "blends overlap",
        later({"blend_s": 1.0}, {"start_s": 3.0, "blend_s": 1.1}),
        "E405_PROMPT_TIME",
        "/shots/0/prompts/1/blend_s",
    ),
    (
        "long in frames",
        row(shots=[shot(duration_s=None, duration_frames=1441)]),
        "E403_DURATION_LONG",
        "/shots/0/duration_frames",
    ),
    ("long prompt", row(shots=[shot(prompt="x" * 2001)]), "E501_PROMPT_LONG", "/shots/0/prompt"),
    ("long row prompt", row(prompt="x" * 10_000), "E501_PROMPT_LONG", "/prompt"),
    ("long negative", row(negative_prompt="x" * 2001), "E501_PROMPT_LONG", "/negative_prompt"),
    ("long later prompt", later({"prompt": "x" * 2001}), "E501_PROMPT_LONG", "/shots/0/prompts/0/prompt"),
    (
        "control in later prompt",
        later({"prompt": "a\x1bb"}),
        "E502_CONTROL_CHAR",
        "/shots/0/prompts/0/prompt",
    ),
    (
        "control in narration",
        row(**spoken(text="a\x00")),
        "E502_CONTROL_CHAR",
        "/languages/0/segments/0/text",
    ),
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


IDS = st.text("aZ0._-/=", max_size=6) | st.text("a.", min_size=126, max_size=130)


@settings(deadline=None)
@given(IDS)
@example("a" * 128)
@example("a.b-c_d")
def test_id_validates_exactly_when_the_store_takes_its_keys(name: str) -> None:
    def is_key(key: str) -> bool:
        try:
            check_key(key)
        except ValueError:
            return False
        return True

    keys = all(is_key(key) for key in (f"films/{name}.und.mp4", f"report/sheets/{name}.jpg"))
    wanted = keys and 1 <= len(name) <= 128 and not set(name) & set("/=")
    assert (findings(row(row_id=name)) == []) == wanted
    assert (findings(row(shots=[shot(shot_id=name)])) == []) == wanted


def test_store_publishes_a_film_named_by_a_valid_id(tmp_path: Path) -> None:
    names = ["a.b", "-a", "_", "a" * 128]
    assert findings(*(row(row_id=name) for name in names)) == []
    store = open_store(str(tmp_path / "store"))
    artefact = store.put_artefact(b"film")
    for name in names:
        store.publish(artefact, f"films/{name}.und.mp4")


def test_equal_shot_ids_in_different_rows_are_allowed() -> None:
    assert findings(row(), row(row_id="b")) == []


def test_segment_does_not_find_the_shot_of_another_row() -> None:
    found = findings(row(shots=[shot(shot_id="other")]), row(row_id="b", **spoken(shot_id="other")))
    assert [f.code for f in found] == ["E204_UNKNOWN_SHOT"]


def test_messages_have_numbers_and_units() -> None:
    assert (
        findings(row(width_px=1281))[0].message
        == "1281 px: the model of this profile draws multiples of 16 px"
    )
    assert findings(row(shots=[shot(duration_s=60.5)]))[0].message == "60.5 s is longer than 60 s"


def test_prompt_may_have_lines_and_fall_back_to_the_row() -> None:
    assert findings(row(prompt="a\nriver\n", shots=[shot(prompt=None)])) == []


def test_rows_are_held_to_their_own_profile() -> None:
    found = findings(
        row(row_id="a", width_px=576, height_px=320, shots=[shot(duration_s=6.0)]),
        row(row_id="b", profile="small", width_px=576, height_px=320, shots=[shot(duration_s=6.0)]),
        row(row_id="c", profile="small", width_px=320, height_px=400),
        row(row_id="d", width_px=320, height_px=400),
    )
    assert [(f.row_index, f.row_id, f.code) for f in found] == [
        (1, "b", "E302_SIZE_RANGE"),
        (1, "b", "E403_DURATION_LONG"),
        (2, "c", "E301_SIZE_MULTIPLE"),
    ]


def test_a_size_that_cannot_be_drawn_is_answered_with_the_nearest_that_can() -> None:
    taught = replace(LIMITS, most_px=1280 * 720, widest=2.0)
    for asked, code, nearest in (
        ((500, 300), "E301_SIZE_MULTIPLE", (496, 304)),
        ((4000, 1000), "E302_SIZE_RANGE", (1344, 672)),
        ((1920, 1088), "E307_SIZE_AREA", (1280, 720)),
        ((1024, 256), "E308_SIZE_SHAPE", (512, 256)),
    ):
        one = row(width_px=asked[0], height_px=asked[1])
        found = validate(pa.Table.from_pylist([one], schema=SCHEMA), {"p": taught})
        assert found[0].code == code and found[0].hint == f"nearest: {nearest[0]} x {nearest[1]} px"
        better = row(width_px=nearest[0], height_px=nearest[1])
        assert validate(pa.Table.from_pylist([better], schema=SCHEMA), {"p": taught}) == []


@given(
    st.builds(
        Sizes,
        st.sampled_from([1, 16, 40, 64]),
        *[st.integers(64, 2000)] * 2,
        st.sampled_from([0]) | st.integers(64 * 64, 10**6),
        st.sampled_from([0.0, 1.0, 1.5, 2.4]),
    ),
    *[st.integers(-100, 10**6)] * 2,
)
def test_the_nearest_size_is_one_and_an_allowed_size_is_its_own_nearest(sizes: Sizes, w: int, h: int) -> None:
    nearest = sizes.nearest(w, h)
    assert sizes.has(*nearest)
    assert sizes.nearest(*nearest) == nearest
    if sizes.has(w, h):
        assert nearest == (w, h)


def test_unknown_profile_gets_the_list_and_no_other_profiles_limits() -> None:
    (found,) = findings(row(profile="none", width_px=9999, height_px=9999))
    assert found.message == "profile 'none' is not configured" and found.hint == "use one of p, small"


def test_size_and_rate_may_be_left_to_the_profile() -> None:
    nothing = dict.fromkeys(["width_px", "height_px", "fps_num", "fps_den"])
    assert findings(row(**nothing)) == []


def test_the_profiles_rate_turns_frames_into_seconds() -> None:
    one = shot(duration_s=None, duration_frames=481)
    assert findings(row(shots=[one])) == []
    (found,) = findings(row(fps_num=None, fps_den=None, shots=[one]))
    assert found.message == "481 frames is longer than 60 s"


def test_an_image_for_a_model_without_images_is_refused() -> None:
    bad = row(profile="small", width_px=320, height_px=320, shots=[shot(first_frame_uri="a.png")])
    (found,) = findings(bad)
    assert (found.code, found.json_path) == ("E313_NOT_TAKEN", "/shots/0/first_frame_uri")
    assert "small" in found.hint


def test_prompts_may_follow_one_another_and_touch() -> None:
    touching = [{"start_s": 1.0, "blend_s": 2.0}, {"start_s": 2.5, "blend_s": 1.0}, {"start_s": 3.0}]
    assert findings(later(*touching)) == []
    assert findings(later({"start_s": 2.0, "blend_s": 4.0})) == []


def test_prompts_of_neighbouring_shots_do_not_meet() -> None:
    prompts = [{"start_s": 2.0, "prompt": "a boat", "blend_s": 3.0}]
    shots = [shot(shot_id="a", prompts=prompts), shot(shot_id="b", prompts=prompts), shot(shot_id="c")]
    assert findings(row(shots=shots)) == []


def test_blends_that_meet_only_after_rounding_are_found() -> None:
    """At 1 frame a second 1.4 s is frame 1, 0.5 s are one frame, and 2.0 s and 2.4 s are both frame 2."""
    slow = {"fps_num": 1, "fps_den": 1}
    found = findings(later({"start_s": 1.4, "blend_s": 0.5}, {"blend_s": 0.5}, **slow))
    assert "E405_PROMPT_TIME" not in {f.code for f in found}
    (found,) = findings(later({}, {"start_s": 2.4}, **slow))
    assert (found.code, found.json_path) == ("E405_PROMPT_TIME", "/shots/0/prompts/1/start_s")


@given(
    st.lists(st.floats(0, 4000) | st.integers(0, 4000).map(lambda n: n / 10), min_size=1, max_size=20),
    st.sampled_from([(8, 1), (5, 1), (24000, 1001), (30, 7)]),
)
def test_times_round_to_frames_exactly_half_up(seconds: list[float], rate: tuple[int, int]) -> None:
    exact = [floor(Fraction(s) * Fraction(*rate) + Fraction(1, 2)) for s in seconds]
    num, den = (np.full(len(seconds), float(part)) for part in rate)
    assert whole_frames(np.array(seconds), num, den).tolist() == exact


def test_findings_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(row_id=f"r{i % 7}", **spoken(shot_id=f"s{i % 2}")) for i in range(11)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3, 5), table.slice(8)])
    whole = validate(table, {"p": LIMITS})
    assert {f.code for f in whole} == {"E103_DUPLICATE_ROW", "E204_UNKNOWN_SHOT"}
    monkeypatch.setattr(manifests.stream, "BATCH_ROWS", 2)
    assert validate(pieces, {"p": LIMITS}) == whole


def python_calls(n_rows: int) -> int:
    """How many Python functions the validation of a sound manifest calls."""
    table = pa.Table.from_pylist([row(row_id=f"r{i}", **spoken()) for i in range(n_rows)], schema=SCHEMA)
    events: list[str] = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        assert validate(table, {"p": LIMITS, "small": SMALL}) == []
    finally:
        sys.setprofile(None)
    return events.count("call")


def test_no_python_loop_runs_over_sound_rows() -> None:
    python_calls(2)  # the first call imports
    assert python_calls(3000) == python_calls(30)


WORDS = st.sampled_from(
    ["", " ", "s1", "p", "small", "hi-IN", "{v}", "a.png", "\x00", "नदी", "x" * 2001, ".."]
)
INTEGERS = st.sampled_from([0, -1, 1, 16, 2**31 - 1, -(2**31)])


def anything(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of an Arrow type, null at any depth."""
    if pa.types.is_struct(type_):
        return st.none() | st.fixed_dictionaries({field.name: anything(field.type) for field in type_})
    if pa.types.is_list(type_):
        return st.none() | st.lists(anything(type_.value_type), max_size=2)
    if pa.types.is_integer(type_):
        return st.none() | INTEGERS
    return st.none() | (st.floats() if pa.types.is_floating(type_) else WORDS)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything(pa.struct(list(SCHEMA))).map(lambda r: r or {}), min_size=1, max_size=4))
def test_no_table_of_the_schema_makes_validation_fail(rows: list[dict[str, Any]]) -> None:
    found = findings(*rows, roots=(Path("/nowhere"),))
    assert all(isinstance(f, Finding) and 0 <= f.row_index < len(rows) and f.message for f in found)
    assert [f.row_index for f in found] == sorted(f.row_index for f in found)


def image(uri: str, root: Path) -> list[str]:
    return [f.code for f in findings(row(shots=[shot(first_frame_uri=uri)]), roots=(root,))]


def test_image_below_a_root_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert image("a.png", tmp_path) == []
    assert image(str(tmp_path / "a.png"), tmp_path) == []
    assert image(f"file://{tmp_path}/a.png", tmp_path) == []


def test_a_file_url_is_percent_encoded_and_a_path_is_not(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"x")
    (tmp_path / "100%25.png").write_bytes(b"x")
    assert image(f"file://{tmp_path}/a%20b.png", tmp_path) == []
    assert image((tmp_path / "a b.png").as_uri(), tmp_path) == []
    assert image(str(tmp_path / "100%25.png"), tmp_path) == []
    assert image("a%20b.png", tmp_path) == ["E310_ASSET_404"]
    assert image(f"file://{tmp_path}/100%25.png", tmp_path) == ["E310_ASSET_404"]
    assert image(f"file://{tmp_path}/%2e%2e/a.png", tmp_path) == ["E311_ASSET_OUTSIDE"]
    assert image(f"file://{tmp_path}/a%00.png", tmp_path) == ["E310_ASSET_404"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"extend_uri": "a.png", "last_frame_uri": "a.png"}, []),
        ({"first_frame_uri": "a.png", "last_frame_uri": "a.png"}, []),
        ({"source_video_uri": "a.png", "strength": 1.0}, []),
        ({"extend_uri": "a.png", "first_frame_uri": "a.png"}, ["E315_GIVEN_CHOICE"]),
        ({"source_video_uri": "a.png", "last_frame_uri": "a.png"}, ["E315_GIVEN_CHOICE"]),
        ({"source_video_uri": "a.png", "extend_uri": "a.png"}, ["E315_GIVEN_CHOICE"]),
        ({"source_video_uri": "a.png", "strength": 0.0}, ["E316_STRENGTH"]),
        ({"source_video_uri": "a.png", "strength": float("nan")}, ["E316_STRENGTH"]),
        ({"first_frame_uri": "a.png", "strength": 0.5}, ["E316_STRENGTH"]),
        ({"extend_uri": "b.png"}, ["E310_ASSET_404"]),
    ],
)
def test_a_shot_begins_in_one_way_and_only_a_video_has_a_strength(
    tmp_path: Path, given: dict[str, Any], found: list[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert [f.code for f in findings(row(shots=[shot(**given)]), roots=(tmp_path,))] == found


def test_what_a_model_must_be_given_and_how_long_its_shots_may_be_is_held_against_every_shot() -> None:
    needs = replace(LIMITS, needs=frozenset({"first_frame_uri"}), max_shot_frames=96)
    table = pa.Table.from_pylist([row(shots=[shot(), shot(shot_id="s2", duration_s=4.1)])], schema=SCHEMA)
    told = [(f.code, f.json_path) for f in validate(table, {"p": needs})]
    assert sorted(told) == [
        ("E317_NEEDED", "/shots/0/first_frame_uri"),
        ("E317_NEEDED", "/shots/1/first_frame_uri"),
        ("E407_WINDOW_LONG", "/shots/1"),
    ]


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


def test_rows_that_wait_for_rows_and_priorities_are_checked_with_all_else_in_the_order_of_rows():
    rows = [row(row_id="a", depends_on=["b"]), row(row_id="b", depends_on=["a", "c"]), row(priority=101)]
    found = [(f.row_index, f.code, f.json_path) for f in findings(*rows, row(row_id=""))]
    assert found == [
        (0, "E108_CIRCLE", "/depends_on/0"),
        (1, "E107_UNKNOWN_ROW", "/depends_on/1"),
        (1, "E108_CIRCLE", "/depends_on/0"),
        (2, "E106_PRIORITY", "/priority"),
        (3, "E101_MISSING", "/row_id"),
    ]
