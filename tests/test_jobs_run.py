"""A job from its command to its results: what is done stays done, and one film's trouble is its own."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cluster import shortage
from cluster.local import LocalCrew
from cluster.shots import PromptTask
from cluster.stages import Decoder
from engine import phases
from engine.canvas import Canvas
from engine.film.encode import encode_segment
from engine.film.provenance import verify
from engine.memory import Free
from engine.tensors import from_bytes
from jobs.cli import main
from jobs.refusal import SpecError
from jobs.spec import load_spec
from jobs.stock import stock
from manifests.results import read_results
from manifests.store import Store, open_store
from tests import tiny_wan
from tests.test_engine_parity_pictures import KINDS
from tests.test_manifests_ledger import events_of

PROFILE = {
    "sampling.n_steps": 2,
    "window.size": 4,
    "window.overlap": 2,
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}
Row = dict[str, Any]
Result = dict[str, Any]


def shot(name: str, **changes: Any) -> Row:
    return {"shot_id": name, "prompt": f"a river and {name}", "duration_frames": 13} | changes


def language(lang: str = "hi-IN", title: str | None = "जल") -> Row:
    return {"lang": lang, "title": title, "segments": []}


def film(row_id: str = "water", **changes: Any) -> Row:
    base = {"row_id": row_id, "profile": "chalk", "seed": 3, "shots": [shot("s0"), shot("s1")]}
    return base | {"languages": [language()]} | changes


class Night:
    """A folder of films, and the command that fills it."""

    def __init__(self, folder: Path, settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.settings, self.capsys = folder, settings, capsys
        self.out = folder / "films"
        self.said = ""

    def run(self, *rows: Row, told: tuple[str, ...] = ()) -> Result:
        """The last line of the command, whose exit code must say the same."""
        manifest = self.folder / "m.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        code = main(["run", str(manifest), "--out", str(self.out), "--local", *self.settings, *told])
        captured = self.capsys.readouterr()
        self.said = captured.out + captured.err
        last = captured.out.strip().splitlines()[-1].removeprefix("LONGTAKE_RESULT ")
        result: Result = json.loads(last)
        assert result["exit_code"] == code
        return result

    def done(self) -> set[tuple[str, str]]:
        """Kind and key of every task with a marker."""
        paths = (self.out / "done").rglob("*.json")
        return {(path.relative_to(self.out).parts[1], path.stem) for path in paths}

    def made_by(self, *rows: Row) -> Counter[str]:
        """How many tasks of each kind a run adds."""
        before = self.done()
        assert self.run(*rows)["status"] == "done", self.said
        return Counter(kind for kind, _ in self.done() - before)

    def plan(self, *rows: Row) -> dict[str, Any]:
        """What the plan of these rows says."""
        manifest = self.folder / "m.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        assert main(["plan", str(manifest), "--out", str(self.out), "-o", "json", *self.settings]) == 0
        facts: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return facts

    def bytes(self) -> dict[str, bytes]:
        """Every artefact by its name."""
        return {path.name: path.read_bytes() for path in (self.out / "cas").rglob("*") if path.is_file()}

    def results(self) -> list[Row]:
        rows: list[Row] = read_results(self.store).to_pylist()
        return rows

    @property
    def store(self) -> Store:
        return open_store(str(self.out))


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    chosen = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
    identity = tmp_path_factory.mktemp("identity")
    chosen += ["cluster.patience=0"]  # so that no error is waited out
    return [*chosen, f"profiles.chalk.model.folder={tiny_folder}", f"identity={identity}"]


@pytest.fixture
def night(tmp_path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]) -> Night:
    return Night(tmp_path, settings, capsys)


def nobody(*_: Any) -> None:
    pytest.fail("a crew was hired")


def failing(name: str, error: Exception, real: Callable[..., Any]) -> Callable[..., Any]:
    """A decoder that cannot decode the shot of this name."""

    def segment(self: Decoder, task: Any, folder: Path) -> Any:
        if task.source.shot.shot_id == name:
            raise error
        return real(self, task, folder)

    return segment


def test_a_gang_in_a_single_process_is_refused_before_anything_is_rendered(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalCrew, "__init__", nobody)
    result = night.run(film(), told=("cluster.ulysses=2",))
    assert result["exit_code"] == 2 and "cluster.ulysses=2: --local is a single process" in night.said


def test_of_ten_shots_one_edited_renders_a_tenth_and_the_others_keep_their_bytes(night: Night) -> None:
    ten = [shot(f"s{k}") for k in range(10)]
    edited = [*ten[:4], shot("s4", prompt="snow on a hill"), *ten[5:]]
    assert night.made_by(film(shots=ten))["shot"] == 10
    before = night.bytes()
    assert night.plan(film(shots=edited))["edited"] == {"water": {"s4": "another prompt"}}
    second = night.made_by(film(shots=edited))
    assert second == {"prompt": 1, "shot": 1, "segment": 1, "master": 1, "version": 1}
    assert before.items() <= night.bytes().items()


def test_films_are_made_in_the_order_of_the_plan_and_not_at_all_if_one_that_they_depend_on_fails(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        film("after", depends_on=["torn"], shots=[shot("s0", prompt="snow")]),
        film("torn", shots=[shot("torn")]),
        film("sound", shots=[shot("s0")]),
        film("urgent", shots=[shot("s0")], priority=3),
    ]
    order = [(row["row_id"], row["priority"], row["depends_on"]) for row in night.plan(*rows)["order"]]
    assert order == [("urgent", 3, None), ("torn", 0, None), ("after", 0, ["torn"]), ("sound", 0, None)]
    broken = failing("torn", ValueError("no such pixels"), Decoder._segment)
    monkeypatch.setattr(Decoder, "_segment", broken)
    result = night.run(*rows)
    assert (result["status"], result["exit_code"], result["done"]) == ("some_failed", 4, 2)
    told = {row["row_id"]: (row["status"], row["code"]) for row in night.results()}
    assert told["torn"] == ("failed", "E900_RENDER") and told["after"] == ("failed", "E932_UPSTREAM")
    assert "the film depends on row 'torn', which is not done: E900_RENDER" in night.said
    assert Counter(kind for kind, _ in night.done())["prompt"] == 3, (
        "nothing of it was begun, not even its text"
    )


def test_a_job_that_another_driver_renders_is_left_to_that_and_stays_running(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalCrew, "__init__", nobody)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        claim = {"host": platform.node(), "pid": other.pid, "started": started}
        night.store.put_marker("jobs/tonight/driver/epoch-000001.json", claim)
        left = night.run(film(), told=("--job-id", "tonight"))
        assert other.stdin is not None
        other.stdin.close()
    assert (left["exit_code"], left["status"]) == (2, "usage")
    assert f"tonight is being rendered by process {other.pid} on {platform.node()}" in night.said
    assert main(["status", "tonight", "--out", str(night.out)]) == 0
    assert "tonight: begun" in night.capsys.readouterr().out


def test_a_second_run_hires_nobody_and_leaves_every_film_as_it_is(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = night.run(film(), film("light", languages=[]))
    assert (first["done"], first["reused"]) == (2, 0)
    films = {path: path.read_bytes() for path in (night.out / "films").iterdir()}
    monkeypatch.setattr(LocalCrew, "__init__", nobody)
    second = night.run(film(), film("light", languages=[]))
    assert (second["exit_code"], second["done"], second["reused"]) == (0, 2, 2)
    assert second["job_id"] == first["job_id"], "the same command is the same job"
    assert {path: path.read_bytes() for path in (night.out / "films").iterdir()} == films
    assert all(row["reused"] and row["render_s"] == 0 for row in night.results())
    assert {row["driver_epoch"] for row in night.results()} == {2}


def test_only_what_an_edit_changes_is_made_again(night: Night) -> None:
    shots, hindi, tamil = [shot("s0"), shot("s1")], language(), language("ta-IN", "நீர்")
    all_new = night.made_by(film())
    assert all_new == {"prompt": 3, "shot": 2, "segment": 2, "master": 1, "version": 1}
    assert night.made_by(film(languages=[hindi, tamil])) == {"version": 1}
    assert night.made_by(film(languages=[language(title="पानी"), tamil])) == {"version": 1}
    other = [shots[0], shot("s1", prompt="the sea")]
    edited = {"prompt": 1, "shot": 1, "segment": 1, "master": 1, "version": 2}
    assert night.made_by(film(shots=other, languages=[hindi, tamil])) == edited
    shorter = [shots[0], shot("s1", duration_frames=12)]  # of the same latents
    assert night.made_by(film(shots=shorter)) == {"segment": 1, "master": 1, "version": 1}
    assert night.made_by(film(shots=shots[::-1])) == {"master": 1, "version": 1}


def test_films_that_share_a_shot_share_its_pictures(night: Night) -> None:
    twin = film("twin", languages=[language("ta-IN", "நீர்")])
    assert night.made_by(film(), twin) == {"prompt": 3, "shot": 2, "segment": 2, "master": 1, "version": 2}
    assert {path.name for path in (night.out / "films").glob("*.mp4")} == {
        "water.hi-IN.mp4",
        "twin.ta-IN.mp4",
    }


def test_results_tell_of_every_published_film_what_is_in_the_file(night: Night, settings: list[str]) -> None:
    narrated = language() | {"segments": [{"shot_id": "s0", "text": "जल।"}]}
    long = [shot("s0", duration_frames=None, duration_s=2.0), shot("s1")]
    result = night.run(film(languages=[narrated, language("ta-IN", None)], shots=long, fps_num=10, fps_den=1))
    rows = night.results()
    assert [(row["row_id"], row["lang"], row["status"]) for row in rows] == [
        ("water", "hi-IN", "done"),
        ("water", "ta-IN", "done"),
    ]
    for row in rows:
        data = (night.out / row["output_uri"]).read_bytes()
        assert row["output_sha256"] == hashlib.sha256(data).hexdigest()
        assert row["output_bytes"] == len(data)
        assert (row["frame_count"], row["duration_s"]) == (33, 3.3)
        assert (row["width_px"], row["height_px"], row["fps_num"], row["fps_den"]) == (64, 64, 10, 1)
        assert (row["shots"], row["windows"], row["seed"], row["reused"]) == (2, 3 + 2, 3, False)
        assert row["job_id"] == result["job_id"] and row["render_s"] > 0 and row["driver_epoch"] == 1
        assert row["code"] is None and row["message"] is None
    assert (night.out / rows[0]["captions_uri"]).read_text().startswith("WEBVTT")
    assert rows[1]["captions_uri"] is None
    identity = next(s for s in settings if s.startswith("identity=")).removeprefix("identity=")
    root = (Path(identity) / "development-identity" / "root.pem").read_text()
    for row in rows:
        assert verify(night.out / row["output_uri"], root).state == "Trusted"


def test_the_record_says_what_was_asked_and_how_it_ended(night: Night) -> None:
    result = night.run(film(languages=[]))
    job = night.store.read_marker(f"jobs/{result['job_id']}/job.json")
    manifest = (night.folder / "m.jsonl").read_bytes()
    assert job is not None and job["films"] == 1
    assert job["manifest_digest"] == hashlib.blake2b(manifest, digest_size=32).hexdigest()
    assert job["spec"]["profiles"]["chalk"]["sampling"]["n_steps"] == 2
    assert night.store.read_marker(f"jobs/{result['job_id']}/ended/000001.json") == result
    events = events_of(night.store, result["job_id"]).to_pylist()
    done = {event["task_key"] for event in events if event["event"] == "done"}
    assert done == {key for _, key in night.done()}
    assert "a river" not in json.dumps(job), "a prompt in the record"


def test_a_film_that_fails_fails_alone_and_the_same_command_mends_it(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = film("broken", shots=[shot("s0"), shot("torn")], languages=[language(), language("ta-IN", None)])
    real = Decoder._segment
    monkeypatch.setattr(Decoder, "_segment", failing("torn", ValueError("no such pixels"), real))
    result = night.run(broken, film())
    assert (result["exit_code"], result["done"], result["failed"]) == (4, 1, 1)
    told = {(row["row_id"], row["lang"]): (row["status"], row["code"]) for row in night.results()}
    assert told == {
        ("broken", "hi-IN"): ("failed", "E900_RENDER"),
        ("broken", "ta-IN"): ("failed", "E900_RENDER"),
        ("water", "hi-IN"): ("done", None),
    }
    assert "no such pixels" in night.said
    assert [path.name for path in (night.out / "films").iterdir()] == ["water.hi-IN.mp4"]
    monkeypatch.setattr(Decoder, "_segment", real)
    assert night.made_by(broken, film()) == {"segment": 1, "master": 1, "version": 2}
    assert {row["status"] for row in night.results()} == {"done"}


def test_a_film_too_large_for_the_memory_there_is_fails_alone_before_anything_of_it_is_begun(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage, "free_here", lambda: Free(0.02, "this machine"))
    large = film("large", width_px=512, height_px=512, shots=[shot("s2")])
    result = night.run(film("small"), large)
    assert (result["exit_code"], result["done"], result["failed"]) == (4, 1, 1)
    (row,) = (row for row in night.results() if row["row_id"] == "large")
    assert row["code"] == "E920_MEMORY" and "this machine has 0.02 GiB" in row["message"]
    assert re.search(r"at 512x512 px needs [\d.]+ GiB of main memory .* GiB short", row["message"])
    assert "a picture of " in row["hint"] and "E920_MEMORY" in night.said
    assert not [key for kind, key in night.done() if kind == "prompt" and key in prompts_of(night, "s2")]
    assert night.run(film("small"), film("small2", shots=[shot("s0")]))["exit_code"] == 0


def prompts_of(night: Night, name: str) -> set[str]:
    """Keys of the prompts that only the shot of this name has."""
    model = next(iter(stock(load_spec(None, night.settings)).values()))
    text = f"a river and {name}"
    return {PromptTask(model.model, text, model.facts.max_text_tokens).key}


def test_what_would_not_fit_is_begun_all_the_same_where_that_is_asked_for(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage, "free_here", lambda: Free(1e-6, "this machine"))
    assert night.run(film())["exit_code"] == 5 and "E920_MEMORY" in night.said
    assert night.run(film(), told=("cluster.check_memory=false",))["exit_code"] == 0


def test_when_every_film_fails_the_job_has_failed(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Decoder, "_segment", failing("s0", full, Decoder._segment))
    result = night.run(film(languages=[]))
    assert (result["exit_code"], result["status"], result["failed"]) == (5, "failed", 1)
    (row,) = night.results()
    assert (row["status"], row["code"]) == ("failed", "E803_DISK_FULL")
    assert re.search(r"disk is full: [\d.]+ [GM]iB are free \(.+\): make room on this node", row["message"])


def test_a_store_that_stays_full_ends_the_job_with_what_is_free_and_no_film_is_lost(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = os.link, list[str]()

    def link(source: Path, target: Path) -> None:
        if "/done/" in str(target):
            tries.append(str(target))
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        result = night.run(film(languages=[]), film("light", languages=[]))
    assert (result["exit_code"], result["status"], result["failed"]) == (9, "unreachable", 2)
    assert len(tries) == 4, "the same task, and then none"
    assert {row["code"] for row in night.results()} == {"E802_STORE_FULL"}
    assert re.search(r"No space left on device\): [\d.]+ GiB are free \(.+films\): make room", night.said)
    assert night.run(film(languages=[]), film("light", languages=[]))["status"] == "done"


@pytest.mark.parametrize("call", ["publish", "put_file"])
def test_a_driver_that_cannot_write_stops_with_one_message_and_can_be_run_again(
    night: Night, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    night.run(film("light", languages=[]))  # so that nothing but the driver's own writing is left
    with monkeypatch.context() as patch:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(Store, call, full)
        result = night.run(film("light", languages=[]))
    assert (result["exit_code"], result["status"]) == (9, "unreachable")
    assert "No space left on device" in night.said and "Traceback" not in night.said
    assert "same command again" in night.said
    assert night.run(film("light", languages=[]))["status"] == "done"


def test_an_artefact_that_is_gone_fails_its_film_alone_and_names_the_marker_to_remove(night: Night) -> None:
    night.run(film(), film("light", languages=[], shots=[shot("s2")]))
    (marker,) = (night.out / "done" / "master").rglob(f"{_master_of(night, 2)}.json")
    sheet = json.loads(marker.read_text())["files"]["sheet"]
    (night.out / "cas" / sheet[:2] / sheet).unlink()
    result = night.run(film(), film("light", languages=[], shots=[shot("s2")]))
    assert (result["done"], result["failed"], result["reused"]) == (1, 1, 1)
    assert str(marker.relative_to(night.out)) in night.said
    marker.unlink()
    assert night.made_by(film(), film("light", languages=[], shots=[shot("s2")])) == {"master": 1}


def test_a_damaged_marker_fails_its_film_alone_and_stray_files_fail_none(night: Night) -> None:
    rows = (film(languages=[]), film("light", languages=[], shots=[shot("s2")]))
    night.run(*rows)
    (marker,) = (night.out / "done" / "master").rglob(f"{_master_of(night, 2)}.json")
    marker.unlink()
    marker.touch()
    strays = ("checkpoints/.DS_Store", "jobs/.nfs01", "done/master/.DS_Store")
    for stray in strays:
        (night.out / stray).parent.mkdir(parents=True, exist_ok=True)
        (night.out / stray).write_bytes(b"x")
    result = night.run(*rows)
    assert (result["exit_code"], result["done"], result["failed"]) == (4, 1, 1)
    assert str(marker.relative_to(night.out)) in night.said
    marker.unlink()
    assert night.made_by(*rows) == {"master": 1}
    assert all((night.out / stray).exists() for stray in strays)


def test_a_film_that_was_changed_by_hand_is_not_passed_off_as_reused(night: Night) -> None:
    night.run(film())
    published = night.out / "films" / "water.hi-IN.mp4"
    published.chmod(0o644)
    with published.open("ab") as file:
        file.write(b"more")  # the artefact is this very file
    result = night.run(film())
    assert (result["done"], result["failed"], result["reused"]) == (0, 1, 0)
    assert "restore it, or remove done/version/" in night.said
    (marker,) = (night.out / "done" / "version").rglob("*.json")
    marker.unlink()
    assert night.made_by(film()) == {"version": 1}
    (row,) = night.results()
    assert hashlib.sha256(published.read_bytes()).hexdigest() == row["output_sha256"]


def _master_of(night: Night, n_shots: int) -> str:
    """The key of the master with so many shots."""
    for path in (night.out / "done" / "master").rglob("*.json"):
        if json.loads(path.read_text())["facts"]["frame_count"] == 13 * n_shots:
            return path.stem
    raise AssertionError("no such master")


def test_a_second_job_in_the_same_place_leaves_the_results_of_the_first(night: Night) -> None:
    first = night.run(film(languages=[]))
    second = night.run(film("light", languages=[]))
    assert first["job_id"] != second["job_id"]
    for result, row_id in ((first, "water"), (second, "light")):
        key = f"jobs/{result['job_id']}/results.parquet"
        assert result["results"] == f"{night.out}/{key}"
        assert read_results(night.store, key)["row_id"].to_pylist() == [row_id]
    assert night.results() == read_results(night.store, key).to_pylist(), "the last job's in the usual place"


def test_a_job_id_is_of_one_manifest_and_another_one_is_refused_before_anything_is_rendered(
    night: Night,
) -> None:
    same_id = ("--job-id", "night")
    assert night.run(film(languages=[]), told=same_id)["exit_code"] == 0
    before = {path: path.read_bytes() for path in night.out.rglob("*") if path.is_file()}
    result = night.run(film("light", languages=[]), told=same_id)
    assert (result["exit_code"], result["status"]) == (2, "usage")
    assert "job night in" in night.said and "another --job-id" in night.said
    assert {path: path.read_bytes() for path in night.out.rglob("*") if path.is_file()} == before
    more_steps = (*same_id, "profiles.chalk.sampling.n_steps=3")
    again = night.run(film(languages=[]), told=more_steps)
    assert (again["exit_code"], again["reused"]) == (0, 0), "other settings are no other manifest"


def test_what_dead_writers_left_is_swept_when_a_job_begins_and_what_is_young_stays(night: Night) -> None:
    staging = night.out / ".staging"
    staging.mkdir(parents=True)
    for name, age_s in (("old", 90_000), ("young", 60)):
        (staging / f"{name}.tmp").write_bytes(b"half")
        os.utime(staging / f"{name}.tmp", (time.time() - age_s,) * 2)
    night.run(film(languages=[], shots=[shot("s0")]))
    assert [path.name for path in staging.iterdir()] == ["young.tmp"]


def picture(path: Path, grey: int) -> Path:
    Image.new("RGB", (90, 60), (grey, grey, grey)).save(path)
    return path


def left_by(night: Night, kind: str, file: str) -> list[dict[str, Any]]:
    """What tasks of this kind have left in their file of this name."""
    markers = sorted((night.out / "done" / kind).rglob("*.json"))
    hashes = [json.loads(marker.read_text())["files"][file] for marker in markers]
    return [from_bytes(night.store.read_artefact(name)) for name in hashes]


def latents_of(night: Night) -> list[torch.Tensor]:
    """The latents of all shots."""
    return [left["latents"] for left in left_by(night, "shot", "latents")]


def test_a_shot_starts_from_its_first_frame_and_is_rendered_anew_for_another(night: Night) -> None:
    picture(night.folder / "a.png", 30)
    night.settings = [*night.settings, f"roots=[{night.folder}]"]
    one = film(shots=[shot("s0", first_frame_uri="a.png"), shot("s1", first_frame_uri="a.png"), shot("s2")])
    assert night.made_by(one) == {"prompt": 4, "given": 1, "shot": 3, "segment": 3, "master": 1, "version": 1}
    (canvas,) = left_by(night, "given", "canvas")
    begun = [torch.equal(latents[:, :1], canvas["beginning"]) for latents in latents_of(night)]
    assert sorted(begun) == [False, True, True]
    picture(night.folder / "a.png", 200)
    assert night.made_by(one) == {"given": 1, "shot": 2, "segment": 2, "master": 1, "version": 1}


@pytest.mark.parametrize(
    ("content", "code"), [(b"no picture", "E314_ASSET_UNREADABLE"), (None, "E310_ASSET_404")]
)
def test_an_image_that_is_none_is_found_before_anything_is_rendered(
    night: Night, content: bytes | None, code: str
) -> None:
    if content is not None:
        (night.folder / "a.png").write_bytes(content)
    told = (f"roots=[{night.folder}]",)
    assert night.run(film(shots=[shot("s0", first_frame_uri="a.png")]), told=told)["exit_code"] == 3
    assert code in night.said and "/shots/0/first_frame_uri" in night.said and not night.out.exists()


def clip(path: Path, n_frames: int) -> Path:
    """A film of noise at the profile's rate."""
    frames = np.random.default_rng(n_frames).integers(0, 255, (n_frames, 60, 90, 3), dtype=np.uint8)
    encode_segment(iter(frames), path, Fraction(8), crf=20, preset="ultrafast")
    return path


