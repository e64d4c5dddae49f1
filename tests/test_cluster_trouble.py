"""Claims about trouble: each way from one state of a task to another has a test, named by what it claims."""

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.classes import CLASSES, gives_up, wait_s
from cluster.dispatch import Limits
from cluster.events import (
    Budgeted,
    Draining,
    Drop,
    Ended,
    FilmDone,
    Held,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Ranked,
    Replace,
    Resumed,
    Run,
    Ticked,
)
from cluster.events import Fared as Timed
from cluster.hosts import FORGIVEN_S
from cluster.loop import render
from cluster.outcomes import Failure, Outcome
from cluster.state import Blame
from engine.parallel.axes import ALONE
from manifests.store import open_store
from tests.night import (
    Night,
    film,
    first,
    is_call,
    is_predicting,
    night_of,
    results_of,
    shot_task,
    worker_of,
    workers,
)


def failures(night, row="1"):
    return {result for result in results_of(night, row).values() if isinstance(result, Failure)}


def encoding(call):
    return is_call(Run, "prompt")(call)


def struck(night, name, times=1, key=None):
    """A task's calls raise, the first text's unless it is named."""
    key, test = key or first(night, encoding).task.key, encoding
    for _ in range(times):
        night.run(stop=lambda: first(night, lambda call: call.task.key == key and test(call)))
        night.raise_at(first(night, lambda call: call.task.key == key and test(call)), name=name)
    return key


# Errors of every class.

TRIES = {"TRANSIENT": 8, "SHARED": 20, "GPU_OOM": 4, "HOST_OOM": 3, "GPU_FAULT": 5, "NODE_LOST": 10}
TRIES |= {"DISK_FULL": 3}
TRIES |= dict.fromkeys(("USER", "DATA", "POISON"), 1) | dict.fromkeys(("TIMEOUT", "BUG", "QUALITY"), 2)


@pytest.mark.parametrize(("name", "tries"), TRIES.items())
def test_a_task_fails_at_the_last_try_of_its_class_and_not_before(name, tries):
    night = night_of(film("1", shot_task("s")))
    key = struck(night, name, tries - 1) if tries > 1 else first(night, encoding).task.key
    assert "1" not in night.ended and night.state.wants(key)
    night.run(stop=lambda: first(night, lambda call: call.task.key == key))
    night.raise_at(first(night, lambda call: call.task.key == key), name=name)
    night.run().check_end(["1"])
    assert failures(night) == {Failure("E900_RENDER", "raised", "", name)}


def test_a_task_that_is_preempted_is_tried_for_ever():
    night = night_of(film("1", shot_task("s")))
    struck(night, "PREEMPTED", 50)
    night.run().check_end(["1"])
    assert not failures(night)


def test_charged_errors_of_different_classes_add_up_and_uncharged_ones_do_not():
    night = night_of(film("1", shot_task("s")), max_tries=3)
    key = first(night, encoding).task.key
    for name in ("BUG", "TRANSIENT", "GPU_FAULT", "TIMEOUT"):
        struck(night, name, key=key)
    assert "1" not in night.ended
    struck(night, "HOST_OOM", key=key)
    assert night.run().ended.keys() == {"1"} and failures(night)


