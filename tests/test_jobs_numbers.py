"""Claims about what comes out of a job in numbers: its bill, its trace and its log lines agree."""

import io
import json
from collections import defaultdict
from contextlib import redirect_stdout
from datetime import datetime
from itertools import pairwise

import pytest

from cluster.rank import Rank
from jobs.cli import main
from manifests.results import read_results
from manifests.store import open_store
from tests.test_jobs_run import PROFILE, film, shot
from tests.test_manifests_ledger import events_of

PRICED = ("cluster.price_per_gpu_hour=3.6", "cluster.currency=EUR")  # 0.001 a second


class Rendered:
    """A job in one process, of two films, then once more with one of its shots edited."""

    def __init__(self, folder, tiny, identity):
        self.folder, self.out = folder, str(folder / "films")
        chosen = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
        self.settings = [*chosen, f"profiles.chalk.model.folder={tiny}", f"identity={identity}"]
        self.films = [film("water"), film("rain", shots=[shot("s2")], languages=[])]

    def run(self, *told):
        """The last line of the command; the others are in `said`."""
        manifest, out = self.folder / "m.jsonl", io.StringIO()
        manifest.write_text("".join(json.dumps(row) + "\n" for row in self.films), encoding="utf-8")
        with redirect_stdout(out):
            main(["run", str(manifest), "--out", self.out, "--local", *self.settings, *told])
        *self.said, last = out.getvalue().splitlines()
        return json.loads(last.removeprefix("LONGTAKE_RESULT "))

    def results(self, job):
        rows = read_results(open_store(self.out), f"jobs/{job}/results.parquet").to_pylist()
        return {row["row_id"]: row for row in rows}


