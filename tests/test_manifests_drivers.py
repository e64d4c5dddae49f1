"""Claims about drivers of one job: one renders, others see it and leave, and the dead are not waited for."""

import os
import subprocess
import sys
import time

import pytest

from manifests.drivers import PATIENCE_S, Heart, beats, leave, me, rival_of
from manifests.ledger import claim_epoch
from manifests.store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def no_waiting(seconds):
    raise AssertionError("nobody is to be waited for")


def claim_of(store, epoch, **who):
    store.put_marker(f"jobs/night/driver/epoch-{epoch:06}.json", {"claim": "x"} | me() | who)


@pytest.fixture
def another():
    """A process of this host that lives, and how it is known."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open(f"/proc/{process.pid}/stat") as stat:
        started = stat.read().rpartition(")")[2].split()[19]
    yield {"pid": process.pid, "started": started}
    process.kill()
    process.wait()


def test_a_first_driver_has_no_rival(store):
    assert rival_of(store, "night", claim_epoch(store, "night"), no_waiting) is None


def test_a_second_driver_of_this_host_sees_the_first_at_once(store, another):
    claim_of(store, 1, **another)
    rival = rival_of(store, "night", claim_epoch(store, "night"), no_waiting)
    assert rival is not None and rival["pid"] == another["pid"]


def test_a_driver_that_was_killed_on_this_host_is_not_waited_for(store):
    claim_of(store, 1, pid=2**22 + 1, started="1")
    assert rival_of(store, "night", claim_epoch(store, "night"), no_waiting) is None


def test_another_process_with_the_number_of_a_dead_driver_is_none(store, another):
    claim_of(store, 1, **another | {"started": "1"})
    assert rival_of(store, "night", claim_epoch(store, "night"), no_waiting) is None


def test_a_driver_that_ended_or_left_is_no_rival_however_alive_its_process_is(store, another):
    claim_of(store, 1, **another)
    claim_of(store, 2, **another)
    store.put_marker("jobs/night/ended/000001.json", {"status": "done"})
    leave(store, "night", 2, {})
    assert rival_of(store, "night", claim_epoch(store, "night"), no_waiting) is None


def other_host(monkeypatch, name="far"):
    monkeypatch.setattr("manifests.drivers.platform.node", lambda: name)


def test_a_driver_of_another_host_is_a_rival_if_it_beats_while_one_waits(store, monkeypatch):
    claim_of(store, 1, host="far")
    heart = Heart(store, "night", 1, clock=iter(range(0, 1000, 5)).__next__)
    with monkeypatch.context() as there:
        other_host(there)
        heart.beat()

    def a_while(seconds):
        assert seconds == PATIENCE_S
        with monkeypatch.context() as there:
            other_host(there)
            heart.beat()

    rival = rival_of(store, "night", 2, a_while)
    assert rival is not None and rival["host"] == "far"
    assert rival_of(store, "night", 2, lambda seconds: None) is None, "it has died since"


def test_a_driver_that_waits_for_a_dead_one_is_itself_waited_for_so_long_that_it_can_begin(store):
    claim_of(store, 1, host="dead")
    claim_of(store, 2, host="waiting")
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:  # the second driver has found the first to be dead, and renders
            Heart(store, "night", 2).beat()

    assert rival_of(store, "night", 3, sleep) is not None and waits == [PATIENCE_S] * 2


def test_only_the_last_driver_that_rendered_and_later_claims_are_waited_for(store):
    for epoch in (1, 2, 3):  # each was killed, and the next took over
        claim_of(store, epoch, host=f"dead-{epoch}")
        Heart(store, "night", epoch).beat()
    waits = []
    assert rival_of(store, "night", 4, waits.append) is None and waits == [PATIENCE_S]


def test_who_leaves_or_ends_meanwhile_is_waited_for_no_longer(store):
    claim_of(store, 1, host="far")
    claim_of(store, 2, host="near")
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        store.put_marker("jobs/night/ended/000001.json", {"status": "done"})
        leave(store, "night", 2, {})

    assert rival_of(store, "night", 3, sleep) is None and len(waits) == 1


def test_a_driver_that_was_given_up_sees_its_successor(store):
    now = 0.0
    old, new = (Heart(store, "night", epoch, clock=lambda: now) for epoch in (1, 2))
    old.beat()
    new.beat()
    assert old.successor is None
    now = 5.0
    old.beat()
    new.beat()
    assert old.successor is not None and old.successor["pid"] == os.getpid() and new.successor is None


def test_beats_leave_one_file_a_driver_and_none_when_it_stops(store):
    times = iter((0.0, 0.0, 1.0, 5.0, 5.0, 10.0, 10.0, 12.0, 15.0, 15.0))
    heart = Heart(store, "night", 1, clock=lambda: next(times))
    for _ in range(6):
        heart.beat()
    assert [number for number, _ in beats(store, "night").values()] == [4]
    assert len(store.list_keys("jobs/night/beats")) == 1
    heart.stop()
    assert beats(store, "night") == {} and store.list_keys("jobs/night/beats") == []


def test_a_heart_beats_by_itself_while_its_driver_is_busy_and_ends_with_it(store, monkeypatch):
    monkeypatch.setattr("manifests.drivers.EVERY_S", 0.01)
    with Heart(store, "night", 1):
        first = beats(store, "night")[1][0]
        deadline = time.monotonic() + 60
        while beats(store, "night").get(1, (0,))[0] <= first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.monotonic() < deadline, "it does not beat"
    assert store.list_keys("jobs/night/beats") == []


def test_a_heart_outlives_a_store_that_is_away(store, monkeypatch):
    monkeypatch.setattr("manifests.drivers.EVERY_S", 0.01)
    with Heart(store, "night", 1) as heart:
        with monkeypatch.context() as away:
            away.setattr(type(store), "put_marker", lambda *_: (_ for _ in ()).throw(ConnectionError()))
            time.sleep(0.1)
        before, deadline = heart._number, time.monotonic() + 60
        while heart._number <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert heart._number > before