CHARGED = {"USER", "DATA", "GPU_OOM", "HOST_OOM", "DISK_FULL", "TIMEOUT", "QUALITY", "POISON", "BUG"}
WAITED = {"TRANSIENT", "SHARED", "STORE_FULL", "HOST_OOM", "DISK_FULL"}
BLAMING = {"HOST_OOM", "DISK_FULL", "GPU_FAULT", "TIMEOUT", "BUG"}
OF_ALL = {"SHARED", "STORE_FULL"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_error_of_each_class_is_charged_waited_for_and_blamed_as_its_rule_says(name):
    made = film("1", shot_task("s"))
    few = night_of(made, max_tries=1)
    struck(few, name)
    assert ("1" in few.ended) == (name in CHARGED), "charged errors alone come out of a task's tries"
    night = night_of(made, max_tries=99)
    key = struck(night, name)
    if TRIES.get(name) != 1:
        assert (key in night.state.waiting) == (name in WAITED)
    assert bool(night.state.blamed) == (name in BLAMING)
    assert night.state.held == (name in OF_ALL)
    assert name in TRIES.keys() | {"PREEMPTED", "STORE_FULL"}, "its limit has no test"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_workers_lost_to_a_charged_error_count_for_the_whole_shot_and_others_for_each_piece_of_it(name):
    shot, failure = shot_task("s", 13), Failure("E9", "lost", "", name)
    night, pieces = night_of(film("1", shot), max_tries=99), set()

    def fresh():
        return first(night, lambda call: is_predicting(shot)(call) and call.window not in pieces)

    while night.run(stop=fresh) and (call := fresh()):
        pieces.add(call.window)
        night.lose(call.gang, failure)
    night.check_end(["1"])
    counts = CHARGED - {"TIMEOUT"} | {each for each, tries in TRIES.items() if tries == 1}
    assert {found.error_class for found in failures(night)} == ({name} if name in counts else set())
    assert len(pieces) == (TRIES[name] if name in counts else 26)


@given(st.sampled_from(sorted(CLASSES)), st.integers(1, 40), st.text(max_size=8))
def test_a_wait_doubles_up_to_its_longest_and_is_spread_over_its_upper_half(name, n, key):
    full = min(CLASSES[name].wait_s * 2 ** (n - 1), CLASSES[name].longest_s)
    assert full / 2 <= wait_s(name, n, key) <= full
    assert wait_s(name, n, key) == wait_s(name, n, key)


def test_tasks_that_were_struck_together_do_not_come_back_together():
    waits = {wait_s("TRANSIENT", 4, f"task {k}") for k in range(100)}
    assert len(waits) == 100 and min(waits) < 5 and max(waits) > 7


@given(st.dictionaries(st.sampled_from(sorted(CLASSES)), st.integers(1, 30), min_size=1), st.data())
def test_one_error_more_never_makes_a_task_that_was_given_up_good_again(strikes, data):
    name = data.draw(st.sampled_from(sorted(strikes)))
    if gives_up(strikes, name, 4):
        assert gives_up(strikes | {name: strikes[name] + 1}, name, 4)


def test_a_job_ends_where_its_store_stays_full_and_no_film_is_tried_to_death():
    night = night_of(film("1", shot_task("s")), film("2", shot_task("t", prompt="another")), max_films=1)
    struck(night, "STORE_FULL", 3)
    assert not night.ended
    night.run(stop=lambda: first(night, encoding))
    night.raise_at(first(night, encoding), name="STORE_FULL")
    assert night.state.closing == night.state.ruin and night.state.ruin.error_class == "STORE_FULL"
    night.run().check_end(["1", "2"])
    for row in ("1", "2"):
        assert {failure.error_class for failure in failures(night, row)} == {"STORE_FULL"}


def test_patience_scales_every_wait_and_without_it_a_task_stands_in_line_at_once():
    waits = []
    for patience in (1.0, 0.5, 0.0):
        night = night_of(film("1", shot_task("s")), patience=patience)
        night.clock = 10.0
        night.tell(Ticked(night.clock))
        night.raise_at(first(night, encoding), name="TRANSIENT")
        waits.append([until - 10.0 for until in night.state.waiting.values()])
    (whole,), (half,), none = waits
    assert half == pytest.approx(whole / 2) and none == [] and first(night, encoding)


# Waiting, and what all share.


def test_a_task_that_waits_does_not_keep_its_worker():
    night = night_of(film("1", shot_task("s")), film("2", shot_task("t", prompt="another")))
    struck(night, "TRANSIENT")
    assert first(night, encoding), "the encoder has the next text"


def test_a_task_is_tried_again_when_its_wait_is_over_and_not_before():
    night = night_of(film("1", shot_task("s")), staff=workers(encoders=2))
    key = struck(night, "TRANSIENT")
    (until,) = night.state.waiting.values()
    night.clock = until - 0.001
    night.tell(Ticked(night.clock))
    assert not first(night, lambda call: call.task.key == key)
    night.clock = until
    night.tell(Ticked(night.clock))
    assert first(night, lambda call: call.task.key == key)


def test_a_clock_that_jumps_back_neither_wakes_nor_delays_anything():
    night = night_of(film("1", shot_task("s")))
    night.tell(Ticked(100.0))
    night.tell(Ticked(-5.0))
    assert night.state.now_s == 100.0


def test_an_error_of_what_all_share_stops_all_work_for_its_wait():
    night = night_of(film("1", shot_task("s")), film("2", shot_task("t", prompt="another")))
    struck(night, "SHARED")
    assert not night.calls and night.state.held
    night.run().check_end(["1", "2"])
    assert not failures(night) and not failures(night, "2")


# Lost workers.


def test_a_lost_worker_is_uncharged_and_its_task_begins_again_at_once():
    night = night_of(film("1", shot_task("s")), staff=workers(encoders=2))
    call = first(night, encoding)
    night.lose(call.worker)
    assert not night.state.strikes.get(call.task.key)
    night.run().check_end(["1"])
    assert not failures(night)


def test_a_worker_that_died_of_a_known_cause_is_counted_by_its_class_and_not_as_poison():
    shot = shot_task("s")
    night = night_of(film("1", shot))
    for _ in range(CLASSES["HOST_OOM"].limit):
        night.run(stop=lambda: first(night, is_predicting(shot)))
        gang = first(night, is_predicting(shot)).gang
        night.count(shot.key, "HOST_OOM")
        del night.living[gang]
        night.calls = [call for call in night.calls if getattr(call, "gang", "") != gang]
        night.tell(Lost(gang, Failure("E922_HOST_OOM", "no memory left", "", "HOST_OOM")))
    night.run().check_end(["1"])
    assert {failure.code for failure in failures(night)} == {"E922_HOST_OOM"}


def test_a_worker_lost_to_a_failed_gpu_counts_against_its_host_and_one_lost_with_its_node_against_nothing():
    fault = Failure("E923_GPU_FAULT", "the GPU failed", "", "GPU_FAULT")
    node = Failure("E912_NODE_LOST", "lost with its node", "", "NODE_LOST")
    shot = shot_task("s")
    night = night_of(film("1", shot), max_losses=1)
    for failure in (fault, node):
        night.run(stop=lambda: first(night, is_predicting(shot)))
        gang = first(night, is_predicting(shot)).gang
        host = night.state.workers[gang].host
        night.lose(gang, failure)
        assert night.state.blamed[host] == (Blame(gang, frozenset({shot.key})),)
    night.run().check_end(["1"])
    assert not failures(night)


# Hosts.


def farm(n):
    """Encoders and all other roles, each on a host of its own."""
    return [Hired(f"encode-{k}", "encode", 1, f"host-{k}") for k in range(n)] + [
        Hired(each.worker, each.role, each.capacity, f"{each.worker}'s")
        for each in workers()
        if each.role != "encode"
    ]


def at_host(night, host, name):
    """A call on this host raises; answers the key of its task."""
    worker = f"encode-{host.removeprefix('host-')}"
    call = first(night, lambda call: isinstance(call, Run) and call.worker == worker)
    assert call is not None
    night.raise_at(call, name=name)
    return call.task.key


def test_a_task_that_fails_on_several_hosts_takes_its_errors_back_and_one_on_a_single_host_does_not():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(2)]
    night = night_of(*films, staff=farm(2), max_films=2)
    key = first(night, encoding).task.key
    for _ in range(CLASSES["BUG"].limit):
        night.run(stop=lambda: first(night, lambda call: call.task.key == key and encoding(call)))
        night.raise_at(first(night, lambda call: call.task.key == key), name="BUG")
    assert len(night.ended) == 1 and not night.state.blamed
    alone = night_of(films[0], staff=farm(1), max_films=2)
    struck(alone, "BUG", 2)
    assert len(alone.ended) == 1 and alone.state.blamed