WAYS: dict[str, Row] = {
    "extension": {"extend_uri": "long.mp4"},
    "extension of a clip of one frame": {"extend_uri": "short.mp4"},
    "redrawing": {"source_video_uri": "long.mp4", "strength": 0.6},
    "redrawing at the usual strength": {"source_video_uri": "long.mp4"},
    "first frame": {"first_frame_uri": "a.png"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_shot_given_anything_is_rendered_at_its_length_and_comes_out_the_same_after_a_stop(
    night: Night, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    picture(night.folder / "a.png", 30)
    clip(night.folder / "long.mp4", 30)
    clip(night.folder / "short.mp4", 1)
    told = ("profiles.chalk.sampling.n_steps=5", "cluster.checkpoint_every=1", f"roots=[{night.folder}]")
    one = film(shots=[shot("s0", **WAYS[way]), shot("s1")], languages=[])
    with monkeypatch.context() as patch:
        patch.setattr(Canvas, "step", stopping(Canvas.step, at=4))
        assert night.run(one, told=told)["exit_code"] == 5, night.said
    assert list((night.out / "checkpoints").rglob("*.safetensors"))
    assert night.run(one, told=told)["status"] == "done", night.said
    resumed, (row,) = latents_of(night), night.results()
    assert row["frame_count"] == 26
    night.out = night.folder / "undisturbed"
    assert night.run(one, told=told)["status"] == "done"
    assert all(map(torch.equal, resumed, latents_of(night)))
    (canvas,) = left_by(night, "given", "canvas")
    if "beginning" in canvas:
        n = canvas["beginning"].shape[1]
        assert n == (3 if way == "extension" else 1)
        assert any(torch.equal(latents[:, :n], canvas["beginning"]) for latents in latents_of(night))


def stopping(step: Callable[..., None], at: int) -> Callable[..., None]:
    """A canvas that breaks at a step."""

    def broken(canvas: Canvas, prediction: torch.Tensor) -> None:
        if canvas.step_index == at:
            raise RuntimeError("stopped here")
        step(canvas, prediction)

    return broken


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"extend_uri": "no.mp4"}, "E314_ASSET_UNREADABLE", "extend_uri"),
        ({"extend_uri": "a.png"}, "E314_ASSET_UNREADABLE", "extend_uri"),
        ({"source_video_uri": "short.mp4"}, "E318_VIDEO_SHORT", "source_video_uri"),
        ({"source_video_uri": "gone.mp4"}, "E310_ASSET_404", "source_video_uri"),
        ({"source_video_uri": "../a.mp4"}, "E311_ASSET_OUTSIDE", "source_video_uri"),
        ({"source_video_uri": "long.mp4", "strength": 1.5}, "E316_STRENGTH", "strength"),
        ({"strength": 0.5}, "E316_STRENGTH", "strength"),
        ({"first_frame_uri": "a.png", "duration_frames": 1}, "E319_NOTHING_TO_DRAW", "first_frame_uri"),
        ({"extend_uri": "long.mp4", "first_frame_uri": "a.png"}, "E315_GIVEN_CHOICE", "first_frame_uri"),
    ],
)
def test_what_cannot_be_given_is_found_before_anything_is_rendered(
    night: Night, changes: Row, code: str, field: str
) -> None:
    picture(night.folder / "a.png", 30)
    clip(night.folder / "long.mp4", 30)
    clip(night.folder / "short.mp4", 12)
    (night.folder / "no.mp4").write_bytes(b"no clip")
    told = (f"roots=[{night.folder}]",)
    assert night.run(film(shots=[shot("s0", **changes)]), told=told)["exit_code"] == 3
    assert code in night.said and f"/shots/0/{field}" in night.said and not night.out.exists()


