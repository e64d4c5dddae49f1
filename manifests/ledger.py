"""The ledger: what happened to every task of a job, as append-only Parquet segments, and its fold.

Every driver has an epoch, claimed by put-if-absent, and writes only below its own prefix, where it merges its
segments as they grow many (segments). None is ever rewritten, so no two writers meet. Killing a driver loses
its last unflushed events, never an earlier one.
The ledger is for people and statistics; whether a task is done, its marker decides.

    done, cached, failed   an attempt at a task has ended; of a window that failed, the task is its shot
    cut                    an attempt came to nothing, as its worker is gone or its shot is opened anew
    ran                    a gang was at windows, one after another: many of them in one row
    hired, lost            a worker has come, is gone
"""

import io
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.drivers import me
from manifests.places import StoreError
from manifests.schema import VERSION_KEY, column
from manifests.sealed import seal, unseal, unsealed
from manifests.segments import Segments, find, last_of, loose
from manifests.store import Store

MESSAGE_CHARS = 500
KINDS = ("started", "done", "cached", "lost", "failed", "hired", "ran", "cut")
FINAL = ("done", "cached")  # nothing that is reported later undoes these
EVENTS = pa.schema(
    [
        column("ts", pa.timestamp("us", tz="UTC"), "UTC", "When the driver recorded the event."),
        column("driver_epoch", pa.int64(), "none", "Which driver; a later one has a higher number."),
        column("seq", pa.int64(), "none", "Place among the driver's events, from 1, without gaps."),
        column("task_key", pa.string(), "none", "The task; null for an event of a worker alone."),
        column("kind", pa.string(), "none", "What the task makes, such as shot; of a worker, its role."),
        column("row_id", pa.string(), "none", "The film that the task was run for."),
        column("attempt", pa.int32(), "none", "Which execution of the task, from 1."),
        column("event", pa.string(), "none", "One of KINDS."),
        column("worker", pa.string(), "none", "Who ran it."),
        column("host", pa.string(), "none", "Where a worker that was hired lives."),
        column("began", pa.timestamp("us", tz="UTC"), "UTC", "When it was given out."),
        column("shot", pa.string(), "none", "The shot that a gang was at; null where there were several."),
        column("windows", pa.int64(), "none", "How many window predictions a gang made."),
        column("gpu_s", pa.float64(), "GPU-s", "What they took of all its ranks together."),
        column("seconds", pa.float64(), "s", "Time that the attempt took on its worker or gang."),
        column("artefact", pa.string(), "none", "BLAKE2b-256 hex of what was made."),
        column("code", pa.string(), "none", "Stable code of what went wrong."),
        column("message", pa.string(), "none", f"What went wrong, at most {MESSAGE_CHARS} characters."),
    ],
    metadata={VERSION_KEY: b"ledger/1.2"},
)
_OURS = ("driver_epoch", "seq")
_GIVEN = {field.name: field.type for field in EVENTS if field.name not in _OURS}
_EPOCH = re.compile(r"/(?:ledger/drv=|driver/epoch-)(\d{6,})")
_GROUP_ROWS = 1 << 14  # of a merged segment: what a reader holds at once
_COMPACT_ROWS = 1 << 16
_RESTORE = "restore the segment from a copy"


def claim_epoch(store: Store, job_id: str) -> int:
    """A driver epoch of the job, from 1, that nobody else has or will have. Raises OSError, ValueError."""
    folder = f"jobs/{job_id}/driver"
    claim = {"claim": uuid.uuid4().hex} | me()
    epoch = len(store.list_keys(folder)) + 1  # claimed without gaps, since each claimant tries every one
    while True:
        key = f"{folder}/epoch-{epoch:06}.json"
        # Refused, and yet ours: the reply to a put that had succeeded was lost.
        if store.put_marker(key, claim) or store.read_marker(key) == claim:
            return epoch
        epoch += 1