def test_a_task_that_failed_on_an_idle_host_waits_for_a_busy_one_where_there_is_one():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(2)]
    night = night_of(*films, staff=farm(2), max_films=2)

    def waiting(host):
        return first(night, lambda call: encoding(call) and call.worker == f"encode-{host}")

    held = waiting(1).task.key
    while (call := waiting(0)) is not None:  # its negative prompt, too, until nothing is left but what failed
        failed = call.task.key
        night.raise_at(call, name="GPU_FAULT")
        assert waiting(0) is None or waiting(0).task.key != failed, "tried again where it failed"
    assert waiting(1).task.key == held
    night.run().check_end(made.row_id for made in films)


def test_a_host_is_blocked_after_errors_of_several_tasks_and_forgiven_after_hours():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(16)]
    night = night_of(*films, staff=farm(8), max_films=16, max_tries=9)
    for _ in range(3):
        at_host(night, "host-3", "GPU_FAULT")
    assert set(night.state.blocked) == {"host-3"}
    assert not any(getattr(call, "worker", "") == "encode-3" for call in night.calls)
    night.clock = FORGIVEN_S - 1
    night.tell(Ticked(night.clock))
    assert night.state.blocked
    night.clock = FORGIVEN_S + 1
    night.tell(Ticked(night.clock))
    assert not night.state.blocked
    night.run().check_end(made.row_id for made in films)


