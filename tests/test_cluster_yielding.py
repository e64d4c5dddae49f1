"""Claims about jobs on one Ray cluster: they find the same actor, and none waits for another's answer."""

import time
from dataclasses import replace

import pytest
import ray

from cluster.crew import Setup
from cluster.shares import Change
from cluster.yielding import NAME, NAMESPACE, Part

SETUP = Setup("/store", "/identity", gangs=4)


@pytest.fixture
def part(ray_here):
    """Makes a job's part; the actor that all ask ends with the test."""
    yield lambda job, share=1.0: Part(replace(SETUP, job_id=job, share=share))
    ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))


def gangs(*numbers):
    return {f"gang-{number}" for number in numbers}


def until(happened, *looks):
    """Look again and again until something has happened; what each look said."""
    end_s = time.monotonic() + 60.0
    while time.monotonic() < end_s:
        said = [look() for look in looks]
        if happened(*said):
            return said
        time.sleep(0.05)
    pytest.fail("nothing happened for a minute")


def test_a_job_alone_keeps_all_and_gives_half_up_to_another_of_its_weight_and_takes_it_up_again(part):
    one, hired = part("one"), gangs(0, 1, 2, 3)
    until(lambda said: one.asked is not None, lambda: one.look(hired, hired))
    assert one.allowed == 4 and not one.holding.yielding
    other = part("other")
    until(lambda said, _: said.go == gangs(2, 3), lambda: one.look(hired, hired), lambda: other.look((), ()))
    assert one.emptied(hired) == [] and one.emptied(gangs(0, 1, 3)) == ["gang-2"]
    assert one.emptied(()) == ["gang-3"] and one.holding.parked == gangs(2, 3)
    other.leave()
    until(lambda said: said.come == gangs(2, 3), lambda: one.look(gangs(0, 1), gangs(0, 1)))
    assert not one.holding.parked


def test_a_gang_that_comes_after_the_question_is_not_given_up_by_the_answer(part):
    one = part("one")
    other = part("other", share=3.0)
    until(lambda _, __: one.allowed == 1, lambda: one.look(gangs(0), ()), lambda: other.look((), ()))
    assert one.look(gangs(0, 1, 2), gangs(0)) == Change()
    until(lambda said, _: said.go, lambda: one.look(gangs(0, 1, 2), gangs(0)), lambda: other.look((), ()))
    assert one.holding.yielding == gangs(1, 2), "the other wants three of four"


def test_a_job_that_begins_beside_others_forms_no_more_gangs_than_it_has_a_right_to(part):
    full, new, hired = part("full"), part("new"), gangs(0, 1, 2, 3)
    told = until(
        lambda said, _: said.stop,
        lambda: new.look((), (), hired - new.holding.parked),
        lambda: full.look(hired, hired),
    )
    assert told[0].stop == gangs(2, 3) == new.holding.parked and full.holding.yielding == gangs(2, 3)
    full.leave()
    until(lambda said: said.come == gangs(2, 3), lambda: new.look(gangs(0, 1), gangs(0, 1)))


def test_a_lone_job_forms_all_its_gangs_though_the_first_has_had_nothing_to_do_yet(part):
    one = part("one")
    for hired in ((0,), (0, 1), (0, 1, 2)):
        before = one.asked
        said = until(
            lambda _, before=before: one.asked is not before,
            lambda hired=hired: one.look(gangs(*hired), (), gangs(0, 1, 2, 3) - gangs(*hired)),
        )
        assert said == [Change()]


def test_a_job_of_few_gangs_keeps_them_beside_one_that_fills_the_cluster_and_a_lost_node_is_shared(part):
    few, fills = part("few"), part("fills")
    fills.most, few.room, fills.room = 12, 12, 12
    until(
        lambda _, __: few.asked is not None and fills.allowed == 8,
        lambda: few.look(gangs(*range(4)), gangs(*range(4))),
        lambda: fills.look(gangs(*range(8)), gangs(*range(8))),
    )
    assert few.allowed == 4
    few.room = fills.room = 6
    until(
        lambda _, __: (few.allowed, fills.allowed) == (3, 3),
        lambda: few.look(gangs(*range(3)), gangs(*range(3))),
        lambda: fills.look(gangs(*range(3)), gangs(*range(3))),
    )


def test_shares_are_by_weight_and_a_dead_actor_is_started_anew(part):
    light, heavy = part("light"), part("heavy", share=3.0)
    hired = gangs(0, 1, 2, 3)
    until(
        lambda said, _: said.go == gangs(1, 2, 3),
        lambda: light.look(hired, hired),
        lambda: heavy.look((), ()),
    )
    ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))
    before = heavy.actor
    until(lambda _: heavy.actor is not before, lambda: heavy.look((), ()))
    until(lambda _: heavy.allowed == 4, lambda: heavy.look((), ()))
