"""What the ledger promises: a prefix of every driver's events, none twice, and damage that is named."""

import errno
import io
import multiprocessing as mp
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifests.ledger import EVENTS, FINAL, KINDS, Ledger, claim_epoch, fold, iter_events
from manifests.store import Store, StoreError, open_store

SPAWN = mp.get_context("spawn")
SEGMENT = "jobs/night/ledger/drv=000001/seg-{:09}.parquet"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def three_segments(store: Store) -> Store:
    with Ledger(store, "night", 1, max_events=2) as ledger:
        for number in range(6):
            ledger.record(event="done", task_key=f"task-{number}", seconds=number + 0.5)
    assert store.list_keys("jobs") == [SEGMENT.format(n) for n in (1, 2, 3)]
    return store


def events_of(store: Store, job_id: str) -> pa.Table:
    """All events of a job in one table."""
    return pa.concat_tables([EVENTS.empty_table(), *iter_events(store, job_id)])


def _numbers(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(table["driver_epoch"].to_pylist(), table["seq"].to_pylist(), strict=True))


def test_events_come_back_with_every_value_in_epoch_and_seq_order(store: Store) -> None:
    given = {"task_key": "k", "kind": "shot", "row_id": "नदी", "attempt": 2, "event": "done", "worker": "g1"}
    given |= {"seconds": 1.5, "artefact": "ab", "code": "C", "message": "m"}
    for epoch in (2, 10, 1):
        with Ledger(store, "night", epoch) as ledger:
            ledger.record(**given)
            ledger.record(event="lost", worker="g2")
    table = events_of(store, "night")
    assert table.schema.equals(EVENTS, check_metadata=True)
    assert _numbers(table) == [(1, 1), (1, 2), (2, 1), (2, 2), (10, 1), (10, 2)]
    first = table.to_pylist()[0]
    assert {name: first[name] for name in given} == given
    assert first["ts"].tzinfo is not None


def test_job_without_events_has_an_empty_ledger(store: Store) -> None:
    assert events_of(store, "night").num_rows == 0
    assert fold(events_of(store, "night")).totals.events == dict.fromkeys(KINDS, 0)


def test_every_column_carries_unit_and_doc() -> None:
    for field in EVENTS:
        assert field.metadata[b"unit"] and field.metadata[b"doc"]


def test_full_buffer_and_old_events_are_flushed(store: Store) -> None:
    clock = Clock()
    ledger = Ledger(store, "night", 1, max_events=3, max_age_s=5.0, clock=clock)
    for _ in range(4):
        ledger.record(event="started")
    assert events_of(store, "night").num_rows == 3
    clock.now_s = 4.9
    ledger.flush_if_due()
    assert events_of(store, "night").num_rows == 3
    clock.now_s = 5.0
    ledger.flush_if_due()
    assert events_of(store, "night").num_rows == 4


def test_close_flushes_once_and_ends_recording(store: Store) -> None:
    ledger = Ledger(store, "night", 1)
    ledger.record(event="started")
    ledger.close()
    ledger.close()
    assert store.list_keys("jobs") == [SEGMENT.format(1)]
    with pytest.raises(ValueError, match="closed"):
        ledger.record(event="done")


def test_failing_driver_still_leaves_its_events(store: Store) -> None:
    with pytest.raises(RuntimeError), Ledger(store, "night", 1) as ledger:
        ledger.record(event="started")
        raise RuntimeError
    assert events_of(store, "night").num_rows == 1


@pytest.mark.parametrize(
    ("event", "match"),
    [
        ({"event": "finished"}, "use one of started"),
        ({}, "event is None"),
        ({"event": "done", "gang": "g"}, "unknown columns gang"),
        ({"event": "done", "seq": 3}, "unknown columns seq"),
        ({"event": "done", "task_key": 3}, "task_key does not fit string"),
        ({"event": "done", "attempt": 1 << 40}, "attempt does not fit int32"),
        ({"event": "done", "seconds": float("nan")}, "finite"),
        ({"event": "done", "seconds": -1.0}, "0 s or more"),
    ],
)
def test_event_that_does_not_fit_is_refused_and_not_taken(
    store: Store, event: dict[str, Any], match: str
) -> None:
    with Ledger(store, "night", 1) as ledger:
        with pytest.raises(ValueError, match=match):
            ledger.record(**event)
        ledger.record(event="started")
    assert _numbers(events_of(store, "night")) == [(1, 1)]