def test_errors_of_one_task_alone_block_no_host():
    night = night_of(film("1", shot_task("s")), staff=farm(8), max_tries=9)
    key = first(night, encoding).task.key
    for _ in range(4):
        night.run(stop=lambda: first(night, lambda call: call.task.key == key), skip=lambda call: True)
        night.raise_at(first(night, lambda call: call.task.key == key), name="GPU_FAULT")
    assert not night.state.blocked


def test_never_more_than_a_fifth_of_the_hosts_is_blocked_nor_the_last_of_a_role():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(8)]
    night = night_of(*films, staff=farm(6), max_films=8, max_tries=99)
    hosts = len({worker.host for worker in night.state.workers.values()})
    for host in ("host-0", "host-1", "host-2", "host-3", "host-4", "host-5"):
        for _ in range(3):
            worker = f"encode-{host[-1]}"
            if first(night, lambda call, worker=worker: getattr(call, "worker", "") == worker):
                at_host(night, host, "GPU_FAULT")
    assert 1 <= len(night.state.blocked) <= hosts / 5
    night.run().check_end(made.row_id for made in films)


def test_a_task_that_ends_well_clears_its_host():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(8)]
    night = night_of(*films, staff=farm(8), max_films=8, max_tries=9)
    at_host(night, "host-3", "GPU_FAULT")
    assert "host-3" in night.state.blamed
    night.answer(first(night, lambda call: getattr(call, "worker", "") == "encode-3"))
    assert "host-3" not in night.state.blamed


FAULT = Failure("E923_GPU_FAULT", "the GPU failed", "", "GPU_FAULT")


def with_bad_gpu(hosts, gpus, n_films, stages):
    """Films on hosts of so many GPUs, of which the first fails at whatever it is given; how often it did."""
    made = [film(str(k), shot_task(f"s{k}", 3)) for k in range(n_films)]
    gangs = [Hired(f"denoise-{k}", "denoise", 1, f"host-{k // gpus}") for k in range(hosts * gpus)]
    others = [
        Hired(f"{role}-{k}", role, 8 if role == "conduct" else 1, f"host-{k}" if stages else f"{role}-{k}'s")
        for role in ("encode", "conduct", "decode", "finish")
        for k in range(hosts)
    ]
    night, faults = night_of(*made, staff=[*others, *gangs], max_films=12, max_canvases=12), 0

    def bad():
        return first(night, lambda call: isinstance(call, Predict) and call.gang == "denoise-0")

    while not night.state.blocked and night.state.films:
        events = count()  # in which everybody else does well
        night.run(stop=lambda events=events: next(events) >= 60, skip=lambda call: call is bad())
        if bad() and not night.state.blocked:
            night.lose("denoise-0", FAULT)
            night.hire()
            faults += 1
    return night, faults


@pytest.mark.parametrize(("gpus", "stages"), [(1, False), (1, True), (8, True)])
def test_a_bad_gpu_is_left_alone_after_three_faults_whatever_else_works_on_its_host(gpus, stages):
    night, faults = with_bad_gpu(10, gpus, 40, stages)
    assert set(night.state.blocked) == {"host-0"} and faults == 3
    night.run(stop=lambda: not night.state.films)
    assert not any(failures(night, row) for row in night.ended)


