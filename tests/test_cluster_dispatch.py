"""Claims about dispatch: however workers answer, raise and die, every film ends and nothing is left."""

import math
import random
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.classes import CLASSES
from cluster.dispatch import Limits
from cluster.events import (
    Advance,
    Drop,
    Event,
    FilmDone,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Replace,
    Run,
)
from cluster.outcomes import Failure, Outcome
from tests.night import (
    N_STEPS,
    RAN_OUT,
    Night,
    film,
    first,
    is_call,
    is_dropped,
    is_predicting,
    night_of,
    piece_of,
    predicted_shots,
    results_of,
    segment_task,
    shot_task,
    workers,
)

# Any night.


def a_film(place, shots, langs, crf, before):
    """A film that depends on some of those before it."""
    depends_on = [f"row {k}" for k in sorted(before) if k < place]
    return film(f"row {place}", *shots, langs=langs, crf=crf, depends_on=depends_on)


SHOTS = (
    shot_task("s0", 1),
    shot_task("s1", 2),
    shot_task("s2", 3),
    shot_task("s3", 2, "another prompt"),
    shot_task("s4", 1, "a third prompt"),
    shot_task("s5", 3, mode="skeleton"),
    shot_task("s6", 3, mode="extend"),
    shot_task("s7", 2, model="another"),
)
FILMS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(SHOTS), min_size=1, max_size=3, unique=True),
        st.sampled_from([(), ("hi",), ("hi", "ta")]),
        st.sampled_from([20, 30]),
        st.sets(st.integers(0, 4), max_size=2),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [a_film(k, *row) for k, row in enumerate(rows)])
STAFF = st.builds(
    workers,
    gangs=st.integers(1, 3),
    conductors=st.integers(1, 2),
    canvases=st.integers(1, 3),
    encoders=st.integers(1, 2),
    decoders=st.integers(1, 2),
    finishers=st.integers(1, 2),
)
LIMITS = st.builds(
    Limits,
    max_canvases=st.integers(1, 3),
    max_films=st.integers(1, 4),
    max_tries=st.integers(1, 3),
    max_losses=st.integers(1, 4),
    deadline_s=st.sampled_from([math.inf, 60.0, 600.0, 900.0]),
    soft_gpu_s=st.sampled_from([math.inf, math.inf, 5.0, 30.0]),
)
CALM = LIMITS.map(lambda limits: replace(limits, deadline_s=math.inf, soft_gpu_s=math.inf))
TAPE = st.binary(min_size=500, max_size=500)


@settings(max_examples=400, deadline=None)
@given(FILMS, STAFF, LIMITS, TAPE, st.integers(0, 25))
def test_whatever_happens_every_film_ends_once_for_a_reason_and_nothing_is_left(
    films, staff, limits, tape, troubles
):
    night = Night(films, staff, limits, tape, troubles).run()
    night.check_end(made.row_id for made in films)


def test_such_nights_have_every_event_and_errors_and_losses_of_every_class():
    rng, told = random.Random(5), []
    made = [a_film(k, SHOTS[k : k + 2], ("hi",), 20, {k - 2} - {-2, -1}) for k in range(4)]
    for _ in range(60):
        night = Night(made, workers(2, 2, 2), Limits(max_films=2, max_canvases=3), rng.randbytes(500), 25)
        told += night.run().told
    assert {type(event) for event in told} == set(get_args(Event))
    assert {event.failure.error_class for event in told if isinstance(event, Raised)} == CLASSES.keys()
    lost = {event.failure and event.failure.error_class for event in told if isinstance(event, Lost)}
    assert lost == {None, *CLASSES}


