"""Claims about `verify JOB`: a sound job passes, and each thing that may break is told by rule and place."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.audit import RULES, audit
from cluster.once import marker_key
from jobs.cli import main
from jobs.outcome import JobResult
from manifests.ledger import Ledger, claim_epoch
from manifests.results import write_results
from manifests.store import open_store

FILM = b"a film, as far as an audit sees"


@pytest.fixture
def store(tmp_path):
    """The folder of a job that made one film of one shot, and failed to make another."""
    store = open_store(str(tmp_path / "out"))
    epoch = claim_epoch(store, "night")
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    with Ledger(store, "night", epoch) as ledger:
        for kind, key, data in (("shot", "aa01", b"latents"), ("version", "bb02", FILM)):
            hash = store.put_artefact(data)
            body = {"files": {"film": hash}, "bytes": {"film": len(data)}, "facts": {}, "seconds": 1.0}
            store.put_marker(marker_key(kind, key), body)
            ledger.record(event="done", task_key=key, kind=kind, worker="w", seconds=1.0)
        ledger.record(event="failed", task_key="cc03", worker="w", code="E900_RENDER", message="broke")
    store.publish(store.put_artefact(FILM), "films/water.hi-IN.mp4")
    common = {"job_id": "night", "driver_epoch": 1}
    told = {"output_bytes": len(FILM), "output_sha256": hashlib.sha256(FILM).hexdigest()}
    done = {"row_id": "water", "lang": "hi-IN", "status": "done", "output_uri": "films/water.hi-IN.mp4"}
    rows = [common | done | told, common | {"row_id": "rain", "lang": "und", "status": "failed"}]
    write_results(rows, store, "jobs/night/results.parquet")
    result = JobResult("night", "some_failed", 4, 2, 1, 1, 0, 0, 2.0, store.url, "results", "report")
    store.put_marker("jobs/night/ended/000001.json", asdict(result))
    return store


def broken(store):
    ended = store.read_marker("jobs/night/ended/000001.json")
    return [(each.rule, each.where, each.what) for each in audit(store, "night", ended)]


def told(capsys, store, *argv):
    code = main(["verify", "night", "--out", store.url, *argv])
    return code, capsys.readouterr().out


def stored(store, data: bytes) -> Path:
    (path,) = [p for p in Path(store.url, "cas").rglob("*") if p.is_file() and p.read_bytes() == data]
    return path


def overwrite(path: Path, data: bytes) -> None:
    os.chmod(path, 0o644)
    path.write_bytes(data)


def test_a_sound_job_breaks_no_rule(store, capsys):
    assert broken(store) == []
    assert told(capsys, store) == (0, f"all 5 rules hold: {', '.join(RULES)}\n")


def test_a_job_that_runs_still_is_checked_as_far_as_it_is(store):
    assert list(audit(store, "night", None)) == []


def test_a_marker_that_is_gone_is_told(store, capsys):
    Path(store.url, marker_key("shot", "aa01")).unlink()
    assert broken(store) == [
        ("markers", "done/shot/aa/aa01.json", "there is no marker of a task that was done")
    ]
    code, said = told(capsys, store)
    assert code == 4 and said.startswith("night: markers: done/shot/aa/aa01.json: ") and "1 broken" in said


def test_an_artefact_whose_bytes_were_changed_is_told_though_its_size_is_right(store):
    overwrite(stored(store, b"latents"), b"LATENTS")
    ((rule, where, what),) = broken(store)
    assert (rule, where) == ("markers", "done/shot/aa/aa01.json") and "corrupt" in what


def test_an_artefact_that_is_gone_is_told(store):
    stored(store, b"latents").unlink()
    ((rule, _, what),) = broken(store)
    assert rule == "markers" and "is gone" in what


def test_a_published_film_that_is_gone_or_was_changed_is_told(store):
    path = Path(store.url, "films", "water.hi-IN.mp4")
    path.unlink()
    assert broken(store) == [("films", "films/water.hi-IN.mp4", "the film is gone")]
    path.write_bytes(FILM[:-1] + b"S")
    ((_, _, what),) = broken(store)
    assert "SHA-256 is another" in what
    path.write_bytes(FILM + b"more")
    ((_, _, what),) = broken(store)
    assert f"{len(FILM) + 4} bytes, and had {len(FILM)}" in what


def test_a_segment_of_the_ledger_that_is_gone_is_told(store):
    epoch = claim_epoch(store, "night")
    with Ledger(store, "night", epoch, max_events=1) as ledger:
        for key in ("dd04", "dd05", "dd06"):
            ledger.record(event="failed", task_key=key, worker="w", code="E1", message="m")
    segments = sorted(Path(store.url, "jobs", "night", "ledger", f"drv={epoch:06}").iterdir())
    segments[0].unlink()
    assert [rule for rule, _, _ in broken(store)] == ["ledger"]


def test_counts_that_do_not_add_up_are_told(store):
    path = Path(store.url, "jobs", "night", "ended", "000001.json")
    body = json.loads(path.read_text())
    overwrite(path, json.dumps(body | {"done": 2, "failed": 0}).encode())
    assert [rule for rule, _, _ in broken(store)] == ["counts", "counts"]


def test_a_checkpoint_of_a_finished_shot_is_told_and_of_an_unfinished_one_is_not(store):
    store.put_new("checkpoints/ee07/000005.safetensors", b"state")
    assert broken(store) == []
    store.put_new("checkpoints/aa01/000005.safetensors", b"state")
    assert [rule for rule, _, _ in broken(store)] == ["leftovers"]


def test_in_json_each_broken_rule_has_its_job(store, capsys):
    Path(store.url, "films", "water.hi-IN.mp4").unlink()
    code, said = told(capsys, store, "-o", "json")
    assert code == 4
    assert json.loads(said) == [
        {"job_id": "night", "rule": "films", "where": "films/water.hi-IN.mp4", "what": "the film is gone"}
    ]
