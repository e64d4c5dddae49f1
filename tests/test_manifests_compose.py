"""Hand-written files become the same table, and come back; mistakes are named with their row."""

from pathlib import Path

import pyarrow as pa
import pytest

from manifests.compose import compose, decompose
from manifests.schema import SCHEMA, ManifestError

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


def test_absent_file_is_a_manifest_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read"):
        compose(tmp_path / "none.yaml")