@pytest.mark.parametrize("kind", tiny_wan.KINDS)
def test_a_film_of_another_family_is_rendered_by_the_same_command(
    night: Night, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "wan"
    tiny_wan.make_pipeline(tiny_wan.KINDS[kind]).save_pretrained(folder, safe_serialization=True)
    told = (f"profiles.chalk.model.folder={folder}",)
    assert night.run(film(), told=told)["status"] == "done", night.said
    (latents, _) = latents_of(night)
    assert latents.shape == (1, 5, 16, 8, 8) and latents.isfinite().all()


def pictured(night: Night, kind: str, size: int) -> tuple[str, ...]:
    """Settings for a model made for image-to-video in windows of this size, with two pictures beside it."""
    make, _ = KINDS[kind]
    make().save_pretrained(night.folder / "model", safe_serialization=True)
    picture(night.folder / "a.png", 30)
    picture(night.folder / "b.png", 200)
    window, drawn = (
        f"profiles.chalk.window.size={size}",
        "profiles.chalk.picture={width_px: 48, height_px: 32}",
    )
    return (window, drawn, f"profiles.chalk.model.folder={night.folder / 'model'}", f"roots=[{night.folder}]")


@pytest.mark.parametrize("kind", KINDS)
def test_models_made_for_pictures_render_by_the_same_command_and_see_them(night: Night, kind: str) -> None:
    told, (_, roles) = pictured(night, kind, size=3), KINDS[kind]
    given: Row = {f"{role}_uri": f"{name}.png" for role, name in zip(roles, "ab", strict=False)}
    given["duration_frames"] = 9
    other = given | {"first_frame_uri": "b.png"}
    shots = [shot("s0", prompt="rain", **given), shot("s0b", prompt="rain", **other)]
    assert night.run(film(shots=shots), told=told)["status"] == "done", night.said
    one, two = latents_of(night)
    assert one.isfinite().all() and not torch.equal(one, two)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({}, "E317_NEEDED", "/first_frame_uri"),
        ({"first_frame_uri": "a.png", "duration_frames": 18}, "E407_WINDOW_LONG", ""),
        ({"first_frame_uri": "a.png", "last_frame_uri": "b.png"}, "E313_NOT_TAKEN", "/last_frame_uri"),
        ({"first_frame_uri": "a.png", "extend_uri": "b.png"}, "E313_NOT_TAKEN", "/extend_uri"),
    ],
)
def test_a_shot_that_a_model_made_for_pictures_cannot_draw_is_refused_before_rendering(
    night: Night, changes: Row, code: str, field: str
) -> None:
    told = pictured(night, "Wan 2.1 I2V", size=5)
    assert night.run(film(shots=[shot("s0", **changes)]), told=told)["exit_code"] == 3
    assert code in night.said and f"/shots/0{field}" in night.said and not night.out.exists()