@pytest.fixture(scope="module")
def rendered(tiny_folder, tmp_path_factory):
    return Rendered(tmp_path_factory.mktemp("numbers"), tiny_folder, tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def first(rendered):
    """The first run's last line, and its other lines, which are text."""
    return rendered.run(*PRICED), rendered.said


def test_a_jobs_bill_is_the_sum_of_its_films_bills_and_costs_what_its_price_says(rendered, first):
    result, said = first
    gpu, rows = result["gpu"], rendered.results(result["job_id"])
    assert result["status"] == "done" and gpu["used_s"] > 0 and gpu["wasted_s"] == gpu["saved_s"] == 0
    assert sum(row["gpu_used_s"] for row in rows.values()) == pytest.approx(gpu["used_s"], abs=1e-5)
    assert all(row["gpu_used_s"] > 0 and row["gpu_wasted_s"] == 0 for row in rows.values())
    assert gpu["cost"] == pytest.approx(gpu["used_s"] * 0.001, abs=1e-6) and gpu["currency"] == "EUR"
    assert rows["water"]["cost"] == pytest.approx(rows["water"]["gpu_used_s"] * 0.001, abs=1e-6)
    assert gpu["film_s"] == pytest.approx(sum(row["duration_s"] for row in rows.values()))
    assert gpu["cost_a_film_s"] == pytest.approx(gpu["cost"] / gpu["film_s"], abs=1e-6)
    assert gpu["hired_s"] >= gpu["used_s"]
    assert any("GPU-s used" in line and "EUR" in line for line in said)


def test_markers_say_what_their_shots_took(rendered, first):
    result, _ = first
    took = defaultdict(float)
    store = open_store(rendered.out)
    for key in store.list_keys("done"):
        kind = key.split("/")[1]
        took[kind] += store.read_marker(key)["facts"].get("gpu_s", 0.0)
    assert took["shot"] == pytest.approx(result["gpu"]["used_s"], abs=1e-4)
    assert took["segment"] == pytest.approx(took["shot"]) and took["master"] == pytest.approx(took["shot"])


def test_status_and_report_tell_the_bill(rendered, first, capsys):
    result, _ = first
    assert main(["status", result["job_id"], "--out", rendered.out, "-o", "json"]) == 0
    gpu = json.loads(capsys.readouterr().out)["gpu"]
    assert gpu["used_s"] == pytest.approx(result["gpu"]["used_s"]) and gpu["unbilled"] == 0
    assert main(["status", result["job_id"], "--out", rendered.out]) == 0
    assert "GPU-s used" in capsys.readouterr().out
    page = (open_store(rendered.out).read("report/index.html") or b"").decode()
    assert "GPU-s used" in page and "a second of film" in page


def trace_of(rendered, job, capsys):
    assert main(["trace", job, "--out", rendered.out]) == 0
    return json.loads(capsys.readouterr().out)["traceEvents"]


def test_a_trace_is_of_the_format_and_no_worker_is_at_two_things_at_once(rendered, first, capsys):
    result, _ = first
    events = trace_of(rendered, result["job_id"], capsys)
    spans = defaultdict(list)
    for event in events:
        assert {"name", "ph", "pid"} <= event.keys() and event["ph"] in "MXbeiC"
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["ts"] >= 0
            spans[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(spans) == 4, "one thread each for prompts, windows, pictures and films"
    for lane in spans.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(lane)), "overlap"
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names == {"encode", "denoise", "decode", "finish", "conduct"}
    begun = [event["id"] for event in events if event["ph"] == "b"]
    assert sorted(begun) == sorted(e["id"] for e in events if e["ph"] == "e") and len(set(begun)) == 3
    assert {"busy", "idle"} == next(e["args"].keys() for e in events if e["ph"] == "C")
    rows = events_of(open_store(rendered.out), result["job_id"]).to_pylist()
    n_done = sum(row["event"] == "done" for row in rows)
    assert sum(e["ph"] in "Xb" and "windows" not in e["name"] for e in events) == n_done


def test_another_run_saves_what_the_first_took_and_logs_every_line_as_json(rendered, first):
    result, _ = first
    again = rendered.run(*PRICED, "log=json")
    assert again["job_id"] == result["job_id"], "a price and a way of telling make no other job"
    assert again["gpu"]["saved_s"] == pytest.approx(result["gpu"]["used_s"], abs=1e-4)
    assert again["gpu"]["used_s"] == again["gpu"]["cost"] == 0
    lines = [json.loads(line) for line in rendered.said]
    fields = {"time", "level", "job", "row", "shot", "window", "attempt", "worker", "message"}
    assert lines and all(fields <= line.keys() for line in lines)
    assert all(line["job"] == result["job_id"] for line in lines)
    assert all(datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0 for line in lines)
    assert {line["row"] for line in lines} == {None, "water", "rain"}


def test_the_next_command_speaks_as_text_again(rendered, first, capsys):
    rendered.run("log=json")
    assert main(["status", "no-such-job", "--out", rendered.out]) != 0
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("longtake: ")


def test_a_job_that_is_cut_short_says_what_it_took_until_then(rendered, first, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.run.publish", full)
    rendered.films = [film("cut", shots=[shot("s7")], languages=[])]
    result = rendered.run(*PRICED)
    assert result["exit_code"] == 9 and result["gpu"]["used_s"] > 0 and result["gpu"]["cost"] > 0


def test_a_wasted_window_is_on_the_bill_in_the_trace_and_in_the_log_with_its_fields(
    rendered, first, capsys, monkeypatch
):
    calls, real = [], Rank._predict

    def once(self, request):
        calls.append(request)
        if len(calls) == 2:
            raise ConnectionError("the store hung up")
        return real(self, request)

    monkeypatch.setattr(Rank, "_predict", once)
    rendered.films = [film("mud", shots=[shot("s9", duration_frames=25)], languages=[])]
    result = rendered.run("log=json")
    gpu = result["gpu"]
    assert result["status"] == "done" and gpu["wasted_by"].keys() == {"TRANSIENT"}
    assert gpu["wasted_s"] == pytest.approx(gpu["wasted_by"]["TRANSIENT"]) and gpu["wasted_s"] < gpu["used_s"]
    row = rendered.results(result["job_id"])["mud"]
    assert row["gpu_wasted_s"] == pytest.approx(gpu["wasted_s"], abs=1e-5) and row["cost"] is None
    lines = [json.loads(line) for line in rendered.said]
    (driver,) = (line for line in lines if line["level"] == "warning" and line["worker"] == "denoise")
    assert (driver["row"], driver["shot"], driver["attempt"]) == ("mud", "s9", 1)
    assert driver["window"].startswith("step 0 part") and driver["error_class"] == "TRANSIENT"
    (worker,) = (line for line in lines if "traceback" in line)
    assert worker["task"] == driver["task"] and "the store hung up" in worker["traceback"]
    assert (worker["worker"], worker["window"]) == ("denoise", driver["window"])
    events = trace_of(rendered, result["job_id"], capsys)
    assert any(e["ph"] == "i" and "the store hung up" in e["args"]["message"] for e in events)
    assert any(e["ph"] == "X" and "failed" in e["name"] for e in events)