class Ledger:
    """The one writer of a driver epoch. Not for several threads.

    At most ``max_events`` events are unflushed, and none is older than ``max_age_s`` after a call of
    ``record`` or ``flush_if_due``; call the latter when nothing happens. Flushed as in segments.
    """

    def __init__(
        self,
        store: Store,
        job_id: str,
        epoch: int,
        *,
        max_events: int = 1000,
        max_age_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_events < 1:
            raise ValueError(f"max_events is {max_events}, the least is 1")
        prefix = f"jobs/{job_id}/ledger/drv={epoch:06}"
        self._events = Segments(store, prefix, _sealed, max_events, max_age_s, clock, _merged)
        self.flush_if_due, self.flush = self._events.flush_if_due, self._events.flush
        self._epoch, self._seq, self._closed = epoch, 0, False

    def record(self, **event: object) -> None:
        """Take one event: columns of EVENTS but driver_epoch and seq; `ts` is now unless given.

        Raises ValueError (unknown column, wrong type) or, when earlier events are due and cannot be
        written, OSError or StoreError. Whatever is raised, this event was not taken.
        """
        if self._closed:
            raise ValueError("the ledger is closed")
        row = _checked(event)
        self.flush_if_due()
        self._seq += 1
        self._events.add(row | {"driver_epoch": self._epoch, "seq": self._seq})

    def close(self) -> None:
        """Flush and take no more; a second call does nothing. Raises as ``flush``."""
        if not self._closed:
            self.flush()
            self._closed = True

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def iter_events(store: Store, job_id: str) -> Iterator[pa.Table]:
    """The events in the order of (driver_epoch, seq), some at a time, page checksums verified.

    A ledger that is being written is read up to some event of each epoch, at least to the last that was
    durable before. Raises StoreError naming a damaged or absent segment, OSError.
    """
    listed = store.list_keys(f"jobs/{job_id}/ledger")
    # Claims too, since a listing of a folder in use may lack both a segment and the one that replaces it.
    found = [_EPOCH.search(key) for key in [*listed, *store.list_keys(f"jobs/{job_id}/driver")]]
    for epoch in sorted({int(match[1]) for match in found if match}):
        prefix = f"jobs/{job_id}/ledger/drv={epoch:06}"
        yield from _of_epoch(store, prefix, epoch, {key for key in listed if key.startswith(f"{prefix}/")})


def _of_epoch(store: Store, prefix: str, epoch: int, listed: set[str]) -> Iterator[pa.Table]:
    """One driver's events, from segments that are counted up rather than listed, as of iter_events."""
    seq = number = 0
    while (segment := find(store, prefix, number + 1, listed)) is not None:
        key, before = segment[0], seq
        where = f"{store.url}/{key}"
        for table in unsealed(segment[1], EVENTS, where):
            # Of a merged segment the first ones may have been read before they went into it.
            table = table.filter(pc.greater(table["seq"], seq))
            _check_follows(table, seq, epoch, where)
            seq += len(table)
            if len(table):
                yield table
        if seq == before:
            raise _unlike(seq, epoch, where)
        number = last_of([key])
    if number < last_of(listed):
        what = "a segment of the ledger is absent, and later ones are there"
        raise StoreError(what, f"{store.url}/{loose(prefix, number + 1)}", _RESTORE)


@dataclass(frozen=True)
class Totals:
    """Counts by event, seconds of attempts that made something and that did not, GPU-seconds of gangs."""

    events: Mapping[str, int]
    rendered_s: float
    wasted_s: float
    gpu_s: float


@dataclass(frozen=True, eq=False)
class Folded:
    """The state of every task, one row each of the columns EVENTS in the order of task_key, and totals."""

    tasks: pa.Table
    totals: Totals


def of_kinds(events: pa.Table, kinds: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of the events of these kinds."""
    return list(events.filter(pc.is_in(events["event"], pa.array(kinds))).select(columns).to_pylist())


def fold(events: pa.Table | Iterable[pa.Table]) -> Folded:
    """What the events, in any order and any pieces, come to; in the memory of a row per task.

    A task's state is its first `done` or `cached`, else its last event: a worker that was given up may report
    after another has finished. Events without a task_key count in the totals only.
    """
    tasks, pending, counts = EVENTS.empty_table(), [], Counter(dict.fromkeys(KINDS, 0))
    seconds, gpu_s = dict.fromkeys(KINDS, 0.0), 0.0
    for piece in [events] if isinstance(events, pa.Table) else events:
        pending.append(piece.filter(pc.is_valid(piece["task_key"])))
        if sum(map(len, pending)) >= max(_COMPACT_ROWS, len(tasks)):
            tasks, pending = _latest(pa.concat_tables([tasks, *pending])), []
        columns = [("event", "count"), ("seconds", "sum"), ("gpu_s", "sum")]
        sums = piece.group_by("event").aggregate(columns)
        for row in sums.to_pylist():
            counts[row["event"]] += row["event_count"]
            seconds[row["event"]] += row["seconds_sum"] or 0.0
            gpu_s += row["gpu_s_sum"] or 0.0 if row["event"] == "ran" else 0.0
    tasks = _latest(pa.concat_tables([tasks, *pending])).sort_by("task_key")
    wasted_s = seconds["lost"] + seconds["failed"] + seconds["cut"]
    return Folded(tasks, Totals(dict(counts), seconds["done"], wasted_s, gpu_s))


def _latest(events: pa.Table) -> pa.Table:
    """One event a task: the first final one, else the last."""
    final = pc.is_in(events["event"], pa.array(FINAL)).to_numpy(zero_copy_only=False).astype(np.int64)
    sign = 1 - 2 * final  # among final events the earliest comes last, after all others
    order = np.lexsort((events["seq"].to_numpy() * sign, events["driver_epoch"].to_numpy() * sign, final))
    keys = events["task_key"].combine_chunks().dictionary_encode()
    winner = np.zeros(len(keys.dictionary), np.int64)
    winner[keys.indices.to_numpy()[order]] = order  # of a repeated index numpy keeps the last
    return events.take(winner).combine_chunks()


def _check_follows(table: pa.Table, seq: int, epoch: int, where: str) -> None:
    """Raise StoreError unless these are events of the epoch right after event `seq`."""
    numbers = np.arange(seq + 1, seq + 1 + len(table))
    if not np.array_equal(table["seq"], numbers) or set(table["driver_epoch"].unique().to_pylist()) - {epoch}:
        raise _unlike(seq, epoch, where)


def _unlike(seq: int, epoch: int, where: str) -> StoreError:
    return StoreError(f"its events do not follow event {seq} of epoch {epoch}", where, _RESTORE)


def _merged(segments: list[bytes]) -> bytes:
    """The bytes of one segment with the events of all these, in the same order."""
    out, tables = io.BytesIO(), [unseal(data, EVENTS, "a segment just put") for data in segments]
    seal(pa.concat_tables(tables).combine_chunks().to_batches(_GROUP_ROWS), EVENTS, out)
    return out.getvalue()


def _sealed(events: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    seal([pa.RecordBatch.from_pylist(events, schema=EVENTS)], EVENTS, out)
    return out.getvalue()


def _checked(event: dict[str, object]) -> dict[str, Any]:
    """The event as a row that is known to fit the schema, or a ValueError."""
    unknown = sorted(event.keys() - _GIVEN.keys())
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}: use {', '.join(_GIVEN)}")
    if event.get("event") not in KINDS:
        raise ValueError(f"event is {event.get('event')!r}: use one of {', '.join(KINDS)}")
    seconds, message = event.get("seconds"), event.get("message")
    if isinstance(seconds, float | int) and not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds is {seconds} s: give a finite time of 0 s or more")
    row = {"ts": datetime.now(UTC)} | event
    if isinstance(message, str):  # from an error, so it may hold bytes that are no text
        text = message.encode("utf-8", "replace").decode()
        row["message"] = text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
    for name, value in row.items():
        try:
            pa.scalar(value, _GIVEN[name])  # several times quicker than a batch of one row
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
            raise ValueError(f"{name} does not fit {_GIVEN[name]}: {error}") from error
    return row
