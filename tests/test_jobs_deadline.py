"""Claims about deadlines and budgets as people give them: understood or refused, and told early."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dispatch import Limits, State, decide
from cluster.events import Admitted, Hired, Ticked
from cluster.pace import Pace
from cluster.progress import Progress
from jobs import deadline as deadline_module
from jobs.budget import hard_gpu_s, ordered_gpu_s, soft_gpu_s
from jobs.cli import main
from jobs.deadline import DeadlineWatch, due, keep_due
from jobs.job import prepare
from jobs.moment import moment, told
from jobs.overruled import counts_after
from jobs.refusal import SpecError
from jobs.spec import load_spec
from jobs.stall import STALL_S, Stall
from manifests.results import read_results
from manifests.store import open_store
from tests.night import film, shot_task
from tests.test_jobs_cli import FILM
from tests.test_jobs_status import begin
from tests.test_jobs_takeover import drive, manifest, spec  # noqa: F401

NOW = datetime(2026, 11, 26, 18, 0, tzinfo=UTC)  # 23:30 in Kolkata


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("06:00 Asia/Kolkata", "2026-11-27T00:30"),
        ("23:45 Asia/Kolkata", "2026-11-26T18:15"),
        ("23:30 Asia/Kolkata", "2026-11-27T18:00"),  # that of today is now
        ("2026-11-28 06:00 Asia/Kolkata", "2026-11-28T00:30"),
        ("2026-11-27T06:00+05:30", "2026-11-27T00:30"),
        ("6:00 UTC", "2026-11-27T06:00"),
    ],
)
def test_a_deadline_is_the_next_such_moment_there(text, utc):
    assert moment(text, NOW) == datetime.fromisoformat(utc + "+00:00")


@pytest.mark.parametrize("day", ["2026-03-28T12:00+00:00", "2026-10-24T12:00+00:00"])
def test_six_o_clock_is_six_o_clock_also_in_the_night_in_which_clocks_change(day):
    now = datetime.fromisoformat(day)
    found = moment("06:00 Europe/Berlin", now)
    assert f"{found.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}" == "06:00"
    assert abs((found - now).total_seconds() / 3600 - 16.5) <= 1.0


@settings(deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 10**8))
def test_the_next_such_time_is_to_come_and_no_more_than_a_day_and_a_change_of_clocks_away(
    hour, minute, later_s
):
    now = NOW + timedelta(seconds=later_s)
    found = moment(f"{hour:02}:{minute:02} America/New_York", now)
    assert timedelta(0) < found - now <= timedelta(hours=25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("six", "is no time"),
        ("06:00", "is no time"),
        ("06:00 Mars/Olympus", "no zone 'Mars/Olympus'"),
        ("06:00 ../etc/passwd", "no zone"),
        ("25:00 UTC", "25:00 is no time of day"),
        ("2026-11-27T06:00", "names no time zone"),
        ("2026-02-30 06:00 UTC", "day"),
    ],
)
def test_what_is_no_moment_is_refused_by_what_is_wrong(text, said):
    with pytest.raises(ValueError, match=said):
        moment(text, NOW)
    with pytest.raises(SpecError, match=said):
        load_spec(None, [f"deadline={text}"])


def test_both_forms_survive_the_way_through_settings():
    for text in ("06:00 Asia/Kolkata", "2026-11-27T06:00+05:30"):
        assert load_spec(None, [f"deadline={text}"]).deadline == text


def test_how_a_job_stands_is_said_in_hours_and_minutes():
    assert told(NOW + timedelta(minutes=192), NOW) == (
        "predicted to end at 21:12 UTC, 3 h 12 min after its deadline: "
        "the least urgent films that are not begun will be dropped"
    )
    assert told(NOW, NOW + timedelta(minutes=5)) == "predicted to end at 18:00 UTC, 5 min before its deadline"


def watched(store, minutes, n_films=2):
    """A job of so many films of 6 predictions, of which none is done, with a pace of one a minute."""
    films = [film(str(k), shot_task(str(k), 3)) for k in range(n_films)]
    watch = DeadlineWatch(
        store,
        "night",
        datetime.now(UTC) + timedelta(minutes=minutes),
        Progress(films=n_films, windows=6 * n_films),
    )
    state = State(Limits())
    for each in films:
        state, _ = decide(state, Admitted(each))
        watch.event(Admitted(each), state)
    return watch, decide(state, Ticked(600.0))[0]


def paced(state):
    return Pace(10, ((0.0, 0), (600.0, 10)), gangs=1)


def test_a_job_that_will_be_late_says_so_once_and_again_when_that_has_changed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deadline_module, "NOTE_S", 0.0)
    store = open_store(str(tmp_path))
    watch, state = watched(store, minutes=5)
    watch.event(Ticked(600.0), state)
    assert capsys.readouterr().err == "", "no pace is known yet"
    late = replace(state, pace=paced(state))
    for _ in range(3):
        watch.event(Ticked(600.0), late)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "7 min after its deadline" in said[0]
    watch.event(Ticked(600.0), replace(state, pace=Pace(10, ((0.0, 0), (600.0, 600)))))
    assert "before its deadline" in capsys.readouterr().err


@pytest.fixture
def foretold(tmp_path, monkeypatch):
    """The store of a job that runs, its watch that has foretold an end, and its state."""
    monkeypatch.setattr(deadline_module, "NOTE_S", 0.0)
    store = open_store(str(tmp_path))
    begin(store, "night")
    watch, state = watched(store, minutes=5)
    watch.event(Ticked(600.0), replace(state, pace=paced(state)))
    return store, watch, state


def test_the_forecast_stands_in_status_while_the_job_runs(foretold, capsys):
    store, *_ = foretold
    capsys.readouterr()
    assert main(["status", "night", "--out", store.url]) == 0
    assert "  deadline  predicted to end at" in (said := capsys.readouterr().out) and "7 min after" in said
    assert main(["status", "night", "--out", store.url, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["predicted_end"]


def test_what_was_foretold_is_taken_back_while_no_pace_is_known(foretold, capsys):
    store, watch, state = foretold
    for gangs, told_ in ((1, "7 min after"), (9, "when the job will end cannot be told")):
        watch.event(Ticked(610.0), replace(state, pace=paced(state).at(610.0, gangs, held=False)))
        assert main(["status", "night", "--out", store.url]) == 0
        assert told_ in capsys.readouterr().out


def test_a_job_whose_deadline_has_passed_is_refused_before_anything_is_written(tmp_path, capsys):
    path, out = tmp_path / "film.yaml", tmp_path / "out"
    path.write_text(FILM)
    past = "deadline=2020-01-01T06:00+00:00"
    assert main(["run", str(path), "--out", str(out), "--local", past]) == 2
    assert "has passed" in capsys.readouterr().err and not (out / "jobs").exists()


# A job that goes on, and one that stands still.


def test_a_job_that_goes_on_has_the_deadline_that_it_had_when_it_began(tmp_path, manifest, spec, capsys):  # noqa: F811
    store, late = open_store(str(tmp_path / "out")), replace(spec, deadline="06:00 UTC")
    job = prepare(str(manifest), late)
    meant = due(store, job)
    assert timedelta(0) < meant - datetime.now(UTC) <= timedelta(days=1)
    keep_due(store, job, meant)
    keep_due(store, job, meant + timedelta(days=1))
    assert due(store, job) == meant and capsys.readouterr().err == "", "what was meant first stays"
    other = prepare(str(manifest), replace(spec, deadline="07:00 UTC"))
    assert other.job_id == job.job_id and due(store, other) != meant, "another deadline is another moment"


def test_a_job_that_goes_on_after_its_deadline_says_so_and_begins_no_film(tmp_path, manifest, spec, capsys):  # noqa: F811
    drive(manifest, tmp_path / "out", spec, 20)
    late, store = replace(spec, deadline="06:00 UTC"), open_store(str(tmp_path / "out"))
    job, passed = prepare(str(manifest), late), datetime.now(UTC) - timedelta(minutes=1)
    keep_due(store, job, passed)
    result, _, acted = drive(manifest, tmp_path / "out", late)
    assert f"meant {passed:%Y-%m-%d %H:%M} UTC" in capsys.readouterr().err
    assert 0 < result.done < 12 and result.dropped == 12 - result.done
    rows = read_results(store, f"jobs/{job.job_id}/results.parquet").to_pylist()
    (why,) = {row["message"] for row in rows if row["status"] == "failed"}
    assert why == "dropped for the deadline, which has passed"
    shots = {each.key for made in job.films for each in made.tasks.values() if each.kind == "shot"}
    assert not shots & set(acted)


def standing_still(store, deadline=None):
    """A watch over a job whose only gang is there and does nothing, and its clock."""
    now = [0.0]
    watch = DeadlineWatch(store, "night", deadline, Progress(films=1, windows=6), Stall(lambda: now[0]))
    state, _ = decide(State(Limits()), Hired("denoise-0", "denoise"))
    return watch, state, now


@pytest.mark.parametrize("deadline", [None, datetime(2099, 1, 1, 6, 0, tzinfo=UTC)])
def test_a_job_in_which_nothing_moves_says_so_in_time_and_status_too(tmp_path, capsys, monkeypatch, deadline):
    monkeypatch.setattr(deadline_module, "NOTE_S", 0.0)
    store = open_store(str(tmp_path))
    begin(store, "night")
    watch, state, now = standing_still(store, deadline)
    now[0] = STALL_S - 1
    watch.event(Ticked(now[0]), state)
    assert capsys.readouterr().err == ""
    for now[0] in (STALL_S, STALL_S + 20, STALL_S + 60):
        watch.event(Ticked(now[0]), state)
    (said,) = capsys.readouterr().err.splitlines()
    assert "nothing was done for 10 min: 0 of 1 gangs are at a window" in said
    assert ("its deadline is 2099-01-01 06:00 UTC" in said) == (deadline is not None)
    assert main(["status", "night", "--out", store.url]) == 0
    assert "  stands    nothing was done since" in (shown := capsys.readouterr().out)
    assert ("will end cannot be told" in shown) == (deadline is not None)
    watch.event(Admitted(film("a", shot_task("s"))), state)
    assert main(["status", "night", "--out", store.url]) == 0
    assert "stands" not in capsys.readouterr().out


def test_a_job_without_a_gang_says_that_and_one_that_is_paused_says_nothing(tmp_path, capsys):
    watch, _, now = standing_still(open_store(str(tmp_path)))
    now[0] = 2 * STALL_S
    watch.event(Ticked(now[0]), replace(State(Limits()), holds=frozenset({"a person"})))
    assert capsys.readouterr().err == ""
    now[0] += STALL_S
    watch.event(Ticked(now[0]), State(Limits(), paused_until_s=1e9))  # its store is away
    assert "there is no gang; does the cluster have GPUs that are free?" in capsys.readouterr().err


# Budgets.


def test_of_budgets_in_gpu_seconds_and_in_money_the_tighter_holds():
    settings = ["cluster.price_per_gpu_hour=2", "cluster.budget_money=10", "cluster.soft_money=1"]
    cluster = load_spec(None, [*settings, "cluster.soft_gpu_s=600"]).cluster
    assert hard_gpu_s(cluster) == 5 * 3600 and soft_gpu_s(cluster) == 600
    none = load_spec().cluster
    assert hard_gpu_s(none) == soft_gpu_s(none) == float("inf")


def test_money_without_a_price_is_refused():
    with pytest.raises(SpecError, match="price_per_gpu_hour"):
        load_spec(None, ["cluster.budget_money=10"])


@pytest.mark.parametrize(
    ("words", "gpu_s", "soft"),
    [
        (["7200"], 7200.0, False),
        (["--gpu-hours", "2", "--soft"], 7200.0, True),
        (["--money", "10"], 5 * 3600.0, False),
        (["0"], 0.0, False),
    ],
)
def test_an_order_names_a_budget_in_any_of_three_ways(tmp_path, capsys, words, gpu_s, soft):
    store = open_store(str(tmp_path))
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    for epoch, price in ((1, 0.0), (2, 2.0)):
        counts_after(store, "night", epoch, load_spec(None, [f"cluster.price_per_gpu_hour={price}"]).cluster)
    assert main(["budget", "night", *words, "--out", store.url, "-o", "json"]) == 0
    order = json.loads(capsys.readouterr().out)
    assert (order["gpu_s"], order.get("soft", False)) == (gpu_s, soft)


def test_a_budget_that_is_given_twice_or_not_at_all_is_refused():
    for given_ in ((None, None, None), (1.0, 1.0, None)):
        with pytest.raises(ValueError, match="and once"):
            ordered_gpu_s(*given_, 0.0)
    with pytest.raises(ValueError, match="without a price"):
        ordered_gpu_s(None, None, 5.0, 0.0)


def test_after_a_soft_budget_a_run_ends_as_stopped_with_what_was_begun(tmp_path, capsys, tiny_folder):
    path, out = tmp_path / "films.yaml", tmp_path / "out"
    other = FILM.replace("row_id: rain", "row_id: snow").replace("rain falls", "snow falls")
    path.write_text(FILM + other.replace("shot_id: s1", "shot_id: s2"))
    settings = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=2"]
    settings += [f"identity={tmp_path / 'identity'}", "cluster.soft_gpu_s=0.0001", "cluster.max_canvases=1"]
    settings += ["deadline=23:59 Pacific/Kiritimati"]
    assert main(["run", str(path), "--out", str(out), "--local", *settings]) == 8
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("LONGTAKE_RESULT "))
    assert (result["status"], result["done"], result["failed"], result["dropped"]) == ("stopped", 1, 1, 1)
    assert result["deadline"].endswith("T09:59:00+00:00")
    page = (out / "report" / "index.html").read_text()
    assert "E943_SOFT_BUDGET" in page and ", due " in page and "<dt>dropped</dt>" in page