def test_errors_of_long_ago_block_no_host():
    films = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(16)]
    night = night_of(*films, staff=farm(8), max_films=16, max_tries=9)
    for hours in (0, 1, 6):  # of which the first two are forgotten by then
        night.clock = 3600.0 * hours
        night.tell(Ticked(night.clock))
        at_host(night, "host-3", "GPU_FAULT")
        assert not night.state.blocked
    assert [blame.at_s for blame in night.state.blamed["host-3"]] == [21600.0]


def test_a_gang_that_predicts_a_window_is_trusted_again_and_another_on_its_host_clears_it_of_nothing():
    shot = shot_task("s", 3)
    gangs = [Hired(f"denoise-{k}", "denoise", 1, "one host") for k in range(2)]
    night = night_of(film("1", shot), staff=[*(w for w in workers() if w.role != "denoise"), *gangs])
    night.run(stop=lambda: len(night.state.predicting) == 2)
    night.lose("denoise-0", FAULT)
    night.hire()
    night.answer(first(night, is_predicting(shot)))
    assert [blame.worker for blame in night.state.blamed["one host"]] == ["denoise-0"]
    night.run(stop=lambda: first(night, lambda call: getattr(call, "gang", "") == "denoise-0"))
    night.answer(first(night, lambda call: getattr(call, "gang", "") == "denoise-0"))
    assert not night.state.blamed


# Orders, budgets and the breaker.


def test_a_held_job_begins_nothing_and_finishes_what_is_under_way():
    night = night_of(film("1", shot_task("s")))
    night.held.add("a person")
    night.tell(Held("a person"))
    under_way = len(night.calls)
    for call in list(night.calls):
        night.answer(call)
    assert under_way and not night.calls and "1" not in night.ended
    night.resume()
    assert night.calls
    night.run().check_end(["1"])


def test_a_job_held_for_two_reasons_goes_on_when_both_have_passed():
    night = night_of(film("1", shot_task("s")))
    night.tell(Held("a person"))
    night.tell(Held("a deadline"))
    night.tell(Resumed("a person"))
    assert night.state.held
    night.tell(Resumed("a deadline"))
    assert not night.state.held


def test_a_film_that_is_ended_fails_with_the_order_and_others_go_on():
    shared = shot_task("shared", 2)
    night = night_of(film("1", shared), film("2", shared, crf=30))
    night.run(stop=lambda: first(night, is_predicting(shared)))
    night.cut.add("1")
    night.tell(Ended(frozenset({"1"}), Failure("E930_CANCELLED", "by a person")))
    assert {failure.code for failure in failures(night)} == {"E930_CANCELLED"}
    night.run().check_end(["1", "2"])
    assert not failures(night, "2")
    assert Counter(type(a) for a in night.log)[Open] == 1, "the shot that both needed was not disturbed"


def test_a_film_that_is_ended_keeps_what_was_done():
    night = night_of(film("1", shot_task("s"), langs=("hi",)))
    night.run(stop=lambda: first(night, is_call(Run, "hi")))
    night.cut.add("1")
    night.tell(Ended(frozenset({"1"}), Failure("E930_CANCELLED", "by a person")))
    results = results_of(night, "1")
    assert sum(isinstance(result, Outcome) for result in results.values()) >= 4


def test_a_job_that_is_ended_takes_on_no_film():
    night = night_of(film("1", shot_task("s")), max_films=1)
    night.cut |= {"1", "2"}
    night.tell(Ended(None, Failure("E930_CANCELLED", "by a person")))
    night.films.append(film("2", shot_task("t")))
    night.admit()
    assert night.ended.keys() == {"1", "2"}
    assert {failure.code for failure in failures(night, "2")} == {"E930_CANCELLED"}


