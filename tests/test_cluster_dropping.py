"""Claims about films that there is no time or money for: the least urgent go first, none that was begun."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dropping import Load, ends_early, surplus
from cluster.events import Budgeted, Held, Ranked, Resumed, Ticked
from cluster.outcomes import Failure, Outcome
from cluster.pace import LEAST_S, MARK_S, MARKS, Pace
from tests.night import film, first, is_predicting, night_of, results_of, shot_task

LOADS = st.lists(st.builds(Load, st.text(), st.integers(0, 50), st.booleans()), max_size=8).map(
    lambda loads: [replace(load, row=str(k)) for k, load in enumerate(loads)]
)


@settings(deadline=None)
@given(LOADS, st.integers(0, 200))
def test_nothing_is_dropped_where_all_fits_and_else_the_least_urgent_first_and_no_more_than_needed(
    loads, fits
):
    dropped = surplus(loads, fits)
    unbegun = [load.row for load in loads if not load.begun]
    assert dropped == unbegun[::-1][: len(dropped)]

    def left(without):
        return sum(load.left for load in loads if load.row not in without)

    assert left(dropped) <= fits or len(dropped) == len(unbegun)
    assert not dropped or left(dropped[:-1]) > fits, "the last one was dropped for nothing"
    assert bool(dropped) <= (left([]) > fits)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 40)), min_size=3, max_size=100))
def test_a_pace_is_that_of_its_last_minutes_and_never_of_less_than_half_of_one(steps):
    pace, now_s, history = Pace().more(1), 0.0, []
    for seconds, n in steps:
        now_s += seconds
        pace = pace.more(n).at(now_s, held=False)
        history.append((now_s, pace.predicted))
    assert len(pace.marks) <= MARKS and set(pace.marks) <= set(history)
    assert all(b[0] - a[0] >= MARK_S for a, b in zip(pace.marks, pace.marks[1:], strict=False))
    if pace.per_s is not None:
        (first_s, before), (last_s, after) = pace.marks[0], pace.marks[-1]
        assert last_s - first_s >= LEAST_S and pace.per_s * (last_s - first_s) == pytest.approx(
            after - before
        )


def test_the_loading_of_weights_is_no_part_of_a_pace_and_neither_is_a_pause():
    pace = Pace().at(0.0, held=False).at(600.0, held=False)
    assert pace.marks == ()
    pace = pace.more(1).at(610.0, held=False).more(40).at(650.0, held=False)
    assert pace.per_s == 1.0
    assert pace.at(660.0, held=True).per_s is None


def test_what_follows_the_last_prediction_takes_what_it_took_so_far():
    pace = Pace(marks=((0.0, 0), (100.0, 50)))
    for kind, seconds in (
        ("segment", 4.0),
        ("segment", 6.0),
        ("master", 1.0),
        ("version", 3.0),
        ("shot", 99.0),
    ):
        pace = pace.after(Outcome("k", kind, {}, seconds=seconds))
    pace = pace.after(Outcome("k", "master", {}, seconds=50.0, reused=True))
    assert pace.ends_in_s(10) == 10 / 0.5 + 5.0 + 1.0 + 3.0
    assert pace.ends_in_s(0) == 9.0
    assert Pace().ends_in_s(1) is None


def codes(night, row):
    return {result.code for result in results_of(night, row).values() if isinstance(result, Failure)}


def pressed(*names, seconds, **limits):
    """Films of six predictions, of which the first is begun, one prediction a second, and a deadline."""
    made = [film(name, shot_task(name, 3)) for name in names]
    limits = {"max_canvases": 1, "deadline_s": 100.0 + seconds} | limits
    night = night_of(*made, **limits)
    night.run(stop=lambda: first(night, is_predicting(shot_task(names[0], 3))))
    night.clock, night.window_s = 100.0, 0.0
    night.state = replace(night.state, pace=Pace(100, ((0.0, 0), (100.0, 100))))
    night.tell(Ticked(100.0))
    return night


def test_no_film_is_dropped_where_all_are_predicted_to_be_done_in_time():
    night = pressed("a", "b", "c", seconds=18)
    assert not night.ended and night.state.cut is None
    night.run().check_end(["a", "b", "c"])


def test_the_least_urgent_films_are_dropped_that_are_not_begun_until_the_rest_is_predicted_to_be_in_time():
    night = pressed("a", "b", "c", "d", seconds=12)
    assert night.ended.keys() == {"c", "d"} and codes(night, "c") == {"E942_DEADLINE"}
    (failure,) = {result for result in results_of(night, "d").values() if isinstance(result, Failure)}
    assert failure.error_class == "DROPPED" and "late" in failure.message
    assert night.state.failed == 0 and ends_early(night.state) == []
    night.run().check_end(["a", "b", "c", "d"])
    assert not codes(night, "a") and not codes(night, "b")


def test_once_the_deadline_has_passed_films_are_dropped_though_no_pace_is_known():
    night = pressed("a", "b", seconds=1000)
    night.state = replace(night.state, pace=Pace())
    night.tell(Ticked(1099.0))
    assert not night.ended
    night.tell(Ticked(1100.0))
    assert night.ended.keys() == {"b"} and codes(night, "b") == {"E942_DEADLINE"}


def test_priority_and_not_the_order_of_drawing_says_which_film_is_dropped():
    made = [film("a", shot_task("a", 3)), film("b", shot_task("b", 3)), film("c", shot_task("c", 3))]
    night = night_of(*made, max_canvases=1, deadline_s=112.0)
    night.tell(Ranked(frozenset({"c"}), 9))
    night.window_s = 0.0
    night.run(stop=lambda: night.canvases)
    night.state = replace(night.state, pace=Pace(100, ((0.0, 0), (100.0, 100))))
    night.tell(Ticked(100.0))
    assert len(night.ended) == 1 and "c" not in night.ended


def test_once_a_film_is_dropped_so_is_every_one_to_come_that_is_no_more_urgent():
    night = pressed("a", "b", "c", seconds=12)
    night.films += [film("d", shot_task("d", 1))]
    night.admit()
    assert codes(night, "d") == {"E942_DEADLINE"}
    night.films += [film("urgent", shot_task("e", 3), priority=5)]
    night.admit()
    assert "urgent" in night.state.films and codes(night, "b") == {"E942_DEADLINE"}
    night.run().check_end(["a", "b", "c", "d", "urgent"])


def test_a_film_that_comes_when_there_is_no_time_is_dropped_before_it_begins():
    night = pressed("a", seconds=6, max_canvases=8)
    night.films += [film("b", shot_task("b", 3))]
    night.admit()
    assert codes(night, "b") == {"E942_DEADLINE"}
    night.run().check_end(["a", "b"])


def test_a_film_that_is_begun_is_finished_though_its_deadline_has_passed():
    night = pressed("a", "b", seconds=-50)
    assert night.ended.keys() == {"b"}
    night.run().check_end(["a", "b"])
    assert not codes(night, "a")


def test_a_film_of_which_only_the_end_is_left_is_never_dropped():
    night = pressed("a", seconds=-50, max_canvases=8)
    done = shot_task("done", 1)
    night.store[done.key] = Outcome(done.key, "shot", {})
    made = film("b", done)
    night.store[made.master.segments[0].key] = Outcome(made.master.segments[0].key, "segment", {})
    night.films += [made]
    night.admit()
    night.run().check_end(["a", "b"])
    assert not codes(night, "b")


def test_while_the_job_is_held_nothing_is_dropped():
    night = pressed("a", "b", seconds=225)
    night.held.add("a person")
    night.tell(Held("a person"))
    for now_s in (110.0, 200.0, 300.0):
        night.tell(Ticked(now_s))
    assert not night.ended
    night.held.clear()
    night.tell(Resumed("a person"))
    night.tell(Ticked(320.0))
    assert not night.ended, "no pace is known of after the pause"


def test_after_a_soft_budget_no_film_is_begun_and_those_under_way_are_finished_and_the_job_is_stopped():
    night = pressed("a", "b", "c", seconds=float("inf"), soft_gpu_s=10.0)
    night.state = replace(night.state, spent_gpu_s=10.0)
    night.tell(Ticked(101.0))
    assert night.ended.keys() == {"b", "c"} and codes(night, "b") == {"E943_SOFT_BUDGET"}
    night.films += [film("d", shot_task("d", 1), priority=100)]
    night.admit()
    assert codes(night, "d") == {"E943_SOFT_BUDGET"}
    assert [failure.code for failure in ends_early(night.state)] == ["E943_SOFT_BUDGET"]
    night.run().check_end(["a", "b", "c", "d"])
    assert not codes(night, "a")


def test_a_soft_budget_that_is_raised_lets_films_to_come_begin_again():
    night = pressed("a", "b", seconds=float("inf"), soft_gpu_s=10.0)
    night.state = replace(night.state, spent_gpu_s=10.0)
    night.tell(Ticked(101.0))
    night.tell(Budgeted(20.0, soft=True))
    night.films += [film("c", shot_task("c", 1))]
    night.admit()
    night.run().check_end(["a", "b", "c"])
    assert not codes(night, "c") and ends_early(night.state) == []
