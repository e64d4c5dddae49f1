"""While gangs are tried, a claimed job hears its orders, keeps to its budgets, and bills what it takes."""

import json
from dataclasses import replace
from functools import partial

import pytest

from cluster.crew import Setup
from cluster.dispatch import Limits
from cluster.rehearsal import GetTimeoutError, Halted, Rehearsal
from cluster.sharing import named
from cluster.trials import Trial
from engine.parallel.axes import ALONE, Axes
from jobs.books import bills
from jobs.enrol import settled_of
from jobs.job import prepare
from jobs.oversight import Oversight, oversight
from jobs.refusal import Refused
from jobs.run import run
from jobs.spec import load_spec
from jobs.status import latest
from manifests.control import Orders, give_order
from manifests.drivers import Heart
from manifests.ledger import claim_epoch
from manifests.results import read_results
from manifests.store import open_store
from tests.test_jobs_takeover import SMALL, Brisk, Seen, film
from tests.test_manifests_ledger import events_of

PAIR = Axes.of_gang(1, 1, 2)


class Handed:
    """A desk to which a test hands orders."""

    def __init__(self):
        self.waiting = []

    def give(self, *orders):
        self.waiting += [{"rows": []} | order for order in orders]

    def orders(self):
        given, self.waiting = self.waiting, []
        return given

    def again(self, rows):
        return ()


def overseen(**limits):
    """An overseer, its desk, and what it was told."""
    desk, told = Handed(), []
    watch = Oversight(desk, Limits(**limits), lambda *took: told.append(took), lambda gpu_s: None)
    return watch, desk, told


PAUSE, RESUME, CANCEL = ({"order": order} for order in ("pause", "resume", "cancel"))


@pytest.mark.parametrize(
    ("orders", "goes_on"),
    [
        ([], True),
        ([PAUSE], False),
        ([CANCEL], False),
        ([PAUSE, RESUME], True),
        ([CANCEL, RESUME], True),
        ([RESUME, PAUSE], False),
        ([{"order": "skip", "rows": ["a"]}, {"order": "priority", "rows": ["b"], "value": 3}], True),
        ([{"order": "retry"}, {"order": "pick", "rows": ["a"], "shot": "s", "take": 1}], True),
    ],
)
def test_a_pause_or_a_cancel_ends_trials_unless_it_is_taken_back_and_no_other_order_does(orders, goes_on):
    watch, desk, _ = overseen()
    desk.give(*orders)
    assert watch.goes_on() == goes_on
    assert watch.goes_on() == goes_on, "an order holds, though it is given once"


@pytest.mark.parametrize("which", ["budget_gpu_s", "soft_gpu_s"])
def test_trials_end_when_they_and_the_call_under_way_have_taken_the_budget(which):
    watch, desk, told = overseen(**{which: 10.0})
    watch.took("one", 3.0, 6.0)
    assert watch.goes_on() and watch.goes_on(3.9) and not watch.goes_on(4.0)
    assert watch.goes_on(), "what a call under way has taken is no more when it has answered sooner"
    desk.give({"order": "budget", "gpu_s": 20.0, "soft": which == "soft_gpu_s"})
    assert watch.goes_on(4.0)
    desk.give({"order": "budget", "gpu_s": 5.0, "soft": which == "soft_gpu_s"})
    assert not watch.goes_on()
    assert told == [("one", 3.0, 6.0)] and watch.spent_gpu_s == 6.0


def test_trials_end_at_the_deadline():
    left = iter([5.0, 0.0])
    watch = Oversight(Handed(), Limits(), lambda *_: None, lambda _: None, lambda: next(left))
    assert watch.goes_on() and not watch.goes_on()


