"""Hand-written files become the same table, and come back; mistakes are named with their row."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from s3fs import S3FileSystem

from manifests.compose import compose, decompose
from manifests.schema import SCHEMA, ManifestError
from manifests.source import read_source
from manifests.typed import faults

CSV = """row_id,title,profile,shot_id,shot_prompt,duration_s
film,"River, song",p,s1,a river,4.0
other,Hill,p,s1,a hill,2.5
film,,,s2,a boat,3.0
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    return compose(write(tmp_path / "m.csv", CSV))


def test_csv_lines_are_gathered_by_row(table: pa.Table) -> None:
    first, second = table.to_pylist()
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert (first["row_id"], first["title"], second["row_id"]) == ("film", "River, song", "other")
    assert [(s["shot_id"], s["prompt"], s["duration_s"]) for s in first["shots"]] == [
        ("s1", "a river", 4.0),
        ("s2", "a boat", 3.0),
    ]


def test_the_file_url_of_a_manifest_is_percent_encoded(tmp_path: Path) -> None:
    path = write(tmp_path / "tonight's films.csv", CSV)
    assert "%20" in path.as_uri() and read_source(path.as_uri()).n_rows == 2


@pytest.mark.parametrize("suffix", ["yaml", "yml", "jsonl", "csv"])
def test_decompose_and_compose_keep_the_table(table: pa.Table, tmp_path: Path, suffix: str) -> None:
    decompose(table, tmp_path / f"out.{suffix}")
    assert compose(tmp_path / f"out.{suffix}").equals(table)


@pytest.mark.parametrize("text", ["- {row_id: a}\n", "rows:\n- {row_id: a}\n"])
def test_yaml_is_a_list_or_a_mapping_with_rows(tmp_path: Path, text: str) -> None:
    assert compose(write(tmp_path / "m.yaml", text)).column("row_id").to_pylist() == ["a"]


@pytest.mark.parametrize("suffix", ["yaml", "jsonl"])
def test_languages_survive(tmp_path: Path, suffix: str) -> None:
    language = {"lang": "hi-IN", "title": "नदी", "segments": [{"shot_id": "s1", "text": "गीत\u2028x"}]}
    table = pa.Table.from_pylist([{"row_id": "a", "languages": [language]}], schema=SCHEMA)
    decompose(table, tmp_path / f"out.{suffix}")
    assert compose(tmp_path / f"out.{suffix}").equals(table)


def test_csv_refuses_rows_with_languages(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"row_id": "a", "languages": [{"lang": "hi-IN"}]}], schema=SCHEMA)
    with pytest.raises(ManifestError, match=r"CSV cannot hold languages.*row 0 \(a\)"):
        decompose(table, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


LATER = {"start_s": 2.0, "prompt": "the rain stops", "blend_s": 0.5}


@pytest.mark.parametrize("suffix", ["yaml", "yml", "jsonl"])
def test_later_prompts_survive(tmp_path: Path, suffix: str) -> None:
    shot = {
        "shot_id": "s1",
        "prompt": "rain",
        "duration_s": 4.0,
        "prompts": [LATER, LATER | {"start_s": 3.0}],
    }
    table = pa.Table.from_pylist([{"row_id": "a", "shots": [shot]}], schema=SCHEMA)
    decompose(table, tmp_path / f"out.{suffix}")
    assert compose(tmp_path / f"out.{suffix}").equals(table)


@pytest.mark.parametrize(
    ("shot", "message"),
    [
        ({"shot_id": "s1", "prompts": [LATER]}, r"CSV cannot hold later prompts.*row 0 \(a\)"),
        ({"prompts": []}, r"CSV cannot hold a shot without values.*row 0 \(a\)"),
        (None, r"CSV cannot hold a shot without values.*row 0 \(a\)"),
    ],
)
def test_csv_refuses_shots_that_it_would_lose(tmp_path: Path, shot: object, message: str) -> None:
    table = pa.Table.from_pylist([{"row_id": "a", "shots": [shot]}], schema=SCHEMA)
    with pytest.raises(ManifestError, match=message):
        decompose(table, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_csv_refuses_rows_that_would_merge(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"row_id": "a"}, {"row_id": "a"}], schema=SCHEMA)
    with pytest.raises(ManifestError, match=r"unique row_id.*row 1"):
        decompose(table, tmp_path / "out.csv")


