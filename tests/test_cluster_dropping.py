"""Claims about films that there is no time or money for: the least urgent go first, none that was begun."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dropping import ends_early
from cluster.events import Budgeted, Held, Ranked, Resumed, Ticked
from cluster.outcomes import Failure, Outcome
from cluster.pace import LEAST_S, MARK_S, MARKS, Pace
from tests.night import film, first, is_predicting, night_of, results_of, shot_task

MARKED = ((-200.0, -200), (100.0, 100))  # one prediction a second for as long as it takes to know it


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 40)), min_size=3, max_size=200))
def test_a_pace_is_that_of_its_last_minutes_and_never_of_less_than_five(steps):
    pace, now_s, history = replace(Pace().more(1), gangs=1), 0.0, []
    for seconds, n in steps:
        now_s += seconds
        pace = pace.more(n).at(now_s, 1, held=False)
        history.append((now_s, pace.predicted))
    assert len(pace.marks) <= MARKS and set(pace.marks) <= set(history)
    assert all(b[0] - a[0] >= MARK_S for a, b in zip(pace.marks, pace.marks[1:], strict=False))
    if pace.per_s is not None:
        (first_s, before), (last_s, after) = pace.marks[0], pace.marks[-1]
        assert last_s - first_s >= LEAST_S and pace.per_s * (last_s - first_s) == pytest.approx(
            after - before
        )


def test_the_loading_of_weights_is_no_part_of_a_pace_and_neither_is_a_pause():
    pace = Pace().at(0.0, 1, held=False).at(600.0, 1, held=False)
    assert pace.marks == ()
    pace = pace.more(1).at(610.0, 1, held=False).more(400).at(1010.0, 1, held=False)
    assert pace.per_s == 1.0
    assert pace.at(1020.0, 1, held=True).per_s is None


def worked(pace, from_s, to_s, gangs, each_per_s=1.0):
    """A pace after gangs were at work, each so fast."""
    for now_s in range(int(from_s), int(to_s) + 1, 10):
        pace = pace.at(float(now_s), gangs, held=False).more(round(gangs * each_per_s * 10))
    return pace


def test_a_pace_is_not_known_until_some_minutes_after_gangs_have_come_or_were_lost():
    pace = worked(Pace().more(1), 0, 400, gangs=1)
    assert pace.per_s == 1.0
    for gangs in (100, 50, 0, 3):
        at_s = pace.marks[-1][0] + 10
        pace = worked(pace, at_s, at_s + LEAST_S, gangs)
        assert pace.per_s is None and pace.best_per_s is None
        pace = worked(pace, at_s + LEAST_S + 10, at_s + LEAST_S + 10, gangs)
        assert pace.per_s == (gangs or None)


def test_one_gang_of_many_comes_or_goes_and_the_pace_is_still_known():
    pace = worked(Pace().more(1), 0, 600, gangs=20)
    for gangs in (19, 20, 21, 20):
        pace = worked(pace, pace.marks[-1][0] + 10, pace.marks[-1][0] + 10, gangs)
        assert pace.per_s == pytest.approx(20, rel=0.01)


def test_the_best_pace_of_gangs_is_that_of_the_ten_minutes_in_which_one_was_the_fastest():
    pace = worked(Pace().more(1), 0, 700, gangs=2)
    assert pace.best == 1.0
    pace = worked(pace, 710, 2000, gangs=2, each_per_s=0.1)
    assert pace.per_s == pytest.approx(0.2) and pace.best_per_s == 2.0
    pace = worked(pace, 2010, 2400, gangs=4, each_per_s=0.1)
    assert pace.per_s == pytest.approx(0.4) and pace.best_per_s == 4.0


def test_what_follows_the_last_prediction_takes_what_it_took_so_far():
    pace = Pace(marks=((0.0, 0), (400.0, 200)))
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
    """Films of six predictions, of which the first is begun, one prediction a second, and a deadline then."""
    made = [film(name, shot_task(name, 3)) for name in names]
    limits = {"max_canvases": 1, "deadline_s": 100.0 + seconds} | limits
    night = night_of(*made, **limits)
    night.run(stop=lambda: first(night, is_predicting(shot_task(names[0], 3))))
    night.clock, night.window_s = 100.0, 1.0
    night.state = replace(night.state, pace=Pace(100, MARKED, gangs=1))
    night.tell(Ticked(100.0))
    return night


def test_no_film_is_dropped_where_all_are_predicted_to_be_done_in_time():
    night = pressed("a", "b", "c", seconds=18)
    assert not night.ended and night.state.cut is None
    night.run().check_end(["a", "b", "c"])


def test_the_least_urgent_films_are_dropped_once_one_would_be_begun_and_not_be_done_in_time():
    night = pressed("a", "b", "c", "d", seconds=14)
    assert not night.ended, "none of them would be begun now"
    night.run(stop=lambda: "c" in night.ended)
    assert night.clock >= 100 + 11, "three seconds before the deadline at most"
    assert codes(night, "c") == {"E942_DEADLINE"}
    (failure,) = {result for result in results_of(night, "d").values() if isinstance(result, Failure)}
    assert failure.error_class == "DROPPED" and "would be done 1 min late" in failure.message
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
    night.window_s = 1.0
    night.run(stop=lambda: night.canvases)
    night.clock = 100.0
    night.state = replace(night.state, pace=Pace(100, MARKED, gangs=1))
    night.tell(Ticked(100.0))
    night.run().check_end(["a", "b", "c"])
    assert [row for row in night.ended if codes(night, row)] == ["b"]


def test_a_film_to_come_is_dropped_only_if_there_is_no_time_for_it_either():
    night = pressed("a", "b", seconds=10)
    night.run(stop=lambda: "b" in night.ended)
    assert codes(night, "b") == {"E942_DEADLINE"}
    night.films += [film("short", shot_task("c", 1)), film("long", shot_task("d", 3))]
    night.run().check_end(["a", "b", "short", "long"])
    assert not codes(night, "short") and codes(night, "long") == {"E942_DEADLINE"}


def test_a_more_urgent_film_is_begun_where_there_is_no_time_for_what_it_overtakes():
    night = pressed("a", "b", seconds=8, max_canvases=3)
    night.films += [film("urgent", shot_task("e", 3), priority=5)]
    night.admit()
    night.run().check_end(["a", "b", "urgent"])
    assert not codes(night, "urgent") and night.clock > 108, "which was begun, and is finished"


def test_a_film_that_comes_when_there_is_no_time_is_dropped_before_it_begins():
    night = pressed("a", seconds=6, max_canvases=8)
    night.films += [film("b", shot_task("b", 3))]
    night.admit()
    assert codes(night, "b") == {"E942_DEADLINE"}
    night.run().check_end(["a", "b"])


def test_a_film_that_is_begun_is_finished_though_its_deadline_has_passed():
    night = pressed("a", "b", seconds=-50)
    assert night.ended.keys() == {"b"} and "has passed" in str(results_of(night, "b"))
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
    night = pressed("a", "b", seconds=230)
    night.held.add("a person")
    night.tell(Held("a person"))
    for night.clock in (110.0, 200.0, 320.0):
        night.tell(Ticked(night.clock))
    assert not night.ended
    night.held.clear()
    night.tell(Resumed("a person"))
    night.run().check_end(["a", "b"])
    assert night.clock > 330 and not codes(night, "b"), (
        "no pace was known after the pause, and so it was begun"
    )


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


def test_a_film_that_comes_while_a_shot_of_it_is_rendered_for_another_is_begun_and_not_dropped():
    night = pressed("a", "b", seconds=float("inf"), soft_gpu_s=10.0)
    night.films += [film("again", shot_task("a", 3), crf=30)]
    night.admit()
    assert night.state.films["again"].begun
    night.state = replace(night.state, spent_gpu_s=10.0)
    night.tell(Ticked(101.0))
    assert night.ended.keys() == {"b"}
    night.run().check_end(["a", "b", "again"])
    assert not codes(night, "again")
