"""Merging a ledger's segments: whoever reads it, at whatever moment, has every event once."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import Semaphore, Thread, current_thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import segments
from manifests.ledger import Ledger, claim_epoch, iter_events
from manifests.places import Disk
from manifests.store import Store, StoreError, open_store

MERGED, N = 3, 7  # segments in a merged one; events of a driver, each a segment of its own
OPERATIONS = ("create", "read", "keys", "remove")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MERGED", MERGED)
    monkeypatch.setattr(segments, "REMOVED", 2)


@contextmanager
def asked(before: Callable[[], object]) -> Iterator[None]:
    """`before` is called before every operation of a disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            real = getattr(Disk, name)
            patch.setattr(Disk, name, lambda *given, real=real: (before(), real(*given))[1])
        yield


def drive(store: Store, durable: dict[int, int], n: int = N) -> None:
    """A driver that claims an epoch, and records so many events; `durable` tells how many it was promised."""
    epoch = claim_epoch(store, "night")
    ledger = Ledger(store, "night", epoch, max_events=1)
    for number in range(1, n + 1):
        ledger.record(event="done", task_key=f"{epoch}-{number}")
        ledger.flush()
        durable[epoch] = number


def numbers(store: Store) -> dict[int, list[int]]:
    """The events of every epoch, as a reader has them."""
    found: dict[int, list[int]] = {}
    for table in iter_events(store, "night"):
        for row in table.to_pylist():
            assert row["task_key"] == f"{row['driver_epoch']}-{row['seq']}"
            found.setdefault(row["driver_epoch"], []).append(row["seq"])
    return found


def check(found: dict[int, list[int]], durable: dict[int, int]) -> None:
    """Of each driver its first events, once each, and at least those that were durable."""
    for seqs in found.values():
        assert seqs == list(range(1, len(seqs) + 1))
    for epoch, n in durable.items():
        assert len(found.get(epoch, [])) >= n


class Killed(BaseException):
    """What nothing catches, as a process that is killed catches nothing."""


class Paused:
    """Two drivers, one after the other, in a thread that does one operation of its store when told to."""

    def __init__(self, store: Store) -> None:
        self.store, self.durable = store, dict[int, int]()
        self.turn, self.waits, self.ended, self.stop = Semaphore(0), Semaphore(0), False, False
        self.thread = Thread(target=self.run)

    def run(self) -> None:
        with suppress(Killed):
            for _ in range(2):
                drive(self.store, self.durable)
        self.ended = True
        self.waits.release()

    def gate(self) -> None:
        """Before each of its operations."""
        self.waits.release()
        self.turn.acquire()
        if self.stop:
            raise Killed

    def step(self) -> None:
        """Have it do one, and come to the next."""
        if not self.ended:
            self.turn.release()
            self.waits.acquire()


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_a_reader_has_every_durable_event_once_whatever_is_merged_between_its_operations(data: Any) -> None:
    steps = st.integers(0, 25)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store, real = open_store(folder), Disk.keys
        paused = Paused(store)

        def before() -> None:
            if current_thread() is paused.thread:
                return paused.gate()
            for _ in range(data.draw(steps)):
                paused.step()

        def listed(disk: Disk, prefix: str) -> list[str]:
            """As bad as POSIX allows: nothing that came or went while it was read."""
            found = real(disk, prefix)
            for _ in range(data.draw(steps) if current_thread() is not paused.thread else 0):
                paused.step()
            return sorted({*found} & {*real(disk, prefix)})

        patch.setattr(Disk, "keys", listed)
        with asked(before):
            paused.thread.start()
            paused.waits.acquire()
            try:
                while not paused.ended:
                    durable = dict(paused.durable)
                    check(numbers(store), durable)
                    paused.step()
            finally:
                paused.stop = True
                paused.step()
                paused.thread.join()
        assert {epoch: len(seqs) for epoch, seqs in numbers(store).items()} == {1: N, 2: N}