def test_long_or_odd_message_is_kept_as_500_characters(store: Store) -> None:
    with Ledger(store, "night", 1) as ledger:
        ledger.record(event="failed", message="न" * 501)
        ledger.record(event="failed", message="न" * 500)
        ledger.record(event="failed", message="a file \udcff")
    messages = events_of(store, "night")["message"].to_pylist()
    assert messages == ["न" * 499 + "…", "न" * 500, "a file ?"]


def test_second_writer_of_an_epoch_is_told_and_changes_nothing(store: Store) -> None:
    first, second = Ledger(store, "night", 1), Ledger(store, "night", 1)
    first.record(event="started")
    first.flush()
    second.record(event="failed")
    with pytest.raises(StoreError, match=r"another driver .*drv=000001/seg-000000001\.parquet.*claim_epoch"):
        second.flush()
    assert events_of(store, "night")["event"].to_pylist() == ["started"]


def _claim(url: str, claims: "mp.Queue[list[int]]") -> None:
    claims.put([claim_epoch(open_store(url), "night") for _ in range(10)])


def test_drivers_that_start_together_get_epochs_of_their_own_without_gaps(tmp_path: Path) -> None:
    claims: mp.Queue[list[int]] = SPAWN.Queue()
    crew = [SPAWN.Process(target=_claim, args=(str(tmp_path), claims)) for _ in range(3)]
    for process in crew:
        process.start()
    found = [claims.get(timeout=60) for _ in crew]
    for process in crew:
        process.join(60)
    assert sorted(epoch for mine in found for epoch in mine) == list(range(1, 31))
    assert all(a < b for mine in found for a, b in pairwise(mine))
    assert open_store(str(tmp_path)).list_keys("jobs")[0] == "jobs/night/driver/epoch-000001.json"


def _drive_until_killed(url: str) -> None:
    store, link = open_store(url), os.link
    ledger = Ledger(store, "night", claim_epoch(store, "night"), max_events=3)

    def die_at_the_fourth(source: Path, target: Path) -> None:
        if "seg-000000004" in str(target):
            os._exit(9)
        link(source, target)

    os.link = die_at_the_fourth
    for number in range(100):
        ledger.record(event="done", task_key=str(number))


def test_killed_driver_leaves_whole_segments_and_the_next_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        process = SPAWN.Process(target=_drive_until_killed, args=(str(tmp_path),))
        process.start()
        process.join(60)
        assert process.exitcode == 9
    table = events_of(open_store(str(tmp_path)), "night")
    assert _numbers(table) == [(epoch, seq) for epoch in (1, 2) for seq in range(1, 10)]


def test_damaged_segment_is_named(three_segments: Store, tmp_path: Path) -> None:
    path = tmp_path / SEGMENT.format(2)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"not a sound Parquet file.*drv=000001/seg-000000002\.parquet"):
        events_of(three_segments, "night")


def test_absent_segment_is_named_rather_than_passed_over(three_segments: Store, tmp_path: Path) -> None:
    (tmp_path / SEGMENT.format(2)).unlink()
    with pytest.raises(StoreError, match=r"absent.*seg-000000002\.parquet"):
        events_of(three_segments, "night")


def test_segment_in_the_place_of_another_is_named(three_segments: Store, tmp_path: Path) -> None:
    (tmp_path / SEGMENT.format(2)).write_bytes((tmp_path / SEGMENT.format(3)).read_bytes())
    with pytest.raises(StoreError, match=r"do not follow event 2 of epoch 1.*seg-000000002\.parquet"):
        events_of(three_segments, "night")


def test_segment_of_another_version_is_named(three_segments: Store, tmp_path: Path) -> None:
    out, path = io.BytesIO(), tmp_path / SEGMENT.format(1)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({b"longtake.schema": b"ledger/9.0"}), out)
    path.write_bytes(out.getvalue())
    with pytest.raises(StoreError, match=r"ledger/9\.0, expected ledger/1\.2 .*seg-000000001"):
        events_of(three_segments, "night")


def test_no_flipped_bit_of_a_segment_changes_an_event_silently(three_segments: Store, tmp_path: Path) -> None:
    path, expected = tmp_path / SEGMENT.format(2), events_of(three_segments, "night")
    good = path.read_bytes()
    end = len(good) - 8 - pq.read_metadata(path).serialized_size
    told = 0
    for place in range(4, end, 5):
        content = bytearray(good)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        try:
            assert events_of(three_segments, "night").equals(expected), f"byte {place} changed an event"
        except StoreError as error:
            assert "seg-000000002.parquet" in str(error)
            told += 1
    assert told > end // 10


