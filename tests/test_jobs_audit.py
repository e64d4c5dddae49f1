"""Claims about `verify JOB`: a sound job passes, and each thing that may break is told by rule and place."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.audit import RULES, audit
from cluster.once import marker_key
from jobs.cli import main
from jobs.outcome import JobResult
from manifests.finished import Finishing
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
            ledger.record(event="done", task_key=key, kind=kind, row_id="water", worker="w", seconds=1.0)
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


def unfinished(store):
    """The same folder without its driver's last word and results; the finished film is listed."""
    for path in ("ended/000001.json", "results.parquet"):
        Path(store.url, "jobs", "night", path).unlink()
    told = {"output_bytes": len(FILM), "output_sha256": hashlib.sha256(FILM).hexdigest(), "reused": False}
    film = {"job_id": "night", "row_id": "water", "lang": "hi-IN", "status": "done", "driver_epoch": 1}
    with Finishing(store, "night", "asked", 1) as listing:
        listing.add(0, 6, [film | told | {"output_uri": "films/water.hi-IN.mp4"}])
    return store


def test_a_job_that_has_not_ended_is_checked_so_far_and_says_what_cannot_be(store, capsys):
    code, said = told(capsys, unfinished(store))
    first, last = said.splitlines()
    assert code == 7 and first.startswith("night: not checked: counts: ") and "gone without a word" in first
    assert last == "unfinished; 4 of 5 rules hold so far: ledger, markers, films, leftovers"


def test_a_film_that_was_listed_is_missed_also_before_the_job_has_ended(store, capsys):
    path = Path(unfinished(store).url, "films", "water.hi-IN.mp4")
    path.unlink()
    code, said = told(capsys, store)
    assert code == 4 and "films: films/water.hi-IN.mp4: the film is gone" in said
    assert said.endswith("1 broken, 1 not checked\n")
    path.write_bytes(FILM[:-1] + b"S")
    assert "SHA-256 is another" in told(capsys, store)[1]


def test_a_film_whose_note_says_that_it_was_shown_is_missed_though_nobody_listed_it(store, capsys):
    shutil.rmtree(Path(unfinished(store).url, "jobs", "night", "finished"))
    code, said = told(capsys, store)
    assert code == 7 and "not checked: films: " in said and "1 films were about to be finished" in said
    store.put_new("notes/water.json", b"{}")
    Path(store.url, "films", "water.hi-IN.mp4").unlink()
    code, said = told(capsys, store)
    assert code == 4 and "films: films/water.*.mp4: the film is gone, and its note says" in said


@pytest.mark.parametrize("end", [lambda store: store, unfinished])
@pytest.mark.parametrize("gone", [["jobs/night/ledger"], ["jobs/night/ledger", "done"]])
def test_a_job_that_had_work_done_and_has_no_ledger_is_broken(store, capsys, end, gone):
    end(store)
    for folder in gone:
        shutil.rmtree(Path(store.url, folder))
    code, said = told(capsys, store)
    assert code == 4 and "ledger: jobs/night/ledger/drv=000001: driver 1 had work done" in said


def test_markers_of_which_no_ledger_tells_are_broken_and_a_job_that_only_began_is_unfinished(
    tmp_path, capsys
):
    store = open_store(str(tmp_path / "out"))
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    code, said = told(capsys, store)
    assert code == 7 and "ledger: jobs/night/ledger: no driver has recorded anything yet" in said
    store.put_marker(marker_key("shot", "aa01"), {"files": {}})
    code, said = told(capsys, store)
    assert code == 4 and "there are 1 markers of finished tasks, and no event of any" in said


def test_a_job_that_was_cut_short_is_unfinished_and_says_how(store, capsys):
    epoch = claim_epoch(unfinished(store), "night")
    store.put_marker(f"jobs/night/ended/{epoch:06}.json", {"status": "cancelled", "results": "", "done": 1})
    code, said = told(capsys, store)
    assert code == 7 and "ended as cancelled before there were results" in said


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
        {
            "job_id": "night",
            "is": "broken",
            "rule": "films",
            "where": "films/water.hi-IN.mp4",
            "what": "the film is gone",
        }
    ]
