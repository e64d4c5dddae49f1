"""Claims about several jobs on one cluster: nobody starves, nothing lies idle, and shares are as agreed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.events import Lost, Predict, Replace, Yielding
from cluster.outcomes import Failure
from cluster.shares import STALE_S, Change, Claim, Holding, Shares, allowed, rearranged, targets
from tests.night import film, night_of, shot_task, workers

CLAIMS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(Claim, st.sampled_from([0.5, 1.0, 2.0, 5.0]), st.integers(0, 20), st.integers(0, 20)),
    min_size=1,
)


@settings(deadline=None)
@given(CLAIMS, st.integers(0, 60))
def test_all_that_is_wanted_is_given_out_and_no_more(claims, ranks):
    found = targets(claims, ranks)
    assert found.keys() == claims.keys()
    assert all(0 <= found[job] <= claims[job].wants for job in claims)
    assert sum(found.values()) == min(ranks, sum(claim.wants for claim in claims.values()))


@settings(deadline=None)
@given(CLAIMS, st.integers(0, 60))
def test_a_job_that_wants_any_has_one_before_another_has_two(claims, ranks):
    found = targets(claims, ranks)
    if any(n >= 2 for n in found.values()):
        assert all(found[job] >= 1 for job, claim in claims.items() if claim.wants)


@settings(deadline=None)
@given(CLAIMS, st.integers(0, 60))
def test_no_job_that_wants_more_has_less_for_its_weight_than_another_by_more_than_one_rank(claims, ranks):
    found = targets(claims, ranks)
    for poor in [job for job in claims if found[job] < claims[job].wants]:
        for rich in [job for job in claims if job != poor and found[job] > 1]:
            assert (found[rich] - 1) / claims[rich].share <= found[poor] / claims[poor].share


@settings(deadline=None)
@given(CLAIMS, st.integers(0, 60))
def test_a_job_keeps_what_it_has_unless_another_wants_for_some(claims, ranks):
    for job in claims:
        others = [claim for other, claim in claims.items() if other != job]
        kept = allowed(claims, job, ranks)
        if all(claim.wants <= claim.has for claim in others):
            assert kept >= claims[job].has
        else:
            assert kept == targets(claims, ranks)[job]


def test_two_jobs_of_weights_one_and_three_settle_at_a_quarter_and_three_quarters():
    shares, has = Shares(), {"one": 8, "three": 0}
    for _ in range(10):
        for job, share in (("one", 1.0), ("three", 3.0)):
            free = 8 - sum(has.values())
            most = shares.tell(job, Claim(share, 8, has[job]), 8)
            has[job] = min(has[job], most) if most < has[job] else has[job] + min(free, most - has[job])
    assert has == {"one": 2, "three": 6}


def test_a_job_that_is_silent_or_has_left_has_no_share_any_more_by_the_clock_of_the_one_that_all_ask():
    now = [0.0]
    shares = Shares(clock=lambda: now[0])
    shares.tell("a", Claim(1.0, 8, 0), 8)
    now[0] = 1.0
    assert shares.tell("b", Claim(1.0, 8, 8), 8) == 4
    now[0] = STALE_S
    assert shares.tell("b", Claim(1.0, 8, 8), 8) == 8
    shares.tell("a", Claim(1.0, 8, 0), 8)
    assert shares.tell("b", Claim(1.0, 8, 8), 8) == 4
    shares.leave("a")
    assert shares.tell("b", Claim(1.0, 8, 8), 8) == 8


NAMES = st.frozensets(st.sampled_from([f"gang-{k}" for k in range(6)]))


@settings(deadline=None)
@given(NAMES, NAMES, NAMES, NAMES, st.integers(0, 8))
def test_gangs_go_and_come_back_until_there_are_as_many_as_allowed_and_one_at_least_stays(
    hired, yielding, forming, parked, most
):
    forming -= hired
    holding = Holding(hired, yielding & hired, forming, parked - hired - forming)
    change = rearranged(holding, most)
    staying = holding.hired - holding.yielding
    assert change.go <= staying and change.come <= holding.parked and change.stop <= holding.forming
    assert not (change.go or change.stop) or not change.come
    assert not change.go or change.stop == forming, "those at work stay before those that are on their way"
    after = len(staying - change.go) + len(forming - change.stop) + len(change.come)
    assert after == max(most, 1) or (after < max(most, 1) and change.come == holding.parked)


def test_none_comes_in_the_place_of_one_that_is_on_its_way():
    holding = Holding(frozenset({"gang-0"}), forming=frozenset({"gang-1"}), parked=frozenset({"gang-2"}))
    assert rearranged(holding, 2) == Change()
    assert rearranged(holding, 3) == Change(come=frozenset({"gang-2"}))


# What dispatch makes of it.


def predicting(night):
    return [call for call in night.calls if isinstance(call, Predict)]


def test_a_gang_that_is_to_be_given_up_ends_what_it_is_at_and_gets_nothing_new():
    night = night_of(film("1", shot_task("s", 3)), staff=workers(gangs=2))
    night.run(stop=lambda: len(predicting(night)) == 2)
    gang = predicting(night)[0].gang
    begun = len(night.log)
    night.tell(Yielding(gang))
    night.answer(predicting(night)[0])
    assert night.state.queue and gang not in [call.gang for call in predicting(night)]
    night.run().check_end(["1"])
    assert {action.gang for action in night.log[begun:] if isinstance(action, Predict)} == {"denoise-1"}


def test_when_it_is_gone_no_task_is_to_blame_and_another_of_its_name_works_as_ever():
    night = night_of(film("1", shot_task("s", 3)), staff=workers(gangs=2))
    night.run(stop=lambda: len(predicting(night)) == 2)
    gang = predicting(night)[0].gang
    night.tell(Yielding(gang))
    night.answer(predicting(night)[0])
    night.lose(gang, Failure("E913_GIVEN_UP", "another job has a right to it", "", "PREEMPTED"))
    assert not night.state.strikes and not night.state.losses and not night.state.yielding
    night.run().check_end(["1"])
    assert any(isinstance(action, Replace) and action.worker == gang for action in night.log)


def test_what_is_said_of_a_gang_that_is_gone_already_changes_nothing():
    night = night_of(film("1", shot_task("s")))
    before = night.state
    night.tell(Yielding("nobody"))
    night.tell(Lost("nobody"))
    assert night.state == before