def test_in_such_nights_films_are_dropped_after_their_deadline_and_before():
    rng, dropped = random.Random(7), Counter()
    made = [a_film(k, [shot], (), 20, ()) for k, shot in enumerate(SHOTS)]
    for deadline_s in 40 * [600.0, 900.0]:
        limits = Limits(max_films=4, max_canvases=1, deadline_s=deadline_s)
        night = Night(made, workers(2, 2, 2), limits, rng.randbytes(500), 2).run()
        dropped.update("passed" in str(end.results) for end in night.ended.values() if is_dropped(end))
    assert dropped[True] >= 10 and dropped[False] >= 10, dropped


@settings(max_examples=100, deadline=None)
@given(FILMS, STAFF, CALM, TAPE)
def test_without_trouble_every_task_is_done_once_in_any_order_of_answers(films, staff, limits, tape):
    night = Night(films, staff, limits, tape).run()
    night.check_end(made.row_id for made in films)
    begun = Counter(action.task.key for action in night.log if isinstance(action, (Run, Open)))
    assert begun == Counter({key for made in films for key in made.tasks})
    steps = Counter((a.task.key, a.step) for a in night.log if isinstance(a, Advance))
    shots = {segment.source for made in films for segment in made.master.segments}
    assert steps == Counter((shot.key, step) for shot in shots for step in range(shot.course.n_steps))


def test_a_film_that_waits_for_a_task_goes_on_when_another_finds_it_done_before_its_worker_has_answered():
    shared, own = shot_task("shared"), shot_task("own", prompt="another")
    for kind, of in ((Run, "segment"), (Advance, "shot")):
        night, at_it = night_of(film("1", shared)), is_call(kind, of)
        call = night.run(stop=partial(first, night, at_it)) and first(night, at_it)
        night.store[call.task.key] = Outcome(call.task.key, of, {})
        night.films.append(film("2", own, shared))
        night.admit()
        assert night.state.results[call.task.key] and call in night.calls
        night.run().check_end(["1", "2"])


@settings(max_examples=20, deadline=None)
@given(FILMS, STAFF, LIMITS, TAPE)
def test_the_same_events_give_the_same_actions(films, staff, limits, tape):
    first, second = (Night(films, staff, limits, tape, troubles=10).run() for _ in range(2))
    assert first.log == second.log


# Examples.


def test_the_oldest_film_comes_first():
    old, young = shot_task("old", 3), shot_task("young", 3)
    night = night_of(film("old", old), film("young", young)).run()
    assert list(night.ended) == ["old", "young"]
    waiting = predicted_shots(night)
    # the young film gets the gang only while the old one's conductor blends
    assert waiting == ["old"] * 3 + ["young"] + ["old"] * 3 + ["young"] * 5


def test_the_oldest_film_comes_first_also_when_its_shot_had_to_be_opened_again():
    old, young = shot_task("old", 3), shot_task("young", 3)
    staff = workers(conductors=2, canvases=1)
    night = night_of(film("old", old), film("young", young), staff=staff)
    night.run(stop=lambda: first(night, is_predicting(old)))
    night.lose(night.canvases[old.key].conductor)
    night.hire()
    night.run(stop=lambda: first(night, is_predicting(young)))
    night.answer(first(night, lambda call: isinstance(call, Open) and call.task == old))
    assert night.state.canvases[old.key].opening > night.state.canvases[young.key].opening
    assert {window.shot for window in night.state.queue} == {old.key, young.key}
    assert night.state.queue[0].shot == old.key


def test_windows_of_two_films_share_the_gangs():
    one, two = shot_task("one"), shot_task("two")
    night = night_of(film("1", one), film("2", two), staff=workers(gangs=2))
    night.run(stop=lambda: first(night, is_predicting(one)) and first(night, is_predicting(two)))
    assert len([call for call in night.calls if isinstance(call, Predict)]) == 2
    alone = night_of(film("1", one), film("2", two), staff=workers(gangs=1)).run()
    served = {(a.gang, a.task.shot.shot_id) for a in alone.log if isinstance(a, Predict)}
    assert served == {("denoise-0", "one"), ("denoise-0", "two")}