@pytest.fixture(scope="module")
def taught(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting of a folder that says its model was taught to go on from given latents."""
    folder = tmp_path_factory.mktemp("taught") / "tiny"
    shutil.copytree(tiny_folder, folder)
    world = {
        "name": "tiny",
        "note": "draws nothing",
        "words": ["river"],
        "draws": ["a river"],
        "given_latents": 2,
    }
    (folder / "world.json").write_text(json.dumps(world))
    return f"profiles.chalk.model.folder={folder}"


def test_a_film_is_rendered_in_every_mode_and_a_shot_of_one_window_once_for_all(
    night: Night, taught: str
) -> None:
    long, short = shot("long", duration_frames=33), shot("short", duration_frames=9)
    made, latents = [], []
    for mode in phases.MODES:
        before = night.done()
        told = (taught, f"profiles.chalk.window.mode={mode}")
        assert night.run(film(shots=[long, short]), told=told)["status"] == "done", night.said
        made.append(Counter(kind for kind, _ in night.done() - before))
        names = {path.stem: path for path in (night.out / "done" / "shot").rglob("*.json")}
        latents.append({json.loads(path.read_text())["files"]["latents"] for path in names.values()})
        assert not list((night.out / "checkpoints").rglob("*.safetensors"))
    assert [kinds["shot"] for kinds in made] == [2, 1, 1], "one window is stitched alike, and reused"
    assert len(latents[-1]) == 4, "the long shot has other latents in every mode"
    windows = [row["windows"] for row in night.results()]
    assert windows == [4 + 1], "extend: windows of 4 that share 2, over 9 latent frames"


def test_auto_is_the_mode_that_suits_a_shot(night: Night, taught: str) -> None:
    shots = [shot("long", duration_frames=33), shot("short", duration_frames=9)]
    untaught = shutil.copytree(taught.partition("=")[2], night.folder / "untaught")
    (untaught / "world.json").unlink()
    for folder, mode in ((taught, "extend"), (f"profiles.chalk.model.folder={untaught}", "skeleton")):
        assert night.run(film(shots=shots), told=(folder,))["status"] == "done", night.said
        before = night.done()
        night.run(film(shots=shots), told=(folder, f"profiles.chalk.window.mode={mode}"))
        assert night.done() == before, f"auto was {mode}"


def test_shuffled_noise_gives_another_shot(night: Night) -> None:
    blend, shots = "profiles.chalk.window.mode=blend", [shot("long", duration_frames=33)]
    for noise in ("keyed", "freenoise"):
        told = (blend, f"profiles.chalk.window.noise={noise}")
        assert night.run(film(shots=shots), told=told)["status"] == "done", night.said
    assert Counter(kind for kind, _ in night.done())["shot"] == 2


def test_extend_is_refused_for_a_model_that_was_not_taught_it(
    settings: list[str], taught: str, tmp_path: Path
) -> None:
    untaught = shutil.copytree(taught.partition("=")[2], tmp_path / "untaught")
    (untaught / "world.json").unlink()
    told = [*settings, f"profiles.chalk.model.folder={untaught}", "profiles.chalk.window.mode=extend"]
    with pytest.raises(SpecError, match=r"profiles.chalk.window.mode=extend: its model was not taught"):
        stock(load_spec(None, told))


@pytest.mark.parametrize("way", ["extension", "first frame"])
@pytest.mark.parametrize("mode", ["skeleton", "extend"])
def test_what_is_given_stands_at_the_beginning_of_any_mode_and_a_stop_in_a_later_phase_changes_no_bit(
    night: Night, monkeypatch: pytest.MonkeyPatch, taught: str, mode: str, way: str
) -> None:
    picture(night.folder / "a.png", 30)
    clip(night.folder / "long.mp4", 30)
    told = (taught, f"profiles.chalk.window.mode={mode}", "profiles.chalk.sampling.n_steps=3")
    told += ("cluster.checkpoint_every=1", f"roots=[{night.folder}]")
    one = film(shots=[shot("s0", duration_frames=25, **WAYS[way])], languages=[])
    with monkeypatch.context() as patch:
        patch.setattr(Canvas, "step", stopping_after(Canvas.step, 3))
        assert night.run(one, told=told)["exit_code"] == 5, night.said
    assert night.run(one, told=told)["status"] == "done", night.said
    (resumed,), (canvas,) = latents_of(night), left_by(night, "given", "canvas")
    n = canvas["beginning"].shape[1]
    assert n == (2 if way == "extension" else 1) and resumed.shape[1] == 7 + (2 if n == 2 else 0)
    assert torch.equal(resumed[:, :n], canvas["beginning"])
    night.out = night.folder / "undisturbed"
    assert night.run(one, told=told)["status"] == "done"
    assert torch.equal(resumed, latents_of(night)[0])


def stopping_after(step: Callable[..., None], n: int) -> Callable[..., None]:
    """A canvas that breaks once so many steps were taken, of whatever canvas."""
    taken = Counter[str]()

    def broken(canvas: Canvas, prediction: torch.Tensor) -> None:
        if taken["steps"] == n:
            raise RuntimeError("stopped here")
        taken["steps"] += 1
        step(canvas, prediction)

    return broken


def test_a_clip_that_is_redrawn_is_blended_and_refused_where_another_mode_is_asked_for(night: Night) -> None:
    clip(night.folder / "long.mp4", 33)
    long, short = (
        shot(f"s{n}", duration_frames=n, source_video_uri="long.mp4", strength=0.6) for n in (33, 9)
    )
    told = (f"roots=[{night.folder}]",)
    skeleton = (*told, "profiles.chalk.window.mode=skeleton")
    assert night.run(film(shots=[short, long]), told=skeleton)["exit_code"] == 3
    assert "E408_ONLY_BLENDED" in night.said and "/shots/1:" in night.said and not night.out.exists()
    assert "/shots/0" not in night.said, "one window has no mode"
    assert night.run(film(shots=[short]), told=skeleton)["status"] == "done", night.said
    assert night.run(film(shots=[short, long]), told=told)["status"] == "done", night.said
    assert {one.shape[1] for one in latents_of(night)} == {3, 9}
