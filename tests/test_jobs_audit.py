"""Claims about `verify JOB`: a sound job passes, and each thing that may break is told by rule and place."""

import hashlib
import json
import os
import shutil
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.audit import RULES, audit
from cluster.audit_films import Count
from cluster.once import marker_key
from jobs.bill import Bill
from jobs.cli import main
from jobs.outcome import JobResult
from manifests.control import give_order
from manifests.finished import Finishing
from manifests.ledger import Ledger, claim_epoch
from manifests.results import STATUSES, status_of, write_results
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
        for gpu_s in (4.0, 2.0, 1.0):  # of the bill's ten; 2 s of a call that was lost have no run
            ledger.record(event="ran", worker="gang-0", windows=2, gpu_s=gpu_s)
        ledger.record(event="ran", worker="gang-1", windows=1, gpu_s=1.0)
    bill = Bill(used_s=10.0, wasted_s=2.5, wasted_by={"LOST": 2.0, "LATE": 0.5})
    store.put_marker("jobs/night/bill/000001.json", asdict(bill))
    store.put_marker("jobs/night/limits/000001.json", {"hard": {"gpu_s": 7.5, "orders": 0}})
    store.publish(store.put_artefact(FILM), "films/water.hi-IN.mp4")
    common = {"job_id": "night", "driver_epoch": 1}
    told = {"output_bytes": len(FILM), "output_sha256": hashlib.sha256(FILM).hexdigest()}
    done = {"row_id": "water", "lang": "hi-IN", "status": "done", "output_uri": "films/water.hi-IN.mp4"}
    rows = [common | done | told | {"gpu_used_s": 7.0}]
    rows.append(common | {"row_id": "rain", "lang": "und", "status": "failed", "gpu_used_s": 2.5})
    write_results(rows, store, "jobs/night/results.parquet")
    result = JobResult("night", "some_failed", 4, 2, 1, 1, 0, 0, 2.0, store.url, "results", "report")
    result = replace(result, gpu=bill)
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
    assert told(capsys, store) == (0, f"all 7 rules hold: {', '.join(RULES)}\n")


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
    assert last == "unfinished; 6 of 7 rules hold so far: ledger, markers, films, spent, budget, leftovers"


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


def change(store, marker, **body):
    path = Path(store.url, "jobs", "night", marker)
    overwrite(path, json.dumps(json.loads(path.read_text()) | body).encode())


def test_counts_that_do_not_add_up_are_told(store):
    change(store, "ended/000001.json", done=2, failed=0)
    assert [rule for rule, _, _ in broken(store)] == ["counts", "counts"]
    change(store, "ended/000001.json", done=1, failed=1, invalid=1)
    ((rule, _, what),) = broken(store)
    assert rule == "counts" and "of 2 films the job's last word has 3 done, failed or invalid" in what


KINDS = st.sampled_from(STATUSES)


@given(st.lists(st.tuples(st.integers(0, 9).map(str), KINDS), max_size=60))
def test_films_are_counted_as_their_rows_say_in_whatever_order_these_come(rows):
    count, films = Count(), {}
    for row_id, status in rows:
        count.add({"row_id": row_id, "status": status, "gpu_used_s": float(row_id) or None})
        films.setdefault(row_id, set()).add(status)
    kinds = [status_of(statuses) for statuses in films.values()]
    expected = {"done": kinds.count("done"), "failed": kinds.count("failed"), "films": len(films)}
    assert count.end() == (expected, sum(map(float, films)))


# What was spent.


def test_a_bill_of_more_than_the_runs_and_what_had_no_answer_is_told(store):
    bill = {"used_s": 10.5, "wasted_s": 2.5, "wasted_by": {"LOST": 2.0, "LATE": 0.5}}
    change(store, "bill/000001.json", **bill)
    change(store, "ended/000001.json", gpu=bill)
    ((rule, where, what),) = broken(store)
    assert (rule, where) == ("spent", "jobs/night/bill/000001.json")
    least = "the ledger's runs come to 8.000 GPU-seconds; by the bill they are at least 8.500"
    assert what == f"{least}, and at most 10.500"


def test_the_bill_of_a_driver_that_was_cut_short_may_have_more_than_its_ledger_kept_and_no_less(store):
    unfinished(store)
    change(store, "bill/000001.json", used_s=50.0)
    assert told_rules(store) == ["counts"]
    change(store, "bill/000001.json", used_s=7.5)
    assert told_rules(store) == ["spent", "counts"]


def told_rules(store):
    return [each.rule for each in audit(store, "night", None)]


def test_a_bill_of_less_than_the_films_took_is_told(store):
    change(store, "ended/000001.json", gpu={"used_s": 9.0})
    rules = [(rule, where) for rule, where, _ in broken(store)]
    assert rules == [("spent", "jobs/night/bill/000001.json"), ("spent", "jobs/night/results.parquet")]


def test_a_bill_that_is_gone_or_whose_waste_has_other_causes_is_told(store):
    change(store, "bill/000001.json", wasted_s=2.0)
    ((rule, _, what),) = broken(store)
    assert rule == "spent" and "not the sum of its causes" in what
    Path(store.url, "jobs/night/bill/000001.json").unlink()
    ((rule, _, what),) = broken(store)
    assert rule == "spent" and "the bill is gone, which had 10.000 GPU-seconds" in what