def test_a_prompt_and_a_shot_that_two_films_share_are_made_once():
    shared = shot_task("shared", 2)
    night = night_of(film("1", shared), film("2", shared, crf=30)).run()
    kinds = Counter(action.task.kind for action in night.log if isinstance(action, (Run, Open)))
    assert kinds == {"prompt": 2, "shot": 1, "segment": 2, "master": 2}


def test_a_version_that_fails_does_not_fail_the_other_language():
    made = film("1", shot_task("s"), langs=("hi", "ta"))
    night = night_of(made)
    night.run(stop=lambda: first(night, is_call(Run, "hi")))
    night.raise_at(first(night, is_call(Run, "hi")), name="DATA", code="E703_FONT")
    night.run()
    hi, ta = made.versions
    results = results_of(night, "1")
    assert results[hi.key] == Failure("E703_FONT", "raised", "", "DATA")
    assert isinstance(results[ta.key], Outcome) and isinstance(results[made.master.key], Outcome)


def test_a_version_that_failed_is_not_tried_again_when_another_film_ends():
    made, other = film("1", shot_task("s"), langs=("hi",)), film("2", shot_task("t"))
    night = night_of(made, other, staff=workers(finishers=3))

    def unanswered(call):
        return call.task == made.master

    night.run(stop=lambda: first(night, is_call(Run, "hi")), skip=unanswered)
    night.raise_at(first(night, is_call(Run, "hi")), name="DATA")
    night.run(skip=unanswered)
    assert list(night.ended) == ["2"]
    night.run().check_end(["1", "2"])
    assert [action.task.kind for action in night.log if isinstance(action, Run)].count("version") == 1


def test_a_film_that_ends_tells_the_outcome_of_every_task_whoever_ended_before():
    films = film("1", shot_task("s"), langs=("hi",)), film("2", shot_task("s"), shot_task("t", 3))
    night = night_of(*films).run()
    for made in films:
        assert night.ended[made.row_id].results == {key: night.store[key] for key in made.tasks}


def test_a_prompt_that_fails_fails_only_the_films_that_use_it():
    bad, good = shot_task("s", prompt="bad"), shot_task("s", prompt="good")
    films = film("1", bad, langs=("hi",)), film("2", good), film("3", good, bad)
    night = night_of(*films)
    night.run(stop=lambda: first(night, lambda call: getattr(call.task, "text", "") == "bad"))
    night.raise_at(first(night, lambda call: getattr(call.task, "text", "") == "bad"), name="DATA")
    night.run()
    night.check_end(["1", "2", "3"])
    failed = [
        row for row, done in night.ended.items() if isinstance(done.results[done.film.master.key], Failure)
    ]
    assert failed == ["1", "3"]
    assert isinstance(results_of(night, "1")[films[0].versions[0].key], Failure)
    assert "bad" not in {
        action.task.shot.prompts[0].prompt for action in night.log if isinstance(action, Open)
    }


def test_a_slow_decoder_stops_the_denoising_ahead_of_it():
    shots = [shot_task(f"s{k}") for k in range(6)]
    decoding = is_call(Run, "segment")
    night = night_of(film("1", *shots), max_canvases=2, staff=workers(gangs=3)).run(skip=decoding)
    opened = [action.task for action in night.log if isinstance(action, Open)]
    assert opened == shots[:2] and not night.canvases
    night.answer(first(night, decoding))
    night.run(skip=decoding)
    assert [action.task for action in night.log if isinstance(action, Open)] == shots[:3]
    night.run().check_end(["1"])


def test_a_lost_gang_costs_one_window():
    shot = shot_task("s", 3)
    night = night_of(film("1", shot), staff=workers(gangs=2))
    night.run(stop=lambda: first(night, is_predicting(shot)))
    lost = first(night, is_predicting(shot))
    night.lose(lost.gang)
    night.run().check_end(["1"])
    counts = Counter(action.window for action in night.log if isinstance(action, Predict))
    assert counts.pop(lost.window) == 2
    assert len(counts) == 3 * N_STEPS - 1 and set(counts.values()) == {1}
    assert Counter(type(action) for action in night.log)[Open] == 1


