"""Claims about budgets: all that gangs take counts, in all runs of a job, and who raises one goes on."""

import json
from dataclasses import asdict, fields, replace

import pytest

import jobs.books
from cluster.audit import audit
from cluster.events import Drop, Fared, Hired, Lost, Open, Predict, Predicted, Raised, Replace, Turned
from cluster.outcomes import Failure
from engine.parallel.axes import ALONE
from jobs.job import prepare
from jobs.overruled import counts_after
from jobs.run import run
from jobs.spec import BOUNDS, ClusterSpec, as_asked, load_spec
from jobs.spent import SpentNote, spent_before
from jobs.status import standing
from manifests.control import give_order
from manifests.results import read_results
from manifests.store import open_store
from tests.test_jobs_takeover import SMALL, Brisk, Seen, drive, film, manifest, spec  # noqa: F401

CALL_S = 1000.0
GONE = Failure("E912_NODE_LOST", "its node is gone", "", "NODE_LOST")
NOTICE = Failure("E913_PREEMPTED", "its node went", "", "PREEMPTED")
SLOW = Failure("E801_STORE", "the store is slow", "", "TRANSIENT")


class Vain(Brisk):
    """A crew whose calls of a gang take long, and come to nothing in one way."""

    def __init__(self, store, clock, how):
        super().__init__(store, 10**9, [])
        self.clock, self.how, self.calls, self.under_way = clock, how, 0, []

    def act(self, action):
        match action:
            case Open(conductor, task, opening):
                self.conductor = conductor
                self.events.append(Turned(task.key, opening, 0))
            case Predict(gang, task, window):
                self.under_way += self.ends(gang, task, window)
            case Replace(worker):
                self.events.append(Hired(worker, worker))
            case Drop():
                pass
            case _:
                super().act(action)

    def ends(self, gang, task, window):
        if self.how == "lost":
            return [Lost(gang, GONE)]
        if self.how == "failed":
            return [Raised(task.key, gang, SLOW, window)]
        answer = Predicted(gang, window, Fared(CALL_S, "cpu", ALONE))
        return [Lost(self.conductor, NOTICE), answer]  # whose canvas nobody has open any more

    def wait(self, most_s=1.0):
        """What happened at once; then, after a while, how a call ended."""
        if not self.events and self.under_way:
            self.calls += 1
            self.clock[0] += CALL_S
            self.events += self.under_way
            self.under_way = []
        said = list(self.events)
        self.events.clear()
        return said


@pytest.fixture
def vain(tmp_path, monkeypatch):
    """Runs a job of one film whose calls come to nothing: its result, and how many calls there were."""
    store, path, clock = open_store(str(tmp_path / "out")), tmp_path / "film.jsonl", [0.0]
    path.write_text(json.dumps(film("rain")), encoding="utf-8")
    monkeypatch.setattr(jobs.books, "_clock_s", lambda: clock[0])

    def rendered(how, *words):
        asked = load_spec(None, [*SMALL, "cluster.patience=0", "cluster.breaker_films=0", *words])
        job, crews = prepare(str(path), asked, store=store), []

        def hire(setup):
            crews.append(Vain(store, clock, how))
            return crews[-1]

        return run(job, store.url, hire, Seen()), sum(crew.calls for crew in crews)

    return rendered, store


def why(store, result):
    (row,) = read_results(store, f"jobs/{result.job_id}/results.parquet").to_pylist()
    return row["message"]


@pytest.mark.parametrize("how", ["lost", "failed", "late"])
def test_calls_that_are_lost_failed_or_late_count_and_end_the_job(vain, how):
    rendered, store = vain
    result, calls = rendered(how, "cluster.budget_gpu_s=3600")
    assert (result.status, result.exit_code, calls) == ("stopped", 8, 4)
    assert result.gpu.used_s == 4 * CALL_S and "4,000 of 3,600 GPU-seconds" in why(store, result)
    assert list(audit(store, result.job_id, asdict(result))) == [], "the ledger has it, or nobody answered"


def test_a_job_that_is_begun_again_begins_with_what_its_earlier_runs_took(vain):
    rendered, store = vain
    first, _ = rendered("lost", "cluster.budget_gpu_s=3600")
    again, calls = rendered("lost", "cluster.budget_gpu_s=3600")
    assert (again.exit_code, calls) == (8, 0) and "4,000 of 3,600" in why(store, again)
    more, calls = rendered("lost", "cluster.budget_gpu_s=5500")
    assert first.job_id == again.job_id == more.job_id, "what a job may take does not name it"
    assert (more.exit_code, calls) == (8, 2) and "6,000 of 5,500" in why(store, more)
    assert standing(store, more.job_id).gpu["used_s"] == 6000.0


