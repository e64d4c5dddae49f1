"""Claims about drivers of one job: one renders, others see it and leave, and the dead are not waited for."""

import os
import subprocess
import sys

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


def test_a_driver_of_another_host_is_a_rival_if_it_beats_while_one_waits(store, monkeypatch):
    claim_of(store, 1, host="far")
    monkeypatch.setattr("manifests.drivers.me", lambda: {"host": "far", "pid": 1, "started": "1"})
    heart = Heart(store, "night", 1)
    heart.beat()

    def a_while(seconds):
        assert seconds == PATIENCE_S
        Heart(store, "night", 1)._store.put_marker("jobs/night/beats/000001/000000002.json", {"host": "far"})

    assert rival_of(store, "night", 2, a_while) == {"host": "far"}
    assert rival_of(store, "night", 2, lambda seconds: None) is None, "it has died since"


def test_a_driver_that_was_given_up_leaves_when_it_sees_its_successor(store):
    now = 0.0
    old, new = (Heart(store, "night", epoch, clock=lambda: now) for epoch in (1, 2))
    assert old.beat() is None
    assert new.beat() is None
    now = 5.0
    successor = old.beat()
    assert successor is not None and successor["pid"] == os.getpid()
    assert new.beat() is None


def test_beats_leave_one_file_a_driver_and_none_when_it_stops(store):
    times = iter((0.0, 0.0, 1.0, 5.0, 5.0, 10.0, 10.0, 12.0, 15.0, 15.0))
    heart = Heart(store, "night", 1, clock=lambda: next(times))
    for _ in range(6):
        heart.beat()
    assert [number for number, _ in beats(store, "night").values()] == [4]
    assert len(store.list_keys("jobs/night/beats")) == 1
    heart.stop()
    assert beats(store, "night") == {} and store.list_keys("jobs/night/beats") == []
