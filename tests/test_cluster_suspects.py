"""Claims about conductors that die or hang with many shots: the guilty one is found, and no other fails."""

import pytest

from cluster.classes import CLASSES
from cluster.events import Drop, Hired
from cluster.outcomes import Failure
from tests.night import RAN_OUT, film, night_of, results_of, shot_task, workers

HUNG = Failure("E911_HUNG", "no answer", "", "TIMEOUT")
LOST = Failure("E912_NODE_LOST", "lost with its node", "", "NODE_LOST")


def failures(night, row):
    return {result for result in results_of(night, row).values() if isinstance(result, Failure)}


def films(n, windows=2):
    """Films of one shot each, of one text, and their shots by row."""
    shots = {f"film {k}": shot_task(f"s{k}", windows) for k in range(n)}
    return [film(row, shot) for row, shot in shots.items()], shots


def opened(night, n=8, step=0):
    """Whether so many canvases stand before a step."""
    return [night.steps.get(each.opening) for each in night.canvases.values()].count(step) == n


def poisoned(n, guilty, step, failure, **limits):
    """A night in which every conductor is lost that has one of these shots before a step; how many were."""
    made, shots = films(n)
    night = night_of(*made, max_films=n, max_canvases=n, **limits)
    keys, deaths = {shots[row].key for row in guilty}, 0

    def at_it():
        found = [each for key, each in night.canvases.items() if key in keys]
        return [each for each in found if night.steps.get(each.opening, -1) == step]

    while night.run(stop=at_it) and (found := at_it()):
        night.lose(found[0].conductor, failure)
        deaths += 1
        assert deaths < 50, "nobody is found to be guilty"
    night.check_end(shots)
    return night, deaths


@pytest.mark.parametrize("failure", [None, RAN_OUT, HUNG], ids=["unknown", "memory", "hung"])
@pytest.mark.parametrize("step", [-1, 0, 1])
def test_of_eight_shots_of_a_conductor_the_one_that_it_dies_of_fails_and_no_other(step, failure):
    night, deaths = poisoned(8, ["film 3"], step, failure)
    assert [row for row in night.ended if failures(night, row)] == ["film 3"]
    (found,) = failures(night, "film 3")
    assert found.error_class == (failure.error_class if failure else "POISON")
    assert found.scene.step == step and found.scene.part == -1
    assert deaths == (CLASSES[failure.error_class].limit if failure else night.limits.max_losses)


@pytest.mark.parametrize("step", [-1, 1])
def test_two_shots_that_conductors_die_of_are_both_found_and_no_third_fails(step):
    night, deaths = poisoned(6, ["film 1", "film 4"], step, HUNG)
    assert [row for row in sorted(night.ended) if failures(night, row)] == ["film 1", "film 4"]
    assert deaths <= 2 * CLASSES["TIMEOUT"].limit


def test_conductors_that_die_of_many_canvases_at_once_and_of_none_alone_fail_nobody():
    made, shots = films(4)
    night, deaths = night_of(*made, max_films=4, max_canvases=4), 0

    def many():
        return len(night.canvases) >= 3 and all(
            each.opening in night.steps for each in night.canvases.values()
        )

    while night.run(stop=many) and many():
        night.lose("conduct-0", RAN_OUT)
        deaths += 1
    night.check_end(shots)
    assert deaths >= CLASSES["HOST_OOM"].limit and not any(failures(night, row) for row in shots)


def test_a_suspect_has_its_conductor_alone_until_it_is_past_the_step_at_which_that_was_lost():
    made, shots = films(3)
    night = night_of(*made, max_films=3, max_canvases=3)
    night.run(stop=lambda: opened(night, 3))
    night.lose("conduct-0", HUNG)
    assert night.state.suspects == {shot.key for shot in shots.values()}
    night.run(stop=lambda: night.canvases)
    (key,) = night.canvases
    assert night.state.canvases[key].alone and not night.state.idle.get("conduct")
    night.run(stop=lambda: key not in night.state.suspects)
    assert night.steps[max(night.steps)] == 1 and len(night.canvases) == 1, "the next one is tried alone, too"
    assert [each for each in night.log if isinstance(each, Drop)][-1].save, "what was done is not lost"
    night.run().check_end(shots)
    assert not any(failures(night, row) for row in shots)


def test_trials_take_no_more_than_one_conductor_from_other_shots():
    made, shots = films(8)
    staff = workers(conductors=3, canvases=4)
    night = night_of(*made, staff=staff, max_films=8, max_canvases=12)
    night.run(stop=lambda: opened(night, 8))
    night.lose("conduct-1", HUNG)
    night.run(stop=lambda: night.state.canvases and any(each.alone for each in night.state.canvases.values()))
    for _ in range(60):
        at_trial = {each.conductor for each in night.state.canvases.values() if each.alone}
        assert len(at_trial) <= 1
        if night.calls:
            night.answer(night.calls[0])
    night.run().check_end(shots)
    assert not any(failures(night, row) for row in shots)


def test_one_hang_of_a_conductor_with_eight_canvases_is_one_error_of_its_host():
    made, shots = films(8)
    night = night_of(*made, staff=workers(gangs=9, conductors=2), max_films=8, max_canvases=16)
    night.run(stop=lambda: opened(night))
    host = night.living["conduct-0"].host
    night.lose("conduct-0", HUNG)
    (blame,) = night.state.blamed[host]
    assert len(blame.tasks) > 1 and not night.state.blocked
    night.run().check_end(shots)


@pytest.mark.parametrize("name", ["NODE_LOST", "GPU_FAULT"])
def test_a_long_shot_outlives_any_number_of_nodes_and_gpus_that_are_lost_at_different_windows(name):
    shot = shot_task("s", 13)
    failure = Failure("E9", "lost", "", name)
    night, struck = night_of(film("1", shot), staff=workers(gangs=3)), set()

    def fresh():
        calls = [call for call in night.calls if getattr(call, "window", None) not in (None, *struck)]
        return [call for call in calls if hasattr(call, "gang")]

    while night.run(stop=fresh) and (calls := fresh()):
        struck.add(calls[0].window)
        night.lose(calls[0].gang, failure)
    night.check_end(["1"])
    assert len(struck) > 2 * CLASSES[name].limit and not failures(night, "1")


def test_lost_nodes_of_eight_gpus_each_fail_no_shot_of_thirteen_windows():
    shot, gangs = shot_task("s", 13), [f"denoise-{k}" for k in range(16)]
    others = [each for each in workers() if each.role != "denoise"]
    staff = [Hired(gang, "denoise", 1, f"node {k // 8}") for k, gang in enumerate(gangs)]
    night = night_of(film("1", shot), staff=[*others, *staff])
    for node in (0, 1, 0):
        night.run(stop=lambda: len(night.state.predicting) == 13)
        for gang in gangs[8 * node : 8 * node + 8]:
            night.lose(gang, LOST)
        while night.hires:
            night.hire()
        assert not night.ended
    night.run().check_end(["1"])
    assert not failures(night, "1")


def test_a_piece_that_takes_one_node_after_another_with_it_is_given_up():
    shot = shot_task("s")
    night = night_of(film("1", shot))
    for _ in range(CLASSES["NODE_LOST"].limit):
        assert not night.ended
        night.run(stop=lambda: night.state.predicting)
        (gang,) = night.state.predicting.values()
        night.lose(gang, LOST)
    night.run().check_end(["1"])
    assert {found.error_class for found in failures(night, "1")} == {"NODE_LOST"}
