"""Claims about a trace: what a ledger tells is shown once, at its place, and a long night still fits."""

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from jobs import trace
from jobs.trace import Night, Span, coarser, read_night, write
from manifests.ledger import Ledger, claim_epoch
from manifests.store import open_store

BEGAN = datetime(2026, 9, 12, 21, tzinfo=UTC)
SHOT = "ab12cd34" * 4


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def hired(worker, role, host, seconds=0.0):
    return {"event": "hired", "worker": worker, "kind": role, "host": host, "ts": at(seconds)}


def ran(worker, began, ended, windows=5, shot=SHOT):
    row = {"event": "ran", "worker": worker, "shot": shot, "windows": windows, "gpu_s": 1.0, "seconds": 1.0}
    return row | {"began": at(began), "ts": at(ended)}


def told(tmp_path, *drivers):
    """The trace's events of a job with these drivers."""
    store = open_store(str(tmp_path))
    for rows in drivers:
        with Ledger(store, "night", claim_epoch(store, "night")) as ledger:
            for row in rows:
                ledger.record(**row)
    out = io.StringIO()
    write(read_night(store, "night"), out.write)
    return json.loads(out.getvalue())["traceEvents"]


def test_hosts_are_processes_workers_threads_and_deaths_instants(tmp_path):
    rows = [
        hired("gang-0", "denoise", "a"),
        hired("gang-1", "denoise", "b"),
        hired("decode-0", "decode", "b"),
    ]
    rows += [ran("gang-0", 1, 3), {"event": "cut", "kind": "window", "shot": SHOT, "worker": "gang-1"}]
    rows[-1] |= {"began": at(2), "ts": at(4), "seconds": 2.0}
    rows += [{"event": "lost", "worker": "gang-1", "message": "its node went", "ts": at(4)}]
    events = told(tmp_path, rows)
    named = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert sorted(named.values()) == ["a", "b", "decode-0", "gang-0", "gang-1"]
    run, cut = (e for e in events if e["ph"] == "X")
    assert (run["ts"], run["dur"], named[run["pid"], run["tid"]]) == (1_000_000, 2_000_000, "gang-0")
    assert (cut["ts"], cut["dur"], named[cut["pid"], None]) == (2_000_000, 2_000_000, "b")
    (death,) = (e for e in events if e["ph"] == "i")
    assert death["args"]["message"] == "its node went" and named[death["pid"], death["tid"]] == "gang-1"
    counts = [(e["ts"], e["args"]["busy"], e["args"]["idle"]) for e in events if e["ph"] == "C"]
    assert counts == [(0, 0, 2), (1_000_000, 1, 1), (2_000_000, 2, 0), (3_000_000, 1, 1), (4_000_000, 0, 1)]


def test_shots_of_one_conductor_lie_across_each_other(tmp_path):
    rows = [hired("conduct-0", "conduct", "a")]
    for name, began, ended in (("aa" * 8, 0, 5), ("bb" * 8, 1, 7)):
        row = {"event": "done", "kind": "shot", "task_key": name, "worker": "conduct-0", "attempt": 1}
        rows.append(row | {"began": at(began), "ts": at(ended), "row_id": "water", "seconds": 1.0})
    events = told(tmp_path, rows)
    begun = {e["id"]: e["ts"] for e in events if e["ph"] == "b"}
    ended = {e["id"]: e["ts"] for e in events if e["ph"] == "e"}
    assert sorted(ended[key] - begun[key] for key in begun) == [5_000_000, 6_000_000]
    assert {e["args"]["row"] for e in events if e["ph"] == "b"} == {"water"}


def test_workers_of_two_drivers_are_told_apart(tmp_path):
    events = told(tmp_path, [hired("gang-0", "denoise", "a")], [hired("gang-0", "denoise", "a", 60)])
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert names == ["gang-0 of driver 1", "gang-0 of driver 2"]


def test_a_job_of_which_nothing_is_told_has_an_empty_trace(tmp_path):
    assert told(tmp_path, []) == []


def spans_of(n_gangs, n):
    """Runs of two seconds with a tenth between them."""
    return [
        Span(
            (1, f"gang-{gang}"), k * 2_100_000, k * 2_100_000 + 2_000_000, f"windows of {k % 7}", None, 3, 1.9
        )
        for gang in range(n_gangs)
        for k in range(n)
    ]


@pytest.mark.parametrize("most", [100, 1000, 100_000])
def test_a_night_of_any_length_has_no_more_spans_than_a_trace_bears(most):
    spans = spans_of(10, 1000)
    fewer = coarser(spans, most)
    assert len(fewer) <= max(most, 10)
    assert sum(span.windows for span in fewer) == sum(span.windows for span in spans)
    assert sum(span.busy_s for span in fewer) == pytest.approx(sum(span.busy_s for span in spans))
    for one, other in pairwise(fewer):
        assert one.lane != other.lane or one.end <= other.start


def test_a_counter_that_changes_often_is_sampled_and_ends_at_its_last_value(monkeypatch):
    monkeypatch.setattr(trace, "MOST_COUNTS", 50)
    night = Night(BEGAN, spans=spans_of(10, 500), staff=[(0, 1)] * 10, end=500 * 2_100_000)
    night.gangs = {span.lane for span in night.spans}
    counts = list(trace.counts(night))
    assert len(counts) <= 52 and all(0 <= busy <= gangs == 10 for _, busy, gangs in counts)
    assert counts[-1] == (499 * 2_100_000 + 2_000_000, 0, 10)
