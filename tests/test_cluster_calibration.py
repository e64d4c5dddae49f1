"""Claims about what ranks measure: that only like forwards count as alike."""

from dataclasses import replace

import pytest
from immutables import Map

from cluster.calibration import Stopwatch
from cluster.dispatch import Canvas, State
from cluster.events import Fared, Predicted, Window
from cluster.sketch import load_of
from engine.parallel.axes import ALONE

N_STEPS = 10


def shot_with(make_film, **sampling):
    task = make_film("a").master.segments[0].source
    return replace(task, sampling=replace(task.sampling, n_steps=N_STEPS, guidance_scale=6.0, **sampling))


def measured_of(task):
    """What a stopwatch keeps of all the task's steps; the first takes 1 s, each a second more."""
    watch, state = Stopwatch(), State(canvases=Map({task.key: Canvas(task, "conduct-0", 1)}))
    for _ in range(2):  # the first of a gang has loaded the weights
        for step in range(task.course.n_steps):
            watch.watch(Predicted("g", Window(task.key, 1, step, 0), Fared(1.0 + step, "cpu", ALONE)), state)
    return {key: entry["seconds"] for key, entry in watch.table().items()}


def test_steps_with_guidance_and_without_are_measured_apart(make_film):
    task = shot_with(make_film, guidance_start=0.2, guidance_stop=0.5)
    assert [task.is_guided(step) for step in range(N_STEPS)] == [2 <= step < 5 for step in range(N_STEPS)]
    table = {key.split()[3]: seconds for key, seconds in measured_of(task).items()}
    assert table.keys() == {"guided", "unguided"}
    assert table["guided"] == 4.0 and table["unguided"] > 5.0  # of steps 2 to 4, and of all others


@pytest.mark.parametrize(
    ("sampling", "guided"),
    [({}, True), ({"guidance_schedule": "linear"}, True), ({"guidance_start": 0.95}, False)],
)
def test_guidance_throughout_is_measured_as_such_and_an_interval_without_a_step_as_none(
    make_film, sampling, guided
):
    task = shot_with(make_film, **sampling)
    (key,) = measured_of(task)
    assert key.split()[3] == ("guided" if guided else "unguided")
    load = load_of(task)
    assert (load.guided, load.plain) == (guided, ())


def test_forwards_of_a_first_block_cache_are_not_measured(make_film):
    assert measured_of(shot_with(make_film, cache="first_block")) == {}


def test_steps_that_taylorseer_predicts_are_whole_forwards_and_measured_as_any_other(make_film):
    task, plain = shot_with(make_film, cache="taylorseer"), shot_with(make_film)
    assert task.course.n_steps < N_STEPS and measured_of(task).keys() == measured_of(plain).keys()


def test_a_plan_counts_the_steps_of_each_leg_that_are_not_guided(make_film):
    load = load_of(shot_with(make_film, guidance_stop=0.3))
    assert load.guided and load.plain == (7,) * len(load.course.legs)
