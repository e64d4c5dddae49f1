"""Every bad input is one message with its place and exit code, before anything is rendered or written."""

import errno
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from cluster.local import LocalCrew
from jobs.cli import main
from manifests.results import read_results
from manifests.schema import SCHEMA, VERSION_KEY, write_manifest
from manifests.store import Store, open_store

ROOT = Path(__file__).parent.parent
PROFILE = {
    "sampling.n_steps": 1,
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}
Row = dict[str, Any]


def shot(**changes: Any) -> Row:
    return {"shot_id": "s1", "prompt": "a river", "duration_s": 1.0} | changes


def row(*shots: Row, **changes: Any) -> Row:
    return {"row_id": "bad", "profile": "chalk", "shots": list(shots) or [shot()]} | changes


def spoken(lang: str = "hi-IN", text: str | None = None, **changes: Any) -> Row:
    segments = [{"shot_id": "s1", "text": text}] if text is not None else []
    return row(languages=[{"lang": lang, "segments": segments} | changes])


GOOD = row(row_id="good")


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    chosen = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
    identity = tmp_path_factory.mktemp("identity")
    return [*chosen, f"profiles.chalk.model.folder={tiny_folder}", f"identity={identity}"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for films, not yet made, and never to be: nobody may be hired."""
    monkeypatch.setattr(LocalCrew, "__init__", lambda *_: pytest.fail("a crew was hired for bad input"))
    (tmp_path / "night").mkdir()
    return tmp_path / "night" / "films"


def as_jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def run(manifest: Path, out: Path | str, settings: list[str]) -> int:
    return main(["run", str(manifest), "--out", str(out), "--local", *settings])


def check_nothing_happened(capsys: pytest.CaptureFixture[str], place: Path, code: int, status: str) -> str:
    """One message, no traceback, and no trace on the disk; returns what was said."""
    said = capsys.readouterr()
    last = said.out.strip().splitlines()[-1]
    assert last.startswith("LONGTAKE_RESULT ")
    result = json.loads(last.removeprefix("LONGTAKE_RESULT "))
    assert (result["exit_code"], result["status"], result["done"]) == (code, status, 0)
    assert "Traceback" not in said.out + said.err
    assert not place.exists() and list(place.parent.iterdir()) == []
    return said.err


LONG = "सूरज निकला और पानी भाप बनकर आसमान में उठ गया। " * 3
ROWS = [
    ("an id taken twice", [GOOD, row(row_id="good")], "E103_DUPLICATE_ROW", 1, "/row_id"),
    ("an id that leaves the folder", [row(row_id="../bad")], "E102_BAD_ID", 0, "/row_id"),
    ("an id with a line break", [row(row_id="bad\n")], "E102_BAD_ID", 0, "/row_id"),
    ("a shot taken twice", [row(shot(), shot())], "E104_DUPLICATE_SHOT", 0, "/shots/1/shot_id"),
    ("no shots", [row(shots=[])], "E105_NO_SHOTS", 0, "/shots"),
    ("no prompt", [row(shot(prompt=None))], "E101_MISSING", 0, "/shots/0/prompt"),
    ("unknown profile", [row(profile="big")], "E202_UNKNOWN_PROFILE", 0, "/profile"),
    ("unknown language", [spoken("xx-XX")], "E203_UNKNOWN_LANG", 0, "/languages/0/lang"),
    ("a language without a voice", [spoken("sa-IN")], "E203_UNKNOWN_LANG", 0, "/languages/0/lang"),
    ("zero duration", [row(shot(duration_s=0.0))], "E402_DURATION_ZERO", 0, "/shots/0/duration_s"),
    ("negative duration", [row(shot(duration_s=-4.0))], "E402_DURATION_ZERO", 0, "/shots/0/duration_s"),
    (
        "no number of seconds",
        [row(shot(duration_s=float("nan")))],
        "E402_DURATION_ZERO",
        0,
        "/shots/0/duration_s",
    ),
    ("endless", [row(shot(duration_s=float("inf")))], "E403_DURATION_LONG", 0, "/shots/0/duration_s"),
    (
        "no frames",
        [row(shot(duration_s=None, duration_frames=0))],
        "E402_DURATION_ZERO",
        0,
        "/shots/0/duration_frames",
    ),
    ("under half a frame", [row(shot(duration_s=0.01))], "E402_DURATION_ZERO", 0, "/shots/0/duration_s"),
    ("two durations", [row(shot(duration_frames=8))], "E401_DURATION_CHOICE", 0, "/shots/0/duration_s"),
    ("over the limit", [row(shot(duration_s=61.0))], "E403_DURATION_LONG", 0, "/shots/0/duration_s"),
    ("a size between patches", [row(width_px=100, height_px=64)], "E301_SIZE_MULTIPLE", 0, "/width_px"),
    ("a size over the limit", [row(width_px=64, height_px=64000)], "E302_SIZE_RANGE", 0, "/height_px"),
    ("a negative size", [row(width_px=-64, height_px=64)], "E302_SIZE_RANGE", 0, "/width_px"),
    ("one side", [row(width_px=64)], "E304_SIZE_HALF", 0, "/height_px"),
    ("no frame rate", [row(fps_num=0, fps_den=1)], "E303_FPS", 0, "/fps_num"),
    ("a frame rate of a million", [row(fps_num=1_000_000, fps_den=1)], "E305_FPS_HIGH", 0, "/fps_num"),
    ("an image", [row(shot(first_frame_uri="a.png"))], "E311_ASSET_OUTSIDE", 0, "/shots/0/first_frame_uri"),
    (
        "an image outside",
        [row(shot(first_frame_uri="/etc/passwd"))],
        "E311_ASSET_OUTSIDE",
        0,
        "/shots/0/first_frame_uri",
    ),
    ("a prompt of a book", [row(shot(prompt="x" * 10_000))], "E501_PROMPT_LONG", 0, "/shots/0/prompt"),
    (
        "a control character in a prompt",
        [row(shot(prompt="a\x1b[2Jb"))],
        "E502_CONTROL_CHAR",
        0,
        "/shots/0/prompt",
    ),
    ("a line break in a title", [row(title="a\nb")], "E502_CONTROL_CHAR", 0, "/title"),
    ("a null in a narration", [spoken(text="क\x00")], "E502_CONTROL_CHAR", 0, "/languages/0/segments/0/text"),
    ("a title without a typeface", [spoken(title="𒀭 水")], "E602_TITLE_GLYPHS", 0, "/languages/0/title"),
    ("a title too wide", [spoken(title="जल " * 60)], "E603_TITLE_FIT", 0, "/languages/0/title"),
    (
        "a narration over its shot",
        [spoken(text=LONG)],
        "E601_NARRATION_LONG",
        0,
        "/languages/0/segments/0/text",
    ),
    ("no rows", [], "E100_EMPTY", -1, ""),
]


@pytest.mark.parametrize(
    ("rows", "code", "index", "field"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_a_bad_row_is_one_finding_with_code_row_and_field_and_nothing_is_rendered_or_written(
    settings: list[str],
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[Row],
    code: str,
    index: int,
    field: str,
) -> None:
    manifest = as_jsonl(tmp_path / "m.jsonl", *rows)
    assert main(["validate", str(manifest), "-o", "json", *settings]) == 3
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["code"], finding["row_index"], finding["json_path"]) == (code, index, field)
    assert finding["message"] and finding["hint"]
    assert run(manifest, place, settings) == 3
    said = check_nothing_happened(capsys, place, 3, "invalid")
    assert code in said and field in said and "1 finding in" in said
    if index >= 0:
        assert f"row {index} (" in said
    assert not {c for c in said if c < " "} - {"\n"}, "control characters reach the terminal"


def test_all_bad_rows_are_told_at_once_each_at_its_own_place(
    settings: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [
        row(row_id=f"r{i}", **{k: v for k, v in rows[-1].items() if k != "row_id"})
        for i, (_, rows, *_) in enumerate(ROWS[5:-1])
    ]
    manifest = as_jsonl(tmp_path / "m.jsonl", *bad, GOOD)
    assert run(manifest, place, settings) == 3
    said = check_nothing_happened(capsys, place, 3, "invalid")
    assert f"{len(bad)} findings in {len(bad)} of {len(bad) + 1} rows" in said
    assert {case[2] for case in ROWS[5:-1]} == {
        line.split()[0] for line in said.splitlines() if line[:1] == "E"
    }


def parquet(path: Path, n_rows: int = 40) -> Path:
    table = pa.Table.from_pylist(
        [row(row_id=f"film-{i}", seed=i * 7919) for i in range(n_rows)], schema=SCHEMA
    )
    write_manifest(table, path)
    return path


def truncated(path: Path) -> Path:
    parquet(path).write_bytes(parquet(path).read_bytes()[:-100])
    return path


def of_another_version(path: Path) -> Path:
    table = pq.read_table(parquet(path)).replace_schema_metadata({VERSION_KEY: b"manifest/9.0"})
    pq.write_table(table, path)
    return path


def of_no_version(path: Path) -> Path:
    pq.write_table(pq.read_table(parquet(path)).replace_schema_metadata(None), path)
    return path


def with_another_column(path: Path) -> Path:
    table = pq.read_table(parquet(path))
    pq.write_table(table.append_column("budget", pa.array([1] * len(table))), path)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def absent(path: Path) -> Path:
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def written(text: str, suffix: str = ".yaml") -> Any:
    def write(path: Path) -> Path:
        path.with_suffix(suffix).write_text(text, encoding="utf-8")
        return path.with_suffix(suffix)

    return write


FILES = [
    ("truncated", truncated, "not a readable Parquet file"),
    ("of another version", of_another_version, "schema version is manifest/9.0"),
    ("of no version", of_no_version, "schema version is none"),
    ("with a column of its own", with_another_column, "unknown columns budget"),
    ("empty", empty, "not a readable Parquet file"),
    ("absent", absent, "m.parquet"),
    ("a folder", folder, "m.parquet"),
    ("of an unknown kind", written("", ".txt"), "unknown suffix '.txt'"),
    ("YAML without an end", written("- {row_id: a"), "not safe, well-formed YAML"),
    ("YAML that would run code", written("!!python/object/apply:os.getcwd []"), "not safe, well-formed YAML"),
    ("YAML without rows", written("hello"), "no list of rows"),
    ("with an unknown key", written("- {row_id: a, shot: []}"), "unknown key '/shot'"),
    ("with a word for a number", written("- {row_id: a, width_px: wide}"), "width_px does not fit int32"),
    (
        "with a seed of 70 bits",
        written("- {row_id: a, seed: 1180591620717411303424}"),
        "seed does not fit int64",
    ),
    ("JSON cut in a line", written('{"row_id": "a"', ".jsonl"), "m.jsonl line 1"),
    ("CSV with ragged lines", written("row_id,profile\na\n", ".csv"), "m.csv line 2"),
]


@pytest.mark.parametrize(("make", "named"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_file_that_is_no_manifest_is_one_message_and_exit_3(
    settings: list[str],
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Any,
    named: str,
) -> None:
    manifest = make(tmp_path / "m.parquet")
    assert run(manifest, place, settings) == 3
    said = check_nothing_happened(capsys, place, 3, "invalid")
    assert named in said and str(manifest) in said and len(said.strip().splitlines()) == 1


def test_a_flipped_bit_anywhere_in_a_manifest_is_found(
    settings: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = parquet(tmp_path / "m.parquet").read_bytes()
    truth = pq.read_table(tmp_path / "m.parquet", schema=SCHEMA).to_pylist()
    damaged, silent = tmp_path / "damaged.parquet", []
    for at in range(0, len(sound), max(1, len(sound) // 60)):
        damaged.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << at % 8)]) + sound[at + 1 :])
        code = main(["validate", str(damaged), *settings])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and code in (0, 3), said.err
        if code == 0 and pq.read_table(damaged, schema=SCHEMA).to_pylist() != truth:
            silent.append(at)  # a flip where no content is changes nothing, and may pass
    assert not silent


SETTINGS = [
    ("an unknown key", ["cluster.gpus=8"], "cluster.gpus"),
    ("a value out of range", ["profiles.chalk.sampling.n_steps=-1"], "n_steps=-1"),
    ("a size that the model cannot do", ["profiles.chalk.picture.width_px=100"], "width_px=100 px"),
    ("a preset that would fail after denoising", ["profiles.chalk.picture.preset=quick"], "'quick'"),
    ("a model that is not there", ["profiles.chalk.model.folder=/nowhere"], "profiles.chalk.model.folder"),
    ("a file that is not there", ["--config", "/nowhere.yaml"], "/nowhere.yaml"),
]


@pytest.mark.parametrize(
    ("told", "named"), [case[1:] for case in SETTINGS], ids=[case[0] for case in SETTINGS]
)
def test_settings_that_cannot_be_used_are_one_message_and_exit_2(
    settings: list[str],
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    told: list[str],
    named: str,
) -> None:
    assert run(as_jsonl(tmp_path / "m.jsonl", GOOD), place, [*settings, *told]) == 2
    said = check_nothing_happened(capsys, place, 2, "usage")
    assert named in said and len(said.strip().splitlines()) == 1


def test_a_model_whose_weights_are_cut_short_is_told_before_rendering(
    settings: list[str], place: Path, tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model)
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    told = [*settings, f"profiles.chalk.model.folder={model}"]
    assert run(as_jsonl(tmp_path / "m.jsonl", GOOD), place, told) == 2
    said = check_nothing_happened(capsys, place, 2, "usage")
    assert "profiles.chalk.model.folder" in said and f"{weights} is cut short" in said


def test_a_place_without_room_is_told_before_rendering(
    settings: list[str],
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 5 << 20))
    assert run(as_jsonl(tmp_path / "m.jsonl", GOOD), place, settings) == 9
    said = check_nothing_happened(capsys, place, 9, "unreachable")
    assert "5.00 MiB free, 256.00 MiB needed" in said and str(place) in said


def test_a_place_that_is_a_file_is_told_before_rendering(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").write_text("mine")
    assert run(as_jsonl(tmp_path / "m.jsonl", GOOD), tmp_path / "films", settings) == 9
    assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "films").read_text() == "mine"


DISK_BROKEN = partial(OSError, errno.EIO)


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, DISK_BROKEN])
def test_a_store_that_cannot_be_reached_after_all_patience_is_no_error_in_the_tool(
    settings: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[str], OSError],
) -> None:
    def gone(*_: object) -> bool:
        raise error("the server is gone")

    monkeypatch.setattr(Store, "put_marker", gone)
    assert run(as_jsonl(tmp_path / "m.jsonl", GOOD), tmp_path / "films", settings) == 9
    said = capsys.readouterr()
    assert "the server is gone" in said.err and '"status": "unreachable"' in said.out


# A process of root's, too, may lose the right to pass shut doors: capabilities 1 and 2 override permissions.
AS_ANYBODY = """
import ctypes, os, sys
if os.getuid() == 0:
    assert all(ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0 for capability in (1, 2))
os.execv(sys.executable, [sys.executable, "-m", "jobs", *sys.argv[1:]])
"""


def test_a_place_without_permission_is_told_before_rendering(settings: list[str], tmp_path: Path) -> None:
    manifest, shut = as_jsonl(tmp_path / "m.jsonl", GOOD), tmp_path / "shut"
    shut.mkdir(mode=0o555)
    asked = ["run", str(manifest), "--out", str(shut / "films"), "--local", *settings]
    done = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, *asked], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 9, done.stdout + done.stderr
    assert "cannot write here: Permission denied" in done.stderr and str(shut / "films") in done.stderr
    assert "Traceback" not in done.stderr and list(shut.iterdir()) == []


def test_skipped_rows_are_in_the_results_and_sound_ones_are_rendered(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "films"
    manifest = as_jsonl(
        tmp_path / "m.jsonl",
        row(shot(duration_s=-1.0), row_id="short", width_px=100, height_px=64),
        GOOD,
        row(row_id="good"),
        spoken(text=LONG) | {"row_id": "wordy"},
    )
    assert run(manifest, place, [*settings, "on_invalid=skip"]) == 4
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1].removeprefix("LONGTAKE_RESULT "))
    assert (last["films"], last["done"], last["failed"], last["invalid"]) == (4, 1, 0, 3)
    rows = read_results(open_store(str(place))).to_pylist()
    told = [(r["row_id"], r["status"], r["code"], r["json_path"]) for r in rows]
    assert sorted(told, key=str) == sorted(
        [
            ("short", "invalid", "E301_SIZE_MULTIPLE", "/width_px"),
            ("short", "invalid", "E402_DURATION_ZERO", "/shots/0/duration_s"),
            ("good", "invalid", "E103_DUPLICATE_ROW", "/row_id"),
            ("wordy", "invalid", "E601_NARRATION_LONG", "/languages/0/segments/0/text"),
            ("good", "done", None, None),
        ],
        key=str,
    )
    assert [path.name for path in (place / "films").iterdir()] == ["good.und.mp4"]
    assert len(list((place / "done" / "shot").rglob("*.json"))) == 1, "only the sound row was rendered"


def test_skipping_all_rows_is_no_job(
    settings: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = as_jsonl(tmp_path / "m.jsonl", row(shot(duration_s=-1.0)))
    assert run(manifest, place, [*settings, "on_invalid=skip"]) == 3
    check_nothing_happened(capsys, place, 3, "invalid")


def _misshapen(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    weight = tensors["patch_embed.proj.weight"]
    save_file(tensors | {"patch_embed.proj.weight": weight[:-1].contiguous()}, path, {"format": "pt"})


def _compressed_otherwise(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temporal_compression_ratio": 3}))


def _of_another_family(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "WanPipeline"}))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json is missing"),
        (_of_another_family, "is this a folder of another family?"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer is missing, or has no file"),
        (_misshapen, "transformer: patch_embed.proj.weight has shape"),
        (_compressed_otherwise, "vae/config.json: its decoder makes"),
    ],
)
def test_a_folder_that_no_worker_could_load_is_refused_by_plan_and_before_anybody_is_hired(
    place: Path, settings: list[str], tiny_folder: Path, capsys: Any, break_it: Any, said: str
) -> None:
    model = place.parent / "model"
    shutil.copytree(tiny_folder, model)
    break_it(model)
    manifest = place.parent / "m.jsonl"
    manifest.write_text(json.dumps(GOOD))
    told = [*settings, f"profiles.chalk.model.folder={model}"]
    for command in (["run", "--out", str(place), "--local"], ["plan"]):
        assert main([command[0], str(manifest), *command[1:], *told]) == 2
        printed = capsys.readouterr().err
        assert said in printed and "profiles.chalk.model.folder" in printed and printed.count("\n") == 1