def test_a_late_prediction_of_a_lost_gang_does_not_advance_the_canvas_twice():
    shot = shot_task("s", 1)
    night = night_of(film("1", shot), staff=workers(gangs=2))
    night.run(stop=lambda: first(night, is_predicting(shot)))
    lost = first(night, is_predicting(shot))
    night.lose(lost.gang)
    again = first(night, is_predicting(shot))
    assert again.window == lost.window and again.gang != lost.gang
    night.tell(Predicted(lost.gang, lost.window))
    assert not first(night, lambda call: isinstance(call, Advance))
    night.run().check_end(["1"])


def test_a_late_error_of_a_lost_gang_does_not_disturb_who_took_over():
    shot = shot_task("s", 1)
    night = night_of(film("1", shot), staff=workers(gangs=2), max_tries=1)
    night.run(stop=lambda: first(night, is_predicting(shot)))
    lost = first(night, is_predicting(shot))
    night.lose(lost.gang)
    night.raise_at(lost, late=True, name="DATA")
    assert first(night, is_predicting(shot)).window == lost.window
    night.run().check_end(["1"])
    assert not any(isinstance(r, Failure) for r in results_of(night, "1").values())


def test_a_lost_conductor_reopens_its_shots():
    shots = shot_task("one", 2), shot_task("two", 2)
    night = night_of(*(film(shot.shot.shot_id, shot) for shot in shots), staff=workers(gangs=4))
    night.run(stop=lambda: [night.steps.get(o.opening) for o in night.canvases.values()] == [1, 1])
    night.lose("conduct-0")
    assert not len(night.state.canvases) and not night.state.queue
    night.run().check_end(["one", "two"])
    openings = Counter(action.task.shot.shot_id for action in night.log if isinstance(action, Open))
    assert openings == {"one": 2, "two": 2}
    assert all(isinstance(done.results[done.film.master.key], Outcome) for done in night.ended.values())


def test_a_window_that_kills_its_gangs_is_given_up_and_its_film_alone_fails():
    poison, sound = shot_task("poison", 3), shot_task("sound", 3)
    night = night_of(film("bad", poison), film("good", sound), staff=workers(gangs=2), max_losses=4)

    def deadly(call):
        return (
            isinstance(call, Predict)
            and call.task == poison
            and (call.window.step, call.window.part) == (1, 2)
        )

    for _ in range(4):
        assert "bad" not in night.ended
        night.run(stop=lambda: first(night, deadly))
        night.lose(first(night, deadly).gang)
    night.run().check_end(["bad", "good"])
    (failure,) = {r for r in results_of(night, "bad").values() if isinstance(r, Failure)}
    assert failure.code == "E910_POISON" and "4 workers" in failure.message and failure.hint
    assert not any(isinstance(r, Failure) for r in results_of(night, "good").values())
    assert Counter(type(action) for action in night.log)[Drop] == 1


def test_a_window_that_runs_its_gangs_out_of_memory_fails_as_that_after_the_tries_and_not_as_poison():
    shot, sound = shot_task("large", 3), shot_task("sound", 3)
    staff = workers(gangs=2)
    night = night_of(film("bad", shot), film("good", sound), staff=staff, max_tries=2, max_losses=9)

    def at_it(call):
        return isinstance(call, Predict) and call.task == shot and piece_of(call) == (shot.key, 1, 2)

    for _ in range(2):
        assert "bad" not in night.ended
        night.run(stop=lambda: first(night, at_it))
        night.lose(first(night, at_it).gang, RAN_OUT)
    night.run().check_end(["bad", "good"])
    assert {r for r in results_of(night, "bad").values() if isinstance(r, Failure)} == {RAN_OUT}
    assert not any(isinstance(r, Failure) for r in results_of(night, "good").values())


