"""Claims about trials of gangs: only where knowing saves more than it costs, only what nobody measured."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.choose import choose
from cluster.cost import estimate, measure_key, off_by, precision
from cluster.sharing import gangs_of
from cluster.trials import ERROR, MOST_S, RIVALS, START_S, WARM, gain, heaviest, trials
from engine.parallel.axes import ALONE
from tests.test_cluster_choose import EIGHT_80, machines, of, works

seconds = st.floats(1.0, 1e6)
errors = st.floats(0.01, 0.5)


def key_of(shape, axes, machine):
    size = (shape.frames, shape.height * shape.scale, shape.width * shape.scale)
    kind = precision(shape.dtype, shape.quantise, shape.compile)
    return measure_key(shape.digest, kind, size, shape.guided, axes, machine.gpu)


@settings(deadline=None)  # a busy machine may hold a case up
@given(seconds, seconds, errors, errors)
def test_what_knowing_saves_is_that_of_the_two_normal_times(first, second, of_first, of_second):
    spread = math.hypot(first * of_first, second * of_second)
    apart = abs(second - first)
    steps = 4000  # the second is faster by x, where x is normal about -apart
    grid = [spread * 8 * (2 * n / steps - 1) - apart for n in range(steps + 1)]
    density = [math.exp(-(((x + apart) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi)) for x in grid]
    saved = sum(max(0.0, x) * p for x, p in zip(grid, density, strict=True)) * 16 * spread / steps
    assert gain(first, second, of_first, of_second) == pytest.approx(saved, rel=1e-3, abs=1e-4 * spread)


@settings(deadline=None)  # a busy machine may hold a case up
@given(seconds, seconds, errors, errors, st.floats(1.0, 100.0))
def test_knowing_saves_no_less_of_a_longer_job_and_nothing_where_both_are_known(a, b, of_a, of_b, longer):
    saved = gain(a, b, of_a, of_b)
    assert 0 <= saved <= math.hypot(a * of_a, b * of_b)
    rounded = 1e-9  # seconds: where times lie far apart, a gain is the difference of two tiny numbers
    assert gain(longer * a, longer * b, of_a, of_b) >= saved * (1 - 1e-9) - rounded
    assert gain(a, b, 0.0, 0.0) == 0.0 and gain(a, b, of_a, 0.0) <= saved * (1 + 1e-9) + rounded


@settings(deadline=None)  # a busy machine may hold a case up
@given(works, machines, st.integers(1, 40))
def test_trials_are_of_the_cheapest_gangs_that_nobody_measured_and_cost_less_than_they_save(
    work, machine, open_shots
):
    choice = choose(work, work, machine, open_shots=open_shots)
    asked = trials(choice, work)
    cheapest = [one.axes for one in choice.candidates[:RIVALS]]
    assert set(one.axes for one in asked) <= set(cheapest) and len(asked) in (0, len(cheapest))
    if not asked:
        return
    cost_s = sum(one.seconds for one in asked)
    assert len(asked) * START_S < cost_s <= MOST_S
    assert cost_s < gain(*(one.seconds for one in choice.candidates[:2]), ERROR, ERROR)
    assert cost_s < ERROR * sum(one.seconds for one in choice.candidates[:2])  # so no short job has any
    shape = heaviest(work, choice.best.steps)
    known = {key_of(shape, axes, machine): choice.best.steps[shape].seconds for axes in cheapest}
    after = choose(work, work, machine, open_shots=open_shots, measured=known)
    assert [one.axes for one in trials(after, work)] == [
        one.axes for one in after.candidates[:2] if one.axes not in cheapest
    ] or not trials(after, work)


def test_a_night_of_films_has_its_gangs_tried_and_a_single_shot_or_a_settled_gang_has_not():
    night, shot = of("Wan2.1-14B", n_windows=3, n_shots=500), of("Wan2.1-14B")
    for work, machine, tried in (
        (night, replace(EIGHT_80, inside_gb_s=8.0), True),
        (shot, EIGHT_80, False),
        (night, replace(EIGHT_80, gpus=1), False),  # one gang is possible
    ):
        assert bool(trials(choose(work, work, machine, open_shots=4), work)) is tried


def test_the_windows_that_take_most_of_a_job_are_those_that_are_tried():
    large, small = of("Wan2.1-14B", n_shots=50), of("Wan2.1-1.3B", n_shots=60)
    work = large | small
    choice = choose(work, work, EIGHT_80, open_shots=4)
    assert {one.shape for one in trials(choice, work)} == {strand.shape for strand in large}


@settings(deadline=None)  # a busy machine may hold a case up
@given(st.floats(0.2, 5.0), machines)
def test_what_one_gang_shows_of_a_gpu_is_true_of_the_others(factor, machine):
    (strand,) = of("Wan2.1-1.3B")
    shape, gangs = strand.shape, gangs_of(machine.gpus, [strand.shape])
    known = {key_of(shape, ALONE, machine): factor * estimate(shape, ALONE, machine).seconds}
    assert off_by(shape, gangs, machine, known) == pytest.approx(factor)
    assert off_by(shape, gangs, machine, {}) == off_by(shape, gangs, machine, None) == 1.0
    choice = choose({strand: 9}, {strand: 1}, machine, open_shots=4, measured=known)
    plain = choose({strand: 9}, {strand: 1}, machine, open_shots=4)
    assert choice.best.axes == plain.best.axes
    assert choice.best.seconds == pytest.approx(factor * plain.best.seconds)
    assert (WARM, choice.best.steps[shape].measured) == (3, choice.best.axes == ALONE)
