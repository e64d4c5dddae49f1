"""Claims about a cluster that grows and shrinks: a job has as many gangs as there is room for."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.crew import Setup
from cluster.pool import Pool
from cluster.shares import Change, Holding, rearranged

SETUP = Setup("/store", "/identity")


def pool_of(gangs, growing=True, part=None):
    return Pool(replace(SETUP, gangs=gangs), part, growing)


def names(*numbers):
    return frozenset(f"gang-{number}" for number in numbers)


def look(pool, room, going=()):
    """What is to come, where all others are at work."""
    hired = pool.names - set(going)
    return pool.look(room, going, hired, (), hired).come


def test_a_job_that_took_all_takes_what_comes_besides_and_once_only():
    pool = pool_of(2)
    assert look(pool, 2) == names()
    assert look(pool, 5) == names(2, 3, 4)
    assert look(pool, 5) == names()
    assert look(pool, 6) == names(5)


def test_a_job_of_so_many_gangs_as_were_asked_for_stays_with_them():
    assert look(pool_of(2, growing=False), 5) == names()


def test_a_gang_that_was_lost_with_its_node_is_replaced_and_takes_the_next_place_that_there_is():
    pool = pool_of(3)
    assert look(pool, 2) == names() and pool.keeps("gang-2")
    assert look(pool, 3) == names(), "that place is taken by the one that waits for it"


def test_where_another_node_comes_for_one_that_is_about_to_go_gangs_form_there_at_once():
    pool = pool_of(2)
    assert look(pool, 1, names(1)) == names(), "nothing has come yet"
    assert look(pool, 2, names(1)) == names(2)
    assert look(pool, 2, names(1)) == names()
    assert not pool.keeps("gang-1") and pool.names == names(0, 2), "its place is taken"
    assert pool.keeps("gang-2"), "it may die as well, and comes again"


def test_a_node_that_goes_without_another_in_its_stead_leaves_gangs_that_wait_for_one():
    pool = pool_of(2)
    look(pool, 1, names(1))
    assert pool.keeps("gang-1") and look(pool, 1) == names() and look(pool, 2) == names()


def test_stages_are_replaced_whatever_becomes_of_gangs():
    assert all(pool_of(1).keeps(worker) for worker in ("encode-0", "conduct-3"))


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_however_nodes_come_and_go_there_are_as_many_gangs_as_there_was_ever_room_for(first, looks):
    """Nodes with notice die before the next look, and lost gangs wait for a place."""
    pool, most = pool_of(first), first
    for room, n_going in looks:
        going = sorted(pool.names)[:n_going]
        come = look(pool, room, going)
        most = max(most, room)
        assert come <= pool.names and len(pool.names) - len(going) >= room
        for gang in going:
            pool.keeps(gang)
        assert len(pool.names) == most


class Shared:
    """A job's part, as others leave it."""

    def __init__(self, allowed):
        self.holding, self.allowed = Holding(frozenset()), allowed
        self.most = self.room = 0

    def look(self, hired, busy, forming):
        self.holding = replace(self.holding, hired=frozenset(hired), forming=frozenset(forming))
        change = rearranged(self.holding, self.allowed)
        self.holding = replace(self.holding, parked=self.holding.parked - change.come)
        return change

    def park(self, gangs):
        self.holding = replace(self.holding, parked=self.holding.parked | gangs)


def test_what_comes_besides_is_shared_with_other_jobs_and_is_taken_as_far_as_the_job_has_a_right_to_it():
    part = Shared(allowed=2)
    pool = pool_of(2, part=part)

    def turn(room, *hired):
        return pool.look(room, (), names(*hired), (), names(*hired))

    assert turn(6, 0, 1) == Change() and part.most == 6, "nobody has been asked yet"
    part.allowed = 4
    assert turn(6, 0, 1) == Change(come=names(2, 3)) and part.holding.parked == names(4, 5)
    assert not pool.keeps("gang-4") and pool.keeps("gang-2")
    part.allowed = 3
    assert turn(6, 0, 1, 2, 3) == Change(go=names(3))


def test_what_a_job_could_use_is_told_apart_from_what_there_is_room_for():
    part = Shared(allowed=4)
    pool_of(4, growing=False, part=part).look(12, (), names(0, 1, 2, 3), (), ())
    assert (part.most, part.room) == (4, 12), "four were asked for, and others have the rest"
    pool = pool_of(6, part=part)
    pool.look(2, (), names(0, 1), (), ())
    assert (part.most, part.room) == (6, 2), "it waits for a node in a lost one's place"