def test_a_film_of_which_a_shot_is_refused_fails_at_once_and_asks_for_no_work_that_leads_to_it():
    refused, sound = shot_task("large", 2, "a prompt of its own"), shot_task("sound", 2)
    night = Night([film("bad", refused, langs=("hi",)), film("good", sound)], workers(), Limits())
    night.refused = {refused.key: RAN_OUT}
    night.begin().run().check_end(["bad", "good"])
    done = night.ended["bad"]
    assert all(done.results[task.key] == RAN_OUT for task in done.film.wanted)
    assert not any(isinstance(r, Failure) for r in results_of(night, "good").values())
    asked = {action.task.key for action in night.log if isinstance(action, (Run, Open))}
    assert not asked & {key for key in done.film.tasks if key not in night.ended["good"].film.tasks}


def test_a_long_shot_outlives_any_number_of_workers_that_die_at_different_windows():
    shot = shot_task("s", 3)
    night = night_of(film("1", shot), max_losses=2)
    struck = set()
    while len(struck) < 3 * N_STEPS:
        night.run(stop=lambda: (c := first(night, is_predicting(shot))) and piece_of(c) not in struck)
        call = first(night, is_predicting(shot))
        struck.add(piece_of(call))
        night.lose(call.gang)
    night.run().check_end(["1"])
    assert not any(isinstance(r, Failure) for r in results_of(night, "1").values())


def test_a_conductor_that_dies_at_every_step_does_not_fail_a_shot_that_goes_on():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot), max_losses=2)
    for step in range(N_STEPS):
        night.checkpoints[shot.key] = step
        night.lose_at(shot, step)
    night.run().check_end(["1"])
    assert not any(isinstance(r, Failure) for r in results_of(night, "1").values())


def test_a_step_that_kills_its_conductors_is_given_up():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot), max_losses=2)
    night.lose_at(shot, 1)
    night.lose_at(shot, 1)
    assert {r.code for r in results_of(night, "1").values() if isinstance(r, Failure)} == {"E910_POISON"}
    night.run().check_end(["1"])


@pytest.mark.parametrize(("name", "tries"), [("HOST_OOM", 3), ("BUG", 2), ("DATA", 1)])
@pytest.mark.parametrize("kind", [Run, Open, Predict, Advance])
def test_what_raises_is_tried_as_often_as_its_class_says_wherever_it_raises(kind, name, tries):
    shot = shot_task("s", 2)
    night = night_of(film("1", shot), max_tries=3)
    key = shot.sources[0].key if kind is Run else shot.key

    def struck(call):
        return isinstance(call, kind) and call.task.key == key

    for _ in range(tries):
        assert not night.ended
        night.run(stop=lambda: first(night, struck))
        night.raise_at(first(night, struck), name=name)
    night.run().check_end(["1"])
    assert Failure("E900_RENDER", "raised", "", name) in results_of(night, "1").values()
    begun = [a for a in night.log if isinstance(a, Run if kind is Run else Open) and a.task.key == key]
    assert len(begun) == tries


def test_a_late_result_counts_and_stops_who_does_it_again():
    shot = shot_task("s", 1)
    night = night_of(film("1", shot), staff=workers(conductors=2, canvases=1))
    night.run(stop=lambda: first(night, lambda call: isinstance(call, Advance) and call.step == N_STEPS - 1))
    late = first(night, lambda call: isinstance(call, Advance))
    night.lose(late.conductor)
    again = night.canvases[shot.key]
    assert again.conductor != late.conductor
    night.finish(late.conductor, shot)
    assert night.log[-2:] == [
        Drop(again.conductor, shot.key, again.opening),
        Run("decode-0", segment_task(shot)),
    ]
    night.run().check_end(["1"])


