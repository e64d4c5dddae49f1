"""Claims about `status` and `wait`: they tell what the store tells, and an unknown job is never done."""

import json
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import status
from jobs.cli import main
from jobs.outcome import JobResult
from manifests.ledger import Ledger, claim_epoch
from manifests.store import Store, open_store


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(str(tmp_path))


def begin(store: Store, job: str, *events: dict) -> int:
    """A driver of a job begins and records events."""
    epoch = claim_epoch(store, job)
    store.put_marker(f"jobs/{job}/job.json", {"job_id": job, "films": 3, "manifest": "m.yaml"})
    with Ledger(store, job, epoch) as ledger:
        for event in events:
            ledger.record(**event)
    return epoch


def end(store: Store, job: str, epoch: int, word: str, code: int) -> None:
    result = JobResult(job, word, code, 3, 2, 1, 0, 0, 75.0, store.url, "r.parquet", "index.html")
    store.put_marker(f"jobs/{job}/ended/{epoch:06}.json", asdict(result))


def done(key: str, kind: str = "shot") -> dict:
    return {"event": "done", "task_key": key, "kind": kind, "worker": "gang-0"}


def failed(key: str, code: str = "E900_RENDER") -> dict:
    return {"event": "failed", "task_key": key, "code": code, "message": f"{key} broke"}


def facts(store: Store, capsys, job: str = "night") -> dict:
    assert main(["status", "--out", store.url, job, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_running_job_shows_tasks_lost_workers_and_errors(store, capsys):
    lost = {"event": "lost", "worker": "gang-1"}
    begin(
        store,
        "night",
        done("a"),
        done("b"),
        done("m", "master"),
        lost,
        failed("x"),
        failed("y", "E801_STORE"),
        failed("z"),
    )
    told = facts(store, capsys)
    assert (told["status"], told["exit_code"], told["films"], told["lost_workers"]) == ("running", None, 3, 1)
    assert told["tasks"] == {"master": {"done": 1}, "shot": {"done": 2}, "task": {"failed": 3}}
    assert [(e["code"], e["tasks"]) for e in told["errors"]] == [("E900_RENDER", 2), ("E801_STORE", 1)]
    assert main(["status", "--out", store.url]) == 0
    text = capsys.readouterr().out
    assert text.startswith("night: running, last event") and "x broke" in text and "1 lost" in text


def test_a_task_that_was_done_after_it_failed_is_no_error(store, capsys):
    begin(store, "night", failed("a"), done("a"))
    told = facts(store, capsys)
    assert told["errors"] == [] and told["tasks"] == {"shot": {"done": 1}}


def test_a_silent_driver_may_be_gone_and_status_says_so(store, capsys):
    begin(store, "night", done("a") | {"ts": datetime.now(UTC) - timedelta(hours=2)})
    main(["status", "--out", store.url, "night"])
    assert "no word for 2 h 0 min" in capsys.readouterr().out


def test_an_ended_job_tells_how_and_where(store, capsys):
    end(store, "night", begin(store, "night", done("a")), "some_failed", 4)
    main(["status", "--out", store.url, "night"])
    text = capsys.readouterr().out
    assert text.startswith("night: some_failed; 2 of 3 films done, 1 failed; exit code 4, took 1 min 15 s\n")
    assert "r.parquet" in text and "index.html" in text


def test_a_job_run_again_is_running_until_its_new_driver_ends(store, capsys):
    end(store, "night", begin(store, "night"), "some_failed", 4)
    second = begin(store, "night")
    assert facts(store, capsys)["status"] == "running"
    assert main(["wait", "--out", store.url, "night", "--timeout", "0"]) == 7
    end(store, "night", second, "done", 0)
    assert facts(store, capsys)["status"] == "done"
    assert main(["wait", "--out", store.url, "night"]) == 0


def test_an_unknown_job_is_a_usage_error_that_names_the_known_ones(store, capsys):
    begin(store, "night")
    begin(store, "morning")
    for words in (["status", "--out", store.url, "noon"], ["status", "--out", store.url, "../noon"]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "morning, night" in error and error.count("\n") == 1
    assert main(["status", "--out", str(Path(store.url) / "empty"), "-o", "json"]) == 2


def test_without_a_name_several_jobs_are_a_line_each(store, capsys):
    end(store, "night", begin(store, "night"), "done", 0)
    begin(store, "morning")
    assert main(["status", "--out", store.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["morning", "night"]
    assert "nothing has happened yet" in lines[0]


@pytest.mark.parametrize(("word", "code"), [("done", 0), ("some_failed", 4), ("failed", 5), ("cancelled", 6)])
def test_wait_returns_with_the_jobs_own_exit_code(store, word, code, capsys):
    end(store, "night", begin(store, "night"), word, code)
    assert main(["wait", "--out", store.url, "night"]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith("LONGTAKE_RESULT {")


def test_wait_sees_an_end_that_comes_while_it_waits(store, monkeypatch):
    monkeypatch.setattr(status, "POLL_S", 0.05)
    epoch = begin(store, "night")
    threading.Timer(0.3, end, (store, "night", epoch, "some_failed", 4)).start()
    assert main(["wait", "--out", store.url, "night", "--timeout", "30"]) == 4


def test_wait_gives_up_after_its_timeout(store, capsys):
    begin(store, "night")
    assert main(["wait", "--out", store.url, "night", "--timeout", "0.1"]) == 7
    assert "has not ended" in capsys.readouterr().err


def test_wait_does_not_wait_for_ever_for_a_job_that_never_shows_up(store, monkeypatch, capsys):
    monkeypatch.setattr(status, "APPEAR_S", 0.05)
    monkeypatch.setattr(status, "POLL_S", 0.05)
    assert main(["wait", "--out", store.url, "nihgt"]) == 2
    assert "no job 'nihgt'" in capsys.readouterr().err


def test_a_damaged_ledger_or_a_store_of_no_kind_is_one_message(store, capsys):
    begin(store, "night", done("a"))
    (segment,) = Path(store.url).glob("jobs/night/ledger/*/*.parquet")
    segment.write_bytes(segment.read_bytes()[:-20])
    assert main(["status", "--out", store.url, "night"]) == 9
    assert "seg-000000001" in capsys.readouterr().err
    assert main(["status", "--out", "gopher://x", "night"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