def test_over_the_budget_the_job_ends_as_soon_as_time_passes():
    shot = shot_task("s", 3)
    night = night_of(film("1", shot), budget_gpu_s=25.0)
    night.run(stop=lambda: first(night, is_predicting(shot)))
    night.cut.add("1")
    for _ in range(3):
        call = first(night, lambda call: isinstance(call, Predict))
        assert "1" not in night.ended
        night.calls.remove(call)
        night.predicted.setdefault((call.window.opening, call.window.step), set()).add(call.window.part)
        night.tell(Predicted(call.gang, call.window, Timed(10.0, "cpu", ALONE)))
        night.tell(Ticked(0.0, night.state.spent_gpu_s + 10.0))
    assert night.state.spent_gpu_s == 30.0
    (failure,) = failures(night)
    assert failure.code == "E940_BUDGET" and "30 of 25 GPU-seconds" in failure.message


def test_a_budget_that_is_raised_in_time_lets_the_job_go_on():
    night = night_of(film("1", shot_task("s")), budget_gpu_s=1.0)
    night.tell(Budgeted(100.0))
    assert night.state.limits.budget_gpu_s == 100.0
    night.run().check_end(["1"])


def broken(n_films, n_bad, **limits):
    """A night of which the first films fail at once."""
    made = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(n_films)]
    night = night_of(*made, max_films=n_films, **limits)
    night.cut |= {row.row_id for row in made}  # a breaker's work
    for k in range(n_bad):

        def bad(call, text=f"prompt {k}"):
            return getattr(call.task, "text", "") == text

        night.run(stop=lambda bad=bad: first(night, bad))
        night.raise_at(first(night, bad), name="DATA")
    return night


def test_the_breaker_ends_a_job_of_which_too_many_films_fail():
    night = broken(6, 3, breaker_films=3, breaker_share=0.5)
    codes = {row: {f.code for f in failures(night, row)} for row in night.ended}
    assert len(codes) == 6 and list(codes.values()).count({"E900_RENDER"}) == 3
    assert {"E941_BREAKER"} in codes.values()


def test_the_breaker_leaves_a_job_alone_of_which_some_films_fail():
    night = broken(6, 2, breaker_films=3, breaker_share=0.5).run()
    assert sum(bool(failures(night, row)) for row in night.ended) == 2
    never = broken(6, 5, breaker_films=0).run()
    assert sum(bool(failures(never, row)) for row in never.ended) == 5


def test_the_first_films_end_before_any_other_begins():
    made = [film(str(k), shot_task(f"s{k}", prompt=f"prompt {k}")) for k in range(5)]
    night = night_of(*made[:3], canary_films=3, max_films=8)
    assert night.state.room == 0
    night.run(stop=lambda: night.ended)
    assert len(night.state.films) == 2 and night.state.room == 0, "no other takes its place"
    night.run()
    assert night.state.room == 8


def test_no_more_of_the_first_films_are_under_way_at_once_than_of_others():
    assert night_of(film("0", shot_task("s")), canary_films=20, max_films=8).state.room == 7


def test_a_late_report_of_an_error_changes_nothing():
    night = night_of(film("1", shot_task("s")), staff=workers(encoders=2))
    call = first(night, encoding)
    night.lose(call.worker)
    before = night.state
    night.tell(Raised(call.task.key, call.worker, Failure("E900_RENDER", "late")))
    assert night.state == before
    assert [action for action in night.log if isinstance(action, Replace)] == [Replace(call.worker)]


def test_a_film_ends_once_however_often_it_is_ended():
    night = night_of(film("1", shot_task("s")))
    night.cut.add("1")
    for _ in range(2):
        night.tell(Ended(frozenset({"1"}), Failure("E930_CANCELLED", "by a person")))
    assert [type(action) for action in night.log].count(FilmDone) == 1


# Urgency, hosts that go, and less memory.


def test_a_film_that_becomes_urgent_goes_first_with_what_it_waits_for():
    old, young = shot_task("old", 3), shot_task("young", 3)
    night = night_of(film("old", old), film("young", young))
    night.run(stop=lambda: len(night.state.queue) >= 5)
    night.tell(Ranked(frozenset({"young"}), 10))
    assert night.state.queue[0].shot == young.key
    night.run().check_end(["old", "young"])
    assert list(night.ended) == ["young", "old"]