def test_a_film_that_was_made_before_asks_for_no_work():
    made = film("1", shot_task("s"), langs=("hi",))
    first_night = night_of(made).run()
    night = Night([made], workers(), Limits())
    night.store = first_night.store
    night.begin().check_end(["1"])
    assert [type(action) for action in night.log] == [FilmDone]


def test_what_was_done_before_is_not_done_again_even_where_it_is_needed_for_the_rest():
    shot = shot_task("s", 2)
    night = Night([film("1", shot, langs=("hi", "ta"))], workers(), Limits())
    night.store = night_of(film("0", shot, langs=("hi",))).run().store
    night.begin().run().check_end(["1"])
    assert [a.task.lang for a in night.log if isinstance(a, Run)] == ["ta"]
    assert not any(isinstance(action, Open) for action in night.log)


def test_work_goes_to_the_least_busy_worker():
    night = night_of(film("1", shot_task("one"), shot_task("two")), staff=workers(conductors=2, canvases=2))
    night.run(stop=lambda: len(night.canvases) == 2)
    assert {opened.conductor for opened in night.canvases.values()} == {"conduct-0", "conduct-1"}


def test_a_worker_reported_lost_twice_is_replaced_once():
    night = night_of(film("1", shot_task("s")))
    night.lose("decode-0")
    night.tell(Lost("decode-0"))
    assert [action for action in night.log if isinstance(action, Replace)] == [Replace("decode-0")]


def test_a_task_that_nobody_wants_any_more_runs_out_and_leaves_nothing_even_if_it_raises():
    one, other = shot_task("s"), shot_task("s", prompt="another prompt")
    night = night_of(film("1", one, other), staff=workers(encoders=2))
    bad, unwanted = night.calls
    night.raise_at(bad, name="DATA")
    assert night.ended.keys() == {"1"} and night.calls == [unwanted]
    night.raise_at(unwanted)
    night.check_end(["1"])


def test_a_shot_is_not_rendered_for_a_film_that_has_its_segment():
    shot, bad = shot_task("s"), shot_task("s", prompt="another prompt")
    night = Night([film("1", shot, langs=("hi",)), film("2", bad, shot, crf=30)], workers(), Limits())
    done = segment_task(shot)
    night.store[done.key] = Outcome(done.key, done.kind, {})
    night.begin().run(
        stop=lambda: first(night, lambda call: getattr(call.task, "text", "") == "another prompt")
    )
    night.raise_at(first(night, lambda call: getattr(call.task, "text", "") == "another prompt"), name="DATA")
    night.run().check_end(["1", "2"])
    assert shot not in [action.task for action in night.log if isinstance(action, Open)]
    assert not any(isinstance(result, Failure) for result in results_of(night, "1").values())


def test_a_film_that_has_a_segment_does_not_hear_that_its_shot_failed_for_another():
    shot, other = shot_task("s"), shot_task("t", 3)
    night = Night([film("1", shot, other), film("2", shot, crf=30)], workers(gangs=4), Limits())
    done = segment_task(shot)
    night.store[done.key] = Outcome(done.key, done.kind, {})
    night.begin().run(stop=lambda: first(night, is_predicting(shot)))
    night.raise_at(first(night, is_predicting(shot)), name="DATA")
    night.run().check_end(["1", "2"])
    assert not any(isinstance(result, Failure) for result in results_of(night, "1").values())


def test_a_shot_that_fails_after_its_segment_was_found_fails_only_who_still_needs_it():
    shot = shot_task("s")
    night = night_of(film("1", shot, langs=("hi",)))
    night.run(stop=lambda: first(night, is_predicting(shot)))
    night.finish("decode-0", segment_task(shot))  # by a worker given up for lost before
    night.raise_at(first(night, is_predicting(shot)), name="DATA")
    night.films.append(film("2", shot, crf=30))
    night.admit()
    night.run().check_end(["1", "2"])
    assert isinstance(results_of(night, "1")[film("1", shot).master.key], Outcome)