def test_a_run_may_take_what_is_under_way_more_than_its_budget_and_no_more(store):
    # Of the last two calls of gang-0 3 s, of gang-1's 1 s, and 2 s of one without an answer.
    change(store, "limits/000001.json", hard={"gpu_s": 4.0})
    assert broken(store) == []
    change(store, "limits/000001.json", hard={"gpu_s": 3.5})
    ((rule, where, what),) = broken(store)
    assert (rule, where) == ("budget", "jobs/night/bill/000001.json")
    assert "took 10.000 of a budget of 3.500, with no more than 6.000 under way" in what


def test_a_budget_that_was_raised_by_order_holds_and_one_that_was_lifted_is_none(store):
    change(store, "limits/000001.json", hard={"gpu_s": 1.0})
    give_order(store, "night", {"order": "budget", "gpu_s": 1.0, "soft": True})
    assert [rule for rule, _, _ in broken(store)] == ["budget"]
    give_order(store, "night", {"order": "budget", "gpu_s": 4.0})
    assert broken(store) == []
    give_order(store, "night", {"order": "budget", "gpu_s": 0.0})
    change(store, "bill/000001.json", used_s=10.0)
    assert broken(store) == []


def again(store, *calls):
    """Another driver of the job on this host, whose gang's calls took so much, and that found all done."""
    epoch, bill = claim_epoch(store, "night"), Bill(used_s=sum(calls))
    with Ledger(store, "night", epoch) as ledger:
        for gpu_s in calls:
            ledger.record(event="ran", worker="gang-0", windows=1, gpu_s=gpu_s)
    store.put_marker(f"jobs/night/bill/{epoch:06}.json", asdict(bill))
    store.put_marker(f"jobs/night/limits/{epoch:06}.json", {"hard": {"gpu_s": 7.5, "orders": 0}})
    word = store.read_marker("jobs/night/ended/000001.json")
    store.put_marker(f"jobs/night/ended/{epoch:06}.json", word | {"gpu": asdict(bill)})


def test_a_budget_is_of_all_runs_of_a_job_of_which_it_is_known_that_they_came_before(store):
    again(store, 1.0, 1.0)
    assert broken(store) == [], "both may have been under way"
    again(store, 1.0, 1.0, 1.0)
    ((rule, where, what),) = broken(store)
    assert (rule, where) == ("budget", "jobs/night/bill/000003.json")
    assert "after 12.000 GPU-seconds of earlier runs this one took 3.000 of a budget of 7.500" in what
    Path(store.url, "jobs/night/bill/000002.json").unlink()
    Path(store.url, "jobs/night/ended/000002.json").unlink()
    store.put_marker("jobs/night/spent/000002/000000007.json", {"used_s": 1.5})
    assert "after 11.500 GPU-seconds" in broken(store)[0][2], "of one that was killed its last note"
    change(store, "driver/epoch-000003.json", host="elsewhere")
    assert broken(store) == [], "what came before a driver of another host is not known for sure"


def test_a_checkpoint_of_a_finished_shot_is_told_and_of_an_unfinished_one_is_not(store):
    store.put_new("checkpoints/ee07/000005.safetensors", b"state")
    assert broken(store) == []
    store.put_new("checkpoints/aa01/000005.safetensors", b"state")
    assert [rule for rule, _, _ in broken(store)] == ["leftovers"]


# Memory.


def long_job(folder, n, ends):
    """A folder of n films that are told as done; nothing is there of them."""
    store, common = open_store(str(folder)), {"job_id": "night", "lang": "hi-IN", "status": "done"}
    rows = [f"a-film-of-a-long-night-{k}" for k in range(n)]
    told = ({**common, "row_id": row, "output_uri": f"films/{row}.mp4", "reused": False} for row in rows)
    with (
        Ledger(store, "night", claim_epoch(store, "night")) as ledger,
        Finishing(store, "night", "asked", 1) as listing,
    ):
        for k, row in enumerate(rows):
            ledger.record(event="done", task_key=f"{k:032x}", kind="version", row_id=row, worker="w")
        for k, one in enumerate(() if ends else told):
            listing.add(k, 6, [one | {"driver_epoch": 1}])
    if ends:
        write_results(told, store, "jobs/night/results.parquet")
    counts = {"films": n, "done": n, "failed": 0, "invalid": 0, "status": "done"}
    return store, counts | {"results": "results"} if ends else None


@pytest.mark.parametrize("ends", [True, False])
def test_memory_grows_by_some_tens_of_bytes_a_film(tmp_path, monkeypatch, ends):
    # What is looked at one by one is not: so many paths make Python's own table of names grow in leaps.
    monkeypatch.setattr("cluster.audit._marker", lambda *_: ())
    monkeypatch.setattr("cluster.audit_films.unlike", lambda *_: "")
    monkeypatch.setattr("manifests.results.GROUP_ROWS", 1000)

    def peak_bytes(n):
        store, ended = long_job(tmp_path / str(n), n, ends)
        tracemalloc.start()
        assert [each.rule for each in audit(store, "night", ended)] == ([] if ends else ["counts"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1000)  # whatever is made once, and kept
    assert peak_bytes(12_000) - peak_bytes(2000) < 60 * 10_000


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