def test_a_shot_that_two_films_share_is_as_urgent_as_the_more_urgent_of_them():
    first_shot, shared = shot_task("first", 2), shot_task("shared", 2, prompt="another")
    night = night_of(film("1", first_shot), film("2", shared), film("3", shared, crf=30))
    night.tell(Ranked(frozenset({"3"}), 5))
    ranks = night.state.ranks
    assert ranks[shared.key] < ranks[first_shot.key]
    night.run().check_end(["1", "2", "3"])


def test_a_host_that_is_about_to_go_is_emptied_and_gets_nothing_new():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot), staff=workers(gangs=2, conductors=2))
    night.run(stop=lambda: first(night, is_predicting(shot)))
    conductor = night.canvases[shot.key].conductor
    host = night.state.workers[conductor].host
    night.tell(Draining(host))
    drops = [action for action in night.log if isinstance(action, Drop)]
    assert [(drop.conductor, drop.save) for drop in drops] == [(conductor, True)]
    gone = [name for name, worker in night.state.workers.items() if worker.host == host]
    for call in [call for call in night.calls if worker_of(call) in gone and isinstance(call, Predict)]:
        night.answer(call)
    assert not [call for call in night.calls if worker_of(call) in gone]
    for name in gone:
        night.staff[name] = replace(night.staff[name], host="another")
        night.lose(name)
    night.run().check_end(["1"])
    assert not failures(night)
    assert not night.died, "no work was lost"


def test_the_only_conductor_is_replaced_at_once_where_its_host_is_about_to_go_and_its_shots_go_on():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot))
    night.run(stop=lambda: first(night, is_predicting(shot)))
    conductor = night.canvases[shot.key].conductor
    night.tell(Draining(night.living[conductor].host))
    told = [action for action in night.log if isinstance(action, (Drop, Replace))]
    assert isinstance(told[0], Drop) and told[0].save and Replace(conductor) in told[1:]
    night.begin()
    assert night.living[conductor].host not in night.state.draining and shot.key in night.canvases


@pytest.mark.parametrize("role", ["encode", "decode", "finish"])
def test_the_only_worker_of_a_role_ends_what_it_is_at_and_is_replaced_where_its_host_is_to_go(role):
    night = night_of(film("1", shot_task("s")))
    night.run(stop=lambda: first(night, lambda call: worker_of(call).startswith(role)))
    call = first(night, lambda call: worker_of(call).startswith(role))
    night.tell(Draining(night.living[call.worker].host))
    assert Replace(call.worker) not in night.log, "it has something to do"
    night.answer(call)
    assert Replace(call.worker) in night.log
    night.run().check_end(["1"])
    assert not failures(night)


def test_after_its_memory_ran_out_a_shot_is_tried_with_its_weights_further_away_and_never_the_same_again():
    def predicting(call):
        return isinstance(call, Predict)

    shot = shot_task("s")
    night = night_of(film("1", shot))
    for _ in range(2):
        night.run(stop=lambda: first(night, predicting))
        night.raise_at(first(night, predicting), name="GPU_OOM")
    night.run().check_end(["1"])
    opened = [action.task for action in night.log if isinstance(action, Open)]
    assert [task.model.offload for task in opened] == ["", "memory", "disk"]
    assert {task.key for task in opened} == {shot.key}


# Films that depend on films.


def test_a_film_begins_only_when_all_that_it_depends_on_are_done_and_takes_no_room_till_then():
    made = [film(row, shot_task(row)) for row in ("a", "b", "other")]
    night = night_of(*made[:2], film("c", shot_task("c"), depends_on=["a", "b"]), made[2], max_films=3)
    assert set(night.state.films) == {"a", "b", "other"} and set(night.state.later) == {"c"}
    night.run(stop=lambda: "a" in night.ended)
    assert set(night.state.later) == {"c"}
    night.run(stop=lambda: "b" in night.ended)
    assert "c" in night.state.films and not night.state.later
    night.run().check_end(["a", "b", "c", "other"])
    assert not failures(night, "c")