def test_of_a_driver_that_was_killed_its_last_note_counts_and_of_another_its_bill(tmp_path):
    store, now = open_store(str(tmp_path)), [0.0]
    note = SpentNote(store, "night", 1, clock=lambda: now[0])
    for moment, used_s in ((0.0, 5.0), (1.0, 6.0), (20.0, 7.0), (40.0, 7.0)):
        now[0] = moment
        note.note(used_s)
    assert len(store.list_keys("jobs/night/spent")) == 1, "a note replaces the one before it"
    SpentNote(store, "night", 2).note(90.0)
    store.put_marker("jobs/night/bill/000002.json", {"used_s": 100.0})
    assert [spent_before(store, "night", epoch) for epoch in (1, 2, 3, 9)] == [0.0, 7.0, 107.0, 107.0]


# Which orders and settings hold.


def limits(store, epoch, *words):
    counts = counts_after(store, "night", epoch, load_spec(None, words).cluster)
    n = len(store.list_keys("jobs/night/control"))
    orders = [store.read_marker(f"jobs/night/control/{k:06}.json") | {"number": k} for k in range(1, n + 1)]
    return [order["number"] for order in orders if counts(order)]


def test_of_an_ordered_and_a_set_budget_the_later_holds(tmp_path):
    store = open_store(str(tmp_path))
    give_order(store, "night", {"order": "budget", "gpu_s": 100.0})
    assert limits(store, 1, "cluster.budget_gpu_s=50") == [1], "ordered while the first driver came up"
    give_order(store, "night", {"order": "budget", "gpu_s": 5.0, "soft": True})
    give_order(store, "night", {"order": "pause"})
    assert limits(store, 2, "cluster.budget_gpu_s=50") == [1, 2, 3], "a restart changes no word of a person"
    assert limits(store, 3, "cluster.budget_gpu_s=500") == [2, 3], "the setting was raised since"
    assert limits(store, 4, "cluster.budget_gpu_s=500") == [2, 3], "and stays so"
    give_order(store, "night", {"order": "budget", "gpu_s": 600.0})
    assert limits(store, 5, "cluster.budget_gpu_s=500") == [2, 3, 4]
    assert limits(store, 6, "cluster.budget_gpu_s=500", "cluster.soft_gpu_s=400") == [3, 4]


def test_an_old_order_of_a_budget_does_not_come_back_over_a_raised_setting(vain):
    rendered, store = vain
    first, _ = rendered("lost", "cluster.budget_gpu_s=1000")
    give_order(store, first.job_id, {"order": "budget", "gpu_s": 2000.0})
    ordered, calls = rendered("lost", "cluster.budget_gpu_s=1000")
    assert calls == 1 and "2,000 of 2,000" in why(store, ordered)
    raised, calls = rendered("lost", "cluster.budget_gpu_s=4000")
    assert calls == 2 and "4,000 of 4,000" in why(store, raised)


# What names a job.
AXES = {"cfg", "ring", "ulysses", "calibrate", "objective", "exchange", "batch"}
NAMES = AXES | {"device", "stage_gpus", "threads"}


def test_every_setting_of_a_cluster_names_the_job_or_is_a_bound():
    bounds = {name.removeprefix("cluster.") for name in BOUNDS if name.startswith("cluster.")}
    assert {field.name for field in fields(ClusterSpec)} == bounds | NAMES and not bounds & NAMES


def test_a_job_is_named_by_what_may_change_a_pixel_and_not_by_how_far_it_may_go(manifest):  # noqa: F811
    other = {
        "log": "json",
        "deadline": "06:00 UTC",
        "cluster.currency": "EUR",
        "cluster.cache": "/cache",
        "cluster.check_memory": "false",
        "cluster.breaker_share": "0.5",
    }
    words = [f"{name}={other.get(name, 7)}" for name in BOUNDS]
    plain, bound = load_spec(None, SMALL), load_spec(None, [*SMALL, *words])
    assert plain != bound and as_asked(plain) == as_asked(bound)
    assert prepare(str(manifest), plain).job_id == prepare(str(manifest), bound).job_id
    for word in ("cluster.threads=2", "cluster.batch=2", "cluster.device=cpu", "on_invalid=skip"):
        changed = load_spec(None, [*SMALL, word])
        assert prepare(str(manifest), changed).job_id != prepare(str(manifest), plain).job_id


@pytest.mark.parametrize(
    "bound", [{"budget_gpu_s": 9e9}, {"breaker_films": 50, "patience": 2.0}, {"gangs": 3, "max_films": 4}]
)
def test_who_goes_on_with_other_bounds_finds_what_was_listed(manifest, tmp_path, spec, bound):  # noqa: F811
    drive(manifest, tmp_path / "out", spec, 20)
    other = replace(spec, deadline="23:59 UTC", cluster=replace(spec.cluster, **bound))
    _, show, _ = drive(manifest, tmp_path / "out", other)
    assert show.jobs[0].listed.n_films > 0
