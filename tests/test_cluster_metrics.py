"""Claims about metrics: what is counted is what happened, the table in docs/ is true, a node exports them."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from cluster.account import Account
from cluster.events import FilmDone, Hired, Lost, Predict
from cluster.metrics import METRICS, SEND_S, Meter, table
from tests.night import RAN_OUT, film, shot_task, workers
from tests.test_cluster_account import Kept

DOCS = Path(__file__).parent.parent / "docs" / "metrics.md"


class Listed:
    """A sink that adds up as Prometheus would."""

    def __init__(self):
        self.counters, self.gauges, self.observed = Counter(), {}, Counter()

    def send(self, metric, value, tags):
        assert METRICS[metric.name] == metric and set(tags) == {"job", *metric.tags}
        assert all(isinstance(value, str) for value in tags.values())
        key = metric.name, *(tags[name] for name in metric.tags)
        if metric.kind == "counter":
            assert value > 0, "Ray refuses others"
            self.counters[key] += value
        elif metric.kind == "gauge":
            self.gauges[key] = value
        else:
            self.observed[key] += 1


class Counted(Kept):
    """A night of which a meter counts."""

    def __init__(self, *films, **more):
        self.sink = Listed()
        self.meter = Meter(self.sink, "night")
        super().__init__(*films, **more)

    def seen(self, event, actions):
        self.meter.event(self.seconds, event, self.state, self.account)
        for action in actions:
            if isinstance(action, FilmDone):
                self.meter.film(action)


def test_counters_are_what_happened():
    one, two = shot_task("one", 2), shot_task("two", 3)
    night = Counted(film("a", one), film("b", one, two), staff=workers(gangs=2)).begin()
    night.run(stop=lambda: bool(night.under_way))
    night.lose("denoise-0", RAN_OUT)
    night.run(stop=lambda: bool(night.under_way))
    night.raise_at(next(call for call in night.calls if isinstance(call, Predict)), name="TRANSIENT")
    night.run()
    night.meter.close(night.account)
    counters, account = night.sink.counters, night.account
    assert counters["longtake_films", "done"] == 2 and counters["longtake_shots",] == 2
    assert counters["longtake_window_steps",] == night.sink.observed["longtake_window_step_seconds",]
    assert counters["longtake_window_steps",] == len(night.entered[one.key]) + len(night.entered[two.key])
    assert counters["longtake_workers_lost", "denoise"] == 1
    assert counters["longtake_retries", "TRANSIENT"] == 1
    assert counters["longtake_gpu_used_seconds",] == pytest.approx(account.used_us / 1e6)
    assert counters["longtake_gpu_saved_seconds",] == pytest.approx(account.job.saved_us / 1e6)
    wasted = {cause: n for (name, *cause), n in counters.items() if "wasted" in name for cause in cause}
    assert wasted == pytest.approx({cause: us / 1e6 for cause, us in account.job.wasted.items()})
    assert wasted.keys() >= {"HOST_OOM", "TRANSIENT"}


def test_gauges_are_of_the_last_second_and_gangs_on_blocked_hosts_are_blocked():
    night = Counted(film("a", shot_task("one", 3)), staff=workers(gangs=2)).begin()
    night.run(stop=lambda: bool(night.state.predicting))
    gauges = night.sink.gauges
    assert [gauges["longtake_gangs", state] for state in ("idle", "busy", "blocked")] == [0, 2, 0]
    assert gauges["longtake_queued_windows",] == len(night.state.windows) == 1
    night.run()
    night.meter.close(night.account)
    assert [gauges["longtake_gangs", state] for state in ("idle", "busy", "blocked")] == [0, 0, 0]


def test_however_much_happens_sums_are_sent_once_a_second():
    sink = Listed()
    sent, real = [], sink.send
    sink.send = lambda metric, value, tags: (sent.append(metric.name), real(metric, value, tags))
    meter, night, account = Meter(sink, "night"), Kept(film("a", shot_task("one"))), Account()
    for number in range(1000):
        meter.event(number * SEND_S / 1000, Hired(f"w{number}", "decode"), night.state, account)
        meter.event(number * SEND_S / 1000, Lost(f"w{number}"), night.state, account)
    assert sent == []
    meter.event(SEND_S, Hired("w", "decode"), night.state, account)
    assert sink.counters["longtake_workers_lost", "decode"] == 1000 and len(sent) < 10


def test_the_same_gpu_seconds_are_sent_once():
    night = Kept(film("a", shot_task("one"))).run()
    sink = Listed()
    meter = Meter(sink, "night")
    for _ in range(3):
        meter.close(night.account)
    assert sink.counters["longtake_gpu_used_seconds",] == night.account.used_us / 1e6 > 0


def test_names_and_units_are_prometheus_own():
    for metric in METRICS.values():
        assert re.fullmatch(r"longtake_[a-z_]+", metric.name) and metric.kind in (
            "counter",
            "gauge",
            "histogram",
        )
        assert not metric.name.endswith("_total"), "Ray adds it"
        assert ("seconds" in metric.name) == (metric.unit in ("s", "GPU-s")) and metric.doc.endswith(".")
        assert ("bytes" in metric.name) == (metric.unit == "B")
        assert sorted(metric.bounds) == list(metric.bounds) and bool(metric.bounds) == (
            metric.kind == "histogram"
        )


def test_the_table_in_docs_is_the_registry():
    text = DOCS.read_text(encoding="utf-8")
    rows = "\n".join(f"| {' | '.join(row)} |" for row in table())
    begin = text.index("| metric |")
    end = text.index("\n\n", begin)
    if os.environ.get("LONGTAKE_CONTRACT"):
        DOCS.write_text(text[:begin] + rows + text[end:], encoding="utf-8")
    else:
        assert text[begin:end] == rows, "LONGTAKE_CONTRACT=1 writes it anew"


def test_every_name_of_a_query_in_docs_is_exported():
    text = DOCS.read_text(encoding="utf-8")
    exported = {metric.exported for metric in METRICS.values()}
    exported |= {f"{metric.exported}_bucket" for metric in METRICS.values() if metric.kind == "histogram"}
    assert set(re.findall(r"ray_longtake_[a-z_]+", text)) <= exported