BAD = [
    ("m.yaml", "- {row_id: a}\n- {row_id: b, colour: red}\n", r"unknown key '/colour'.*row 1 \(b\)"),
    ("m.yaml", "- {row_id: b, shots: [{length: 3}]}\n", r"unknown key '/shots/0/length'.*row 0 \(b\)"),
    ("m.yaml", "- !!python/object/apply:os.getcwd []\n", "not safe"),
    ("m.yaml", "row_id: a\n", "no list of rows"),
    ("m.yaml", "- a\n", "row is not a mapping.*row 0"),
    ("m.yaml", "- {row_id: a, shots: {}}\n", "/shots is not a list"),
    ("m.yaml", "- {row_id: a}\n- {row_id: b, width_px: wide}\n", r"width_px does not fit int32.*row 1 \(b\)"),
    (
        "m.yaml",
        "- {row_id: b, shots: [{duration_frames: 9.7}]}\n",
        r"/0/duration_frames.*: 9\.7 .*row 0",
    ),
    (
        "m.yaml",
        "- {row_id: b, shots: [{}, {duration_s: true}]}\n",
        r"/1/duration_s.*: True .*row 0 \(b",
    ),
    ("m.yaml", "- {row_id: b, seed: false}\n", r"/seed does not fit int64: False .*row 0 \(b\)"),
    ("m.yaml", "- {row_id: a}\n- {row_id: b, seed: 1, seed: 2}\n", r"/seed is given twice.*row 1 \(b\)"),
    ("m.yaml", "- {row_id: b, shots: [{prompt: x, prompt: x}]}\n", r"/shots/0/prompt is given twice.*row 0"),
    ("m.yaml", "- {row_id: a, row_id: b}\n", r"/row_id is given twice.*row 0\)"),
    (
        "m.jsonl",
        '{"row_id": "b", "shots": [{"seed": 1, "seed": 2}]}\n',
        "/shots/0/seed is given twice",
    ),
    ("m.jsonl", '{"row_id": "b", "title": "\\ud800"}\n', r"/title does not fit string.*row 0 \(b\)"),
    ("m.yaml", "- {row_id: b, title: 2024-01-01}\n", r"/title does not fit string: datetime.*row 0 \(b\)"),
    (
        "m.yaml",
        "- {row_id: b, seed: 1, 7: x, title: 3}\n",
        "unknown key '/7'.*; /title does not fit.*: 3",
    ),
    ("m.yaml", f"- {{row_id: b, seed: 0x{'f' * 5000}}}\n", "/seed does not.*of 20000 bits"),
    ("m.csv", "row_id,prompt\na,b\nc," + "x" * 131_073, r"not CSV: field larger.*m\.csv line 3"),
    ("m.jsonl", '{"row_id": "a"}\n{oops\n', "not JSON.*line 2"),
    ("m.csv", "row_id,colour\na,red\n", "unknown key 'colour'"),
    ("m.csv", "row_id,prompts\na,x\n", "unknown key 'prompts'"),
    ("m.yaml", "- {row_id: b, shots: [{prompts: [{at: 3}]}]}\n", "unknown key '/shots/0/prompts/0/at'"),
    ("m.csv", "title\na\n", "row_id absent"),
    ("m.csv", "row_id,seed\na,x\n", "seed 'x' is not int64.*line 2"),
    ("m.csv", "row_id,title\na,x\na,y\n", "title differs.*line 3"),
    ("m.csv", "row_id,title\na,x,y\n", "more or fewer cells.*line 2"),
    ("m.csv", "row_id,title\n,x\n", "row_id is empty.*line 2"),
    ("m.txt", "", "unknown suffix"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_mistake_is_named_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        compose(write(tmp_path / name, text))


def test_every_bad_row_has_a_line_up_to_20(tmp_path: Path) -> None:
    bad = [f"- {{row_id: r{i}, shots: [{{}}, {{duration_s: long, seed: x}}]}}\n" for i in range(23)]
    with pytest.raises(ManifestError) as told:
        compose(write(tmp_path / "m.yaml", "- {row_id: sound}\n" + "".join(bad)))
    lines = str(told.value).split("\n")
    assert lines[0] == "23 rows do not fit:" and lines[21] == "and 3 more rows" and len(lines) == 23
    assert lines[1:21] == [
        f"row {i + 1} (r{i}): /shots/1/duration_s does not fit double: 'long', and 1 more" for i in range(20)
    ]


def test_a_message_stays_short_whatever_the_aliases_unfold_to(tmp_path: Path) -> None:
    knots = [f"&k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 12)]
    text = f"- {{row_id: a, title: [&k0 x, {', '.join(knots)}]}}\n"
    with pytest.raises(ManifestError, match="/title does not fit string") as told:
        compose(write(tmp_path / "m.yaml", text))
    assert len(str(told.value)) < 1000


def test_a_merged_key_may_be_given_again(tmp_path: Path) -> None:
    text = """
- {row_id: a, shots: [&s {<<: &base {prompt: x, seed: 1}, shot_id: s, seed: 2}]}
- {row_id: b, shots: [{<<: *s, seed: 3}, *base, *s]}
"""
    shots = compose(write(tmp_path / "m.yaml", text)).column("shots").to_pylist()
    assert [[shot["seed"] for shot in row] for row in shots] == [[2], [3, 1, 2]]
    assert shots[1][0]["prompt"] == "x"


def test_a_whole_float_is_an_integer(tmp_path: Path) -> None:
    table = compose(write(tmp_path / "m.yaml", "- {row_id: a, seed: 9.0, shots: [{duration_s: 2}]}\n"))
    (row,) = table.to_pylist()
    assert (row["seed"], row["shots"][0]["duration_s"]) == (9, 2.0)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.sampled_from([2**31, -(2**31), 2**53 + 1, 2**63, -(2**63)])
    | st.floats() | st.floats(-1e6, 1e6).map(round).map(float) | st.text(max_size=3) | st.binary(max_size=3)
)  # fmt: skip
SHOT_NAMES = st.sampled_from(["prompt", "duration_s", "duration_frames"])
SHOTS = st.lists(st.dictionaries(SHOT_NAMES, LEAVES), max_size=3)
ANYTHING = st.dictionaries(st.sampled_from(["row_id", "seed", "width_px", "title"]), LEAVES) | st.builds(
    lambda shots: {"shots": shots},
    st.lists(
        st.dictionaries(st.sampled_from(["prompt", "duration_s", "duration_frames"]), LEAVES), max_size=3
    ),
)


@settings(deadline=None)
@given(ANYTHING)
def test_a_row_without_faults_comes_back_as_it_was(row: dict[str, Any]) -> None:
    if list(faults(row)):
        return
    (back,) = pa.Table.from_pylist([row], schema=SCHEMA).to_pylist()
    kept = [(back, row), *zip(back["shots"] or [], row.get("shots") or [], strict=True)]
    for told, given_ in kept:
        for name, value in given_.items():
            assert name == "shots" or told[name] == value or value != value


@pytest.mark.parametrize("suffix", ["yaml", "jsonl", "csv"])
def test_a_failed_write_leaves_the_older_file_alone(
    table: pa.Table, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(tmp_path / f"out.{suffix}", "older")

    def full(*places: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        decompose(table, target)
    assert target.read_text(encoding="utf-8") == "older" and list(tmp_path.glob(".*")) == []


def test_absent_file_is_a_manifest_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read"):
        compose(tmp_path / "none.yaml")


def test_a_file_that_cannot_be_read_is_told_without_numbers_of_the_system_or_words_of_a_codec(
    tmp_path: Path,
) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("- {row_id: caf\xe9}".encode("latin-1"))
    for name, said in (("folder", "cannot read: Is a directory"), ("latin", "its byte 15 is no UTF-8")):
        with pytest.raises(ManifestError, match=said) as told:
            compose(tmp_path / f"{name}.yaml")
        assert "Errno" not in str(told.value) and "codec" not in str(told.value)
        assert "give a readable UTF-8 file" in str(told.value) and f"{name}.yaml" in str(told.value)


def test_a_store_without_credentials_is_a_manifest_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(S3FileSystem, "cachable", False)  # another test's client would know its credentials
    with pytest.raises(ManifestError, match=r"Unable to locate credentials.*s3://films/m\.yaml"):
        read_source("s3://films/m.yaml")