def test_a_film_is_not_tried_if_one_that_it_depends_on_fails_and_says_which_as_does_all_that_follows():
    night = night_of(
        film("a", shot_task("s")),
        film("b", shot_task("t", prompt="another"), depends_on=["a"]),
        film("c", shot_task("u", prompt="a third"), depends_on=["b"]),
        breaker_films=2,
        breaker_share=0.0,
    )
    struck(night, "DATA")
    night.run().check_end(["a", "b", "c"])
    (b,), (c,) = failures(night, "b"), failures(night, "c")
    assert (b.code, b.error_class) == (c.code, c.error_class) == ("E932_UPSTREAM", "UPSTREAM")
    assert "'a'" in b.message and "E900_RENDER" in b.message and "'b'" in c.message
    assert night.state.failed == 1, "what was not tried is no sign that something is broken"
    begun = [action.task for action in night.log if isinstance(action, Run)]
    assert {getattr(task, "text", "") for task in begun} == {"a prompt"}, (
        "a film that is not tried asks for nothing"
    )


def test_a_film_does_not_wait_for_the_others_once_one_that_it_depends_on_has_failed():
    made = (film("a", shot_task("s")), film("b", shot_task("t", prompt="another")))
    night = night_of(*made, film("c", shot_task("u"), depends_on=["a", "b"]))
    struck(night, "DATA")
    assert night.ended.keys() == {"a", "c"}


def test_a_film_that_depends_on_a_row_that_is_not_made_fails_when_it_is_drawn():
    night = night_of(film("c", shot_task("s"), depends_on=["faulty"]))
    assert {failure.code for failure in failures(night, "c")} == {"E932_UPSTREAM"}
    assert not any(isinstance(action, Run) for action in night.log)


def test_a_film_that_was_done_before_is_done_whatever_becomes_of_those_that_it_depends_on():
    before = night_of(film("b", shot_task("t"))).run()
    night = Night([film("b", shot_task("t"), depends_on=["faulty"])], workers(), Limits())
    night.store = before.store
    night.begin().check_end(["b"])
    assert not failures(night, "b")


def test_a_film_that_waits_ends_when_it_or_the_job_is_ordered_to():
    for rows in (frozenset({"b"}), None):
        night = night_of(film("a", shot_task("s")), film("b", shot_task("t"), depends_on=["a"]))
        night.cut |= {"a", "b"}
        night.tell(Ended(rows, Failure("E931_SKIPPED", "by a person", "", "SKIPPED")))
        assert "b" in night.ended and not night.state.later
        assert {failure.code for failure in failures(night, "b")} == {"E931_SKIPPED"}
        assert night.run().ended.keys() == {"a", "b"}


def test_a_film_that_is_made_once_more_has_those_that_depend_on_it_wait_again():
    night = night_of(film("a", shot_task("s")), film("b", shot_task("t"), depends_on=["a"]))
    struck(night, "DATA")
    assert night.ended.keys() == {"a", "b"}
    night.ended.clear()
    night.films += [film("a", shot_task("s")), film("b", shot_task("t"), depends_on=["a"])]
    night.begin()
    assert set(night.state.later) == {"b"}
    night.run()
    assert not failures(night, "a") and not failures(night, "b")


def test_no_more_films_are_drawn_while_very_many_wait():
    night = night_of(film("a", shot_task("s")), max_films=500)
    night.state = replace(night.state, awaited=frozenset({"a"}))
    for k in range(256):
        assert night.state.room > 0
        night.take(film(f"b{k}", shot_task("t"), depends_on=["a"]))
    assert night.state.room == 0
    assert len(night.run().ended) == 257
    assert night.state.room == 500


def test_films_that_wait_for_a_row_that_nobody_makes_end_when_nothing_else_is_left(tmp_path):
    def no_crew():
        raise AssertionError("nothing is to be rendered")

    films = [film("b", shot_task("s"), depends_on=["a row of another job"])]
    store = open_store(str(tmp_path / "out"))
    (done,) = render(films, no_crew, store, Limits(), lambda event, state: None)
    assert {result.code for result in done.results.values()} == {"E932_UPSTREAM"}


def test_more_urgent_films_get_the_gang_first():
    night = night_of(film("1", shot_task("a", 3)), film("2", shot_task("b", 3), priority=7)).run()
    assert list(night.ended) == ["2", "1"]