def test_a_pause_is_waited_out_and_a_cancel_within_it_is_not(monkeypatch):
    watch, desk, _ = overseen()
    to_come, slept = [[], [RESUME], [CANCEL]], []
    monkeypatch.setattr("jobs.oversight.time.sleep", lambda s: slept.append(s) or desk.give(*to_come.pop(0)))
    desk.give(PAUSE)
    assert watch.resumed() and len(slept) == 2 and not watch.ended
    desk.give(PAUSE)
    assert not watch.resumed() and len(slept) == 3 and watch.ended


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Renders three films by a brisk crew: the result, and the tasks that the crew was given."""
    monkeypatch.setattr("jobs.oversight.Orders", partial(Orders, every_s=0.0))
    manifest, store = tmp_path / "films.jsonl", open_store(str(tmp_path / "out"))
    manifest.write_text("\n".join(json.dumps(film(f"film-{i}")) for i in range(3)), encoding="utf-8")

    def rendered(settle, *words):
        acted = []
        job = prepare(str(manifest), load_spec(None, [*SMALL, *words]), store=store)
        return run(job, store.url, lambda setup: Brisk(store, 10**9, acted), Seen(), settle), acted

    return rendered, store


def test_gangs_are_tried_when_the_job_is_claimed_and_billed_as_used_and_wasted(night):
    rendered, store = night

    def settle(job, overseer):
        assert latest(store, job.job_id) == (1, None) and store.read_marker(f"jobs/{job.job_id}/job.json")
        assert store.list_keys(f"jobs/{job.job_id}/beats"), "another driver would see it live"
        overseer.took("ulysses 2", 3.0, 6.0)
        overseer.had(8.0)
        cluster = replace(job.spec.cluster, ulysses=2)
        return replace(job, spec=replace(job.spec, cluster=cluster)), None

    result, acted = rendered(settle)
    assert (result.status, result.done) == ("done", 3) and acted
    assert (result.gpu.used_s, result.gpu.wasted_by) == (6.0, {"TRIED": 6.0})
    assert result.gpu.wasted_s == 6.0 and result.gpu.hired_s >= 8.0
    (ran,) = [row for row in events_of(store, result.job_id).to_pylist() if row["event"] == "ran"]
    assert (ran["worker"], ran["windows"], ran["gpu_s"]) == ("ulysses 2", 1, 6.0)
    (settled,) = settled_of(store, result.job_id)
    assert settled["ulysses"] == 2


def test_a_cancel_that_ended_trials_ends_the_job_before_anybody_is_hired(night):
    rendered, store = night

    def settle(job, overseer):
        assert overseer.goes_on()
        overseer.took("one rank", 1.0, 1.0)
        give_order(store, job.job_id, {"order": "cancel", "by": "a test"})
        assert not overseer.goes_on()
        return job, None

    result, acted = rendered(settle)
    assert (result.status, result.exit_code, result.failed) == ("cancelled", 6, 3) and not acted
    assert not settled_of(store, result.job_id), "the next driver tries what this one did not"
    assert result.gpu.used_s == result.gpu.wasted_s == 1.0


@pytest.mark.parametrize("which", ["budget_gpu_s", "soft_gpu_s"])
def test_what_trials_took_is_taken_from_the_jobs_budget(night, which):
    rendered, store = night

    def settle(job, overseer):
        overseer.took("one rank", 12.0, 12.0)
        assert not overseer.goes_on()
        return job, None

    result, acted = rendered(settle, f"cluster.{which}=10")
    assert (result.exit_code, result.failed) == (8, 3) and not acted
    rows = read_results(store, f"jobs/{result.job_id}/results.parquet").to_pylist()
    assert all("12 of " in row["message"] for row in rows)


def test_a_driver_that_dies_in_a_trial_leaves_its_bill(night):
    rendered, store = night
    begun = []

    def settle(job, overseer):
        begun.append(job.job_id)
        overseer.took("one rank", 2.0, 2.0)
        raise RuntimeError("the cluster is gone")

    with pytest.raises(RuntimeError, match="the cluster is gone"):
        rendered(settle)
    bill = store.read_marker(f"{bills(begun[0])}/000001.json")
    assert bill["used_s"] == 2.0 and bill["wasted_by"] == {"TRIED": 2.0}
    assert not store.list_keys(f"jobs/{begun[0]}/beats"), "nobody is at work any more"


def test_a_driver_whose_job_was_taken_over_ends_its_trials(night, tmp_path):
    _, store = night
    job = prepare(str(tmp_path / "films.jsonl"), load_spec(None, SMALL), store=store)
    clock = iter(range(0, 1000, 10))
    mine = Heart(store, job.job_id, claim_epoch(store, job.job_id), lambda: next(clock))
    mine.beat()
    watch = oversight(job, store, mine, Ledgerless())
    assert watch.goes_on()
    Heart(store, job.job_id, claim_epoch(store, job.job_id)).beat()
    mine.beat()
    with pytest.raises(Refused, match="taken over"):
        watch.goes_on()


class Ledgerless:
    """Books that forget."""

    def tried(self, gang, seconds, gpu_s):
        pass

    def had(self, gpu_s):
        pass


class Hung:
    """A gang of two ranks that never answers."""

    setup = Setup("/out", "/identity", axes=PAIR)

    def predict(self, request, window):
        return ["one", "other"], "prediction"


class Patient:
    """An overseer that goes on so many times, and keeps what it is told."""

    def __init__(self, times):
        self.times, self.under_way, self.told = times, [], []

    def took(self, gang, seconds, gpu_s):
        self.told.append((gang, seconds, gpu_s))

    def had(self, gpu_s):
        pass

    def goes_on(self, gpu_s=0.0):
        self.under_way.append(gpu_s)
        return len(self.under_way) <= self.times

    def resumed(self):
        return False


@pytest.mark.parametrize(("times", "most_s", "error"), [(2, 900.0, Halted), (10**6, 0.0, GetTimeoutError)])
def test_a_prediction_that_is_ended_is_billed_to_all_ranks_from_its_call_to_its_end(
    monkeypatch, make_film, times, most_s, error
):
    monkeypatch.setattr("cluster.rehearsal.ray.wait", lambda refs, **_: ([], list(refs)))
    overseer = Patient(times)
    rehearsal = Rehearsal(Hung.setup, overseer, most_s)
    shot, ends_s = make_film("a").master.segments[0].source, 0.0 if most_s == 0 else float("inf")
    with pytest.raises(error):
        rehearsal._predicted(Hung(), shot, "request", ends_s)
    ((gang, seconds, gpu_s),) = overseer.told
    assert gang == named(PAIR) and 0 < overseer.under_way[-1] <= gpu_s == pytest.approx(2 * seconds)


def test_gangs_that_a_pause_left_untried_are_tried_when_the_job_goes_on(monkeypatch, make_film):
    shot, pauses, tried = make_film("a").master.segments[0].source, [Halted, None, Halted], []

    def timed(self, trial, *_):
        tried.append(trial.axes)
        if (error := pauses.pop(0) if pauses else None) is not None:
            raise error
        return {named(trial.axes): {"seconds": 1.0, "n": 3}}

    class Resumed(Patient):
        def resumed(self):
            return True

    monkeypatch.setattr(Rehearsal, "_timed", timed)
    monkeypatch.setattr(Rehearsal, "_request", lambda *_: "a request")
    asked = [Trial(None, axes, 1.0) for axes in (ALONE, PAIR)]
    table = Rehearsal(Hung.setup, Resumed(10**6))(asked, shot)
    assert tried == [ALONE, ALONE, PAIR, PAIR] and table.keys() == {named(ALONE), named(PAIR)}
    pauses.append(Halted)
    assert Rehearsal(Hung.setup, Patient(10**6))(asked, shot) == {}, "that was its end"


def test_nothing_is_begun_for_a_trial_that_was_ended_before(make_film, caplog):
    shot = make_film("a").master.segments[0].source  # Ray is not there: any call of it would raise
    assert Rehearsal(Hung.setup, Patient(0))((), shot) == {}
    assert "no more gangs are tried" in caplog.text