STEPS = ["record", "record", "record", "wait", "flush", "store down", "reply lost", "killed"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(STEPS), max_size=40), st.integers(1, 4))
@example(["record", "reply lost", "flush", "record"], 4)  # more events come before the second try
def test_any_history_keeps_a_prefix_of_every_drivers_events_and_none_twice(
    steps: list[str], max_events: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store, clock, link = open_store(folder), Clock(), os.link
        patch.setattr("manifests.segments.MERGED", 2)
        faults: list[str] = []

        def faulty(source: Path, target: Path) -> None:
            fault = faults.pop() if faults and "ledger" in str(target) else ""
            if fault != "store down":
                link(source, target)
            if fault:
                raise OSError(errno.EIO, fault)

        patch.setattr(os, "link", faulty)
        taken: dict[int, list[str]] = {}  # by epoch: what record took, in order
        durable: dict[int, int] = {}  # by epoch: how many of them flush has promised
        epoch, ledger = 0, None
        for number, step in enumerate([*steps, "flush"]):
            if ledger is None:
                epoch = claim_epoch(store, "night")
                ledger = Ledger(store, "night", epoch, max_events=max_events, max_age_s=5, clock=clock)
                taken[epoch], durable[epoch] = [], 0
            try:
                if step == "record":
                    ledger.record(event="done", task_key=str(number))
                    taken[epoch].append(str(number))
                    durable[epoch] = max(durable[epoch], len(taken[epoch]) - max_events)
                elif step == "flush":
                    ledger.flush()
                    durable[epoch] = len(taken[epoch])
            except OSError:
                pass  # not taken, or not promised
            if step in ("store down", "reply lost"):
                faults.append(step)
            clock.now_s += 3 if step == "wait" else 0
            ledger = None if step == "killed" else ledger
        table = events_of(store, "night")
        for number, keys in taken.items():
            rows = [row for row in table.to_pylist() if row["driver_epoch"] == number]
            assert [row["task_key"] for row in rows] == keys[: len(rows)]
            assert len(rows) >= durable[number]
        assert set(table["driver_epoch"].to_pylist()) <= set(taken)


EVENT = st.fixed_dictionaries(
    {
        "driver_epoch": st.integers(1, 3),
        "task_key": st.sampled_from(["a", "b", "c", None]),
        "event": st.sampled_from(KINDS),
        "seconds": st.none() | st.integers(0, 9).map(float),
        "gpu_s": st.none() | st.integers(0, 9).map(float),
    }
)


def _state(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """The plain words of fold: the first final event, else the last."""
    order = sorted(rows, key=lambda row: (row["driver_epoch"], row["seq"]))
    final = [row for row in order if row["event"] in FINAL]
    chosen = final[0] if final else order[-1]
    return chosen["driver_epoch"], chosen["seq"]


@settings(deadline=None)
@given(st.lists(EVENT, max_size=30), st.randoms(), st.integers(1, 7))
def test_fold_is_the_same_in_any_order_and_any_pieces(
    rows: list[dict[str, Any]], random: Any, size: int
) -> None:
    rows = [row | {"seq": number} for number, row in enumerate(rows, 1)]
    keys = sorted({row["task_key"] for row in rows} - {None})
    expected = [_state([row for row in rows if row["task_key"] == key]) for key in keys]
    random.shuffle(rows)
    pieces = [rows[at : at + size] for at in range(0, len(rows), size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manifests.ledger._COMPACT_ROWS", 4)
        folded = fold(pa.Table.from_pylist(piece, schema=EVENTS) for piece in pieces)
    assert folded.tasks["task_key"].to_pylist() == keys
    assert _numbers(folded.tasks) == expected

    def seconds(*names: str) -> float:
        return sum(row["seconds"] or 0.0 for row in rows if row["event"] in names)

    assert folded.totals.events == {kind: sum(row["event"] == kind for row in rows) for kind in KINDS}
    assert folded.totals.rendered_s == seconds("done")
    assert folded.totals.wasted_s == seconds("lost", "failed", "cut")
    assert folded.totals.gpu_s == sum(row["gpu_s"] or 0.0 for row in rows if row["event"] == "ran")
    assert fold(pa.Table.from_pylist(rows, schema=EVENTS)).tasks.equals(folded.tasks)


def test_late_report_of_a_lost_worker_does_not_undo_a_done_task(store: Store) -> None:
    with Ledger(store, "night", 1) as ledger:
        for event in ("started", "lost", "started", "done", "lost", "failed"):
            ledger.record(event=event, task_key="a", seconds=2.0)
    folded = fold(iter_events(store, "night"))
    assert folded.tasks["event"].to_pylist() == ["done"]
    assert (folded.totals.rendered_s, folded.totals.wasted_s) == (2.0, 6.0)
