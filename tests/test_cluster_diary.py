"""Claims about what the ledger is told: every attempt with its times, gangs in runs, and no more."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.account import closed
from cluster.audit_spent import IN_RUNS
from cluster.diary import GRAIN_S, LONGEST, ROWS_A_S, Diary
from cluster.events import Fared, Hired, Lost, Predict, Predicted, Raised, Window
from cluster.outcomes import Failure
from cluster.tally import US
from engine.parallel.axes import ALONE
from manifests.ledger import EVENTS, KINDS
from tests.night import film, shot_task
from tests.test_cluster_account import TAPE, Kept, three

SHOTS = {name: shot_task(name) for name in ("one", "two")}


class Written(Kept):
    """A night with its diary."""

    def __init__(self, *films, **more):
        self.diary, self.written, self.n_lost = Diary(), [], 0
        super().__init__(*films, **more)

    def book(self, what):
        super().book(what)
        self.n_lost += isinstance(what, Lost)
        self.written += list(self.diary.note(self.seconds, what))


@settings(deadline=None, max_examples=50)
@given(TAPE, st.integers(0, 12))
def test_every_row_fits_the_ledger_and_no_worker_is_at_two_things_at_once(tape, troubles):
    night = Written(*three(), tape=tape, troubles=troubles).run()
    rows = night.written + list(night.diary.close(night.seconds))
    spans = {}
    for row in rows:
        assert row.keys() <= {*EVENTS.names, "began_s", "ended_s"} and row["event"] in KINDS
        if "began_s" in row and row.get("kind") != "shot":
            assert 0 <= row["began_s"] <= row["ended_s"] <= night.seconds
            spans.setdefault(row["worker"], []).append((row["began_s"], row["ended_s"]))
    for lane in spans.values():
        ordered = sorted(lane)
        assert all(end <= start for (_, end), (start, _) in pairwise(ordered))
    done = [row["task_key"] for row in rows if row["event"] == "done"]
    assert set(done) == night.store.keys()
    lost = [row["worker"] for row in rows if row["event"] == "lost"]
    assert len(lost) == night.n_lost


@settings(deadline=None, max_examples=100)
@given(TAPE, st.integers(0, 12))
def test_runs_come_to_what_the_bill_has_but_for_calls_without_an_answer(tape, troubles):
    night = Written(*three(), tape=tape, troubles=troubles).run()
    runs = [row for row in (*night.written, *night.diary.close(night.seconds)) if row["event"] == "ran"]
    job, told_us = closed(night.account, night.seconds), US * sum(row["gpu_s"] for row in runs)
    unanswered_us = sum(us for cause, us in job.job.wasted.items() if cause not in IN_RUNS)
    slack_us = 1 + sum(row["windows"] for row in runs)
    assert job.used_us - unanswered_us - slack_us <= told_us <= job.used_us + slack_us


def rows_of(*steps, gangs=1):
    """The runs of one gang, of (shot, its start, seconds)."""
    diary = Diary()
    rows = [row for n in range(gangs) for row in diary.note(0.0, Hired(f"gang-{n}", "denoise"))]
    for number, (shot, began_s, seconds) in enumerate(steps):
        window = Window(SHOTS[shot].key, 1, number, 0)
        rows += diary.note(began_s, Predict("gang-0", SHOTS[shot], window))
        rows += diary.note(began_s + seconds, Predicted("gang-0", window, Fared(seconds, "cpu", ALONE)))
    rows += diary.close(steps[-1][1] + steps[-1][2])
    return [row for row in rows if row["event"] == "ran"]


def test_what_comes_of_a_gang_that_was_given_up_is_no_run_and_ends_nobody_elses_call():
    diary, window = Diary(), Window(SHOTS["one"].key, 1, 0, 0)
    answer, slow = Fared(2.0, "cpu", ALONE), Failure("E801_STORE", "the store is slow", "", "TRANSIENT")
    told = [Predict("gang-0", SHOTS["one"], window), Lost("gang-0"), Predicted("gang-0", window, answer)]
    told += [Predict("gang-1", SHOTS["one"], window), Predicted("gang-0", window, answer)]
    told += [Raised(SHOTS["one"].key, "gang-0", slow, window), Predicted("gang-1", window, answer)]
    rows = [row for now_s, what in enumerate(told) for row in diary.note(float(now_s), what)]
    rows += diary.close(9.0)
    assert [(row["event"], row["worker"]) for row in rows if row["event"] in ("cut", "ran")] == [
        ("cut", "gang-0"),
        ("ran", "gang-1"),
    ]


def test_windows_of_one_shot_are_one_run_until_the_gang_rests():
    (first, second) = rows_of(("one", 0.0, 0.5), ("one", 0.6, 0.5), ("one", 9.0, 0.5))
    assert (first["windows"], first["seconds"], first["gpu_s"]) == (2, 1.0, 1.0)
    assert (first["began_s"], first["ended_s"]) == (0.0, 1.1) and first["shot"] == SHOTS["one"].key
    assert (second["began_s"], second["ended_s"]) == (9.0, 9.5)


def test_a_run_ends_as_its_gang_turns_to_another_shot_but_not_within_a_second():
    assert [row["windows"] for row in rows_of(("one", 0.0, 2.0), ("two", 2.0, 2.0))] == [1, 1]
    (mixed,) = rows_of(("one", 0.0, 0.3), ("two", 0.3, 0.3), ("one", 0.6, 0.3))
    assert mixed["windows"] == 3 and mixed["shot"] is None


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SHOTS)), st.floats(0.001, 5.0), st.floats(0.0, 5.0)), min_size=1
    ),
    st.integers(1, 400),
)
def test_gangs_write_no_more_rows_than_a_ledger_bears(steps, gangs):
    laid, now = [], 0.0
    for shot, seconds, rest in steps:
        laid.append((shot, now + rest, seconds))
        now += rest + seconds
    rows = rows_of(*laid, gangs=gangs)
    grain_s = max(GRAIN_S, gangs / ROWS_A_S)
    assert len(rows) <= 2 + 2 * now / grain_s, "a row for every grain of work, and one for every rest"
    assert sum(row["windows"] for row in rows) == len(steps)
    assert all(row["ended_s"] - row["began_s"] <= (LONGEST + 1) * grain_s + 5.0 for row in rows)


def test_what_a_lost_gang_was_at_is_told_from_its_beginning():
    diary, window = Diary(), Window(SHOTS["one"].key, 1, 0, 0)
    list(diary.note(0.0, Hired("gang-0", "denoise")))
    list(diary.note(3.0, Predict("gang-0", SHOTS["one"], window)))
    cut, lost = diary.note(10.0, Lost("gang-0"))
    assert (cut["event"], cut["began_s"], cut["seconds"], cut["kind"]) == ("cut", 3.0, 7.0, "window")
    assert lost["event"] == "lost" and "task_key" not in cut, "a task's state is not what becomes of a try"


def test_a_film_that_has_ended_is_forgotten():
    night = Written(film("a", SHOTS["one"]), film("b", SHOTS["one"], SHOTS["two"])).run()
    for made in night.ended.values():
        night.diary.film(made)
    diary = night.diary
    assert not (diary.rows or diary.numbers or diary.attempts or diary.windows)