def test_a_driver_that_is_killed_between_any_two_operations_leaves_what_it_promised_to_the_next() -> None:
    swept = 0
    for nth in count():
        with tempfile.TemporaryDirectory() as folder:
            store, done, left = open_store(folder), dict[int, int](), iter(range(nth))

            def before(left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise Killed

            killed = True
            with suppress(Killed), asked(before):
                drive(store, done)
                killed = False
            check(numbers(store), done)
            drive(store, done)
            found = numbers(store)
            check(found, done)
            assert sum(map(len, found.values())) in (sum(done.values()), sum(done.values()) + 1)
            for key in list(segments.replaced(store.list_keys("jobs"))):
                store.remove(key)
                swept += 1
            assert numbers(store) == found, "what is taken away was in a merged one"
        if not killed:
            break
    assert nth > 2 * N and swept, "each event is put, and segments are merged and removed"


def test_a_driver_that_is_thought_dead_merges_its_own_segments_and_nobody_elses(tmp_path: Any) -> None:
    store = open_store(str(tmp_path))
    removed: list[str] = []
    real = Disk.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Disk, "remove", lambda disk, key: (removed.append(key), real(disk, key))[1])
        zombie, driver = (Ledger(store, "night", claim_epoch(store, "night"), max_events=1) for _ in range(2))
        for number in range(1, N + 1):
            driver.record(event="done", task_key=f"2-{number}")
            driver.flush()
        theirs, removed[:] = list(removed), []
        for number in range(1, N + 1):
            zombie.record(event="done", task_key=f"1-{number}")
            zombie.flush()
    assert removed and all("/drv=000001/" in key for key in removed)
    assert theirs and all("/drv=000002/" in key for key in theirs)
    assert {epoch: len(seqs) for epoch, seqs in numbers(store).items()} == {1: N, 2: N}


def test_a_second_writer_of_an_epoch_is_refused_at_once_though_the_first_has_merged(tmp_path: Any) -> None:
    store = open_store(str(tmp_path))
    drive(store, {})
    left = store.list_keys("jobs")
    second = Ledger(store, "night", 1)
    second.record(event="failed")
    with pytest.raises(StoreError, match=r"another driver .*seg-000000001\.parquet"):
        second.flush()
    assert store.list_keys("jobs") == left


def test_many_segments_become_a_few_merged_ones_and_those_since(tmp_path: Any) -> None:
    store = open_store(str(tmp_path))
    drive(store, {}, 100)
    names = [key.rsplit("/", 1)[1] for key in store.list_keys("jobs/night/ledger")]
    merged = [name for name in names if name.startswith("upto-")]
    assert len(merged) == 100 // MERGED and len(names) <= len(merged) + 1 + 2 * MERGED
    assert numbers(store) == {1: list(range(1, 101))}


def test_what_a_store_refuses_while_segments_are_merged_is_done_after_the_next_flush(tmp_path: Any) -> None:
    store, durable = open_store(str(tmp_path)), dict[int, int]()
    real = {name: getattr(Disk, name) for name in ("create", "remove")}
    refused: list[str] = []

    def moody(name: str, disk: Disk, *given: Any) -> Any:
        key = given[-1]
        if (name == "remove" or "upto-" in key) and len(refused) < 8 and refused.count(key) < 2:
            refused.append(key)
            raise ConnectionError("the server said 500 InternalError")
        return real[name](disk, *given)

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(Disk, name, lambda *given, name=name: moody(name, *given))
        drive(store, durable, 40)
    assert numbers(store) == {1: list(range(1, 41))} and len(refused) > 4
    assert len(store.list_keys("jobs/night/ledger")) < 40


@pytest.mark.parametrize("hurt", ["gone", "of another"])
def test_a_merged_segment_that_is_not_what_it_should_be_is_named(tmp_path: Any, hurt: str) -> None:
    store = open_store(str(tmp_path))
    drive(store, {})
    first, second = (tmp_path / segments.merged("jobs/night/ledger/drv=000001", n) for n in (1, MERGED + 1))
    if hurt == "gone":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes())
    said = r"absent.*seg-000000004" if hurt == "gone" else r"do not follow event 3.*upto-000000006"
    with pytest.raises(StoreError, match=said):
        numbers(store)
