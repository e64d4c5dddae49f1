"""The `trace` verb: a job's night as a Chrome trace, for chrome://tracing or https://ui.perfetto.dev.

A process is a host, a thread a worker. Spans are attempts at tasks, and runs of windows at gangs; shots lie
across them, as several are under way at one conductor. Deaths and errors are instants; how many gangs are
busy and idle is a counter. Read from the ledger, so it works while a job runs, too.

A run of windows is a second or longer (cluster.diary). Where there are more than MOST_SPANS spans, those of
one gang that follow on each other become one, so that a trace has about 100 MB at most.

Decides: what is seen where. Does not decide: what is told of a night (cluster.diary).
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cluster.state import GANG
from jobs.outcome import DONE
from jobs.places import opened, reading
from jobs.status import known_job

if TYPE_CHECKING:
    from manifests.store import Store

MOST_SPANS = 400_000
MOST_COUNTS = 5_000  # values of the counter
Event = dict[str, Any]  # of the format: name, ph, ts and dur in microseconds, pid, tid, args
ENDS = ("done", "cached", "failed", "cut")


@dataclass(frozen=True, slots=True)
class Span:
    """A worker was at something; times are microseconds from the job's first event."""

    lane: tuple[int, str]  # driver and worker
    start: int
    end: int
    name: str
    row: str | None = None
    windows: int = 0
    busy_s: float = 0.0
    attempt: int = 0
    failed: bool = False


@dataclass
class Night:
    """What a job's ledger tells, as far as a trace shows it."""

    began: datetime | None = None
    end: int = 0
    hosts: dict[tuple[int, str], str] = field(default_factory=dict)  # lane -> where it lives
    spans: list[Span] = field(default_factory=list)
    shots: list[tuple[str, Span]] = field(default_factory=list)
    instants: list[tuple[tuple[int, str], int, str, str]] = field(default_factory=list)
    staff: list[tuple[int, int]] = field(default_factory=list)  # when, and +1 or -1 gang
    gangs: set[tuple[int, str]] = field(default_factory=set)


def trace(arguments: argparse.Namespace) -> int:
    """Write a job's trace to stdout."""
    store = opened(arguments.out)
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        night = read_night(store, arguments.job)
    write(night, sys.stdout.write)
    return DONE


def read_night(store: "Store", job: str) -> Night:
    """A job's ledger, a segment at a time. Raises StoreError where it is damaged."""
    from manifests.ledger import iter_events

    night = Night()
    for segment in iter_events(store, job):
        for row in segment.to_pylist():
            _take(night, row)
    return night


def write(night: Night, out: Callable[[str], Any]) -> None:
    """Write the trace as JSON, an event a line."""
    separator = '{"displayTimeUnit": "ms", "traceEvents": [\n'
    for event in chrome(night):
        out(separator + json.dumps(event, ensure_ascii=False))
        separator = ",\n"
    out(("" if separator == ",\n" else separator) + "\n]}\n")


def chrome(night: Night) -> Iterator[Event]:
    """The events of the trace format, those of a thread in the order of time."""
    lanes = sorted({*night.hosts, *(span.lane for span in night.spans)})
    hosts = sorted({night.hosts.get(lane, "") for lane in lanes})
    pids = {lane: hosts.index(night.hosts.get(lane, "")) + 1 for lane in lanes}
    place = {lane: {"pid": pids[lane], "tid": number + 1} for number, lane in enumerate(lanes)}
    several = len({driver for driver, _ in lanes}) > 1
    for number, host in enumerate(hosts):
        yield {"name": "process_name", "ph": "M", "pid": number + 1, "args": {"name": host or "here"}}
    for lane in lanes:
        name = f"{lane[1]} of driver {lane[0]}" if several else lane[1]
        yield {"name": "thread_name", "ph": "M", **place[lane], "args": {"name": name}}
    for span in coarser(sorted(night.spans, key=lambda span: (span.lane, span.start)), MOST_SPANS):
        yield _span(span) | place[span.lane]
    for key, span in night.shots:
        common = {"cat": "shot", "id": key, "name": span.name} | place[span.lane]
        yield {"ph": "b", "ts": span.start, "args": _arguments(span)} | common
        yield {"ph": "e", "ts": span.end} | common
    for lane, at, name, message in night.instants:
        instant = {"name": name, "ph": "i", "s": "t", "ts": at, "args": {"message": message}}
        yield instant | place.get(lane, {"pid": 0, "tid": 0})
    for at, busy, gangs in counts(night):
        counted = {"busy": busy, "idle": max(0, gangs - busy)}
        yield {"name": "gangs", "ph": "C", "ts": at, "pid": 0, "args": counted}


def coarser(spans: Sequence[Span], most: int) -> Sequence[Span]:
    """At most so many spans, as far as gangs' can be merged; they are sorted by lane and time."""
    gap = 1_000_000
    while len(spans) > most and gap < 1 << 40:
        spans, gap = _merged(spans, gap), gap * 2
    return spans


def counts(night: Night) -> Iterator[tuple[int, int, int]]:
    """When, how many gangs are busy, and how many there are: where that changes, but not too often."""
    at_work = [span for span in night.spans if span.lane in night.gangs]
    changes = [(at, 0, change) for at, change in night.staff]
    changes += [(span.start, 1, 0) for span in at_work] + [(span.end, -1, 0) for span in at_work]
    grain, busy, gangs = max(1, night.end // MOST_COUNTS), 0, 0
    last: tuple[int, int, int] | None = None
    for at, more_busy, more_gangs in sorted(changes):
        busy, gangs = busy + more_busy, gangs + more_gangs
        if last is not None and at // grain > last[0] // grain:
            yield last
        last = (at, busy, gangs)
    if last is not None:
        yield last


def _take(night: Night, row: dict[str, Any]) -> None:
    """Take up one row of the ledger."""
    night.began = night.began or row["began"] or row["ts"]
    lane, event, at = (row["driver_epoch"], row["worker"] or ""), row["event"], _us(night, row["ts"])
    night.end = max(night.end, at)
    if event == "hired":
        night.hosts[lane] = row["host"] or ""
        if row["kind"] == GANG:
            night.gangs.add(lane)
            night.staff.append((at, 1))
    elif event == "lost":
        night.instants.append((lane, at, "lost", row["message"] or ""))
        if lane in night.gangs:
            night.staff.append((at, -1))
    elif event == "failed":
        night.instants.append((lane, at, row["code"] or "failed", row["message"] or ""))
    if row["began"] is not None and event in (*ENDS, "ran"):
        _span_of(night, row, lane, at)


def _span_of(night: Night, row: dict[str, Any], lane: tuple[int, str], at: int) -> None:
    span = Span(
        lane,
        _us(night, row["began"]),
        at,
        _name(row),
        row["row_id"],
        row["windows"] or 0,
        row["seconds"] or 0.0,
        row["attempt"] or 0,
        row["event"] in ("failed", "cut"),
    )
    if row["kind"] == "shot" and lane not in night.gangs:
        key = row["task_key"] or row["shot"]
        night.shots.append((f"{key}.{lane[0]}.{span.attempt}", span))
    else:
        night.spans.append(span)


def _name(row: dict[str, Any]) -> str:
    shot = row["shot"] or (row["task_key"] if row["kind"] == "shot" else None)
    if row["event"] == "ran":
        return f"windows of {shot[:8]}" if shot else "windows of several shots"
    kind = row["kind"] or "task"
    name = f"{kind} {shot[:8]}" if shot else kind
    return name if row["event"] == "done" else f"{name}, {row['event']}"


def _span(span: Span) -> Event:
    colour = {"cname": "terrible"} if span.failed else {}
    dur = span.end - span.start
    return {"name": span.name, "ph": "X", "ts": span.start, "dur": dur, "args": _arguments(span)} | colour


def _arguments(span: Span) -> dict[str, Any]:
    facts = {"row": span.row, "attempt": span.attempt, "windows": span.windows}
    return {"busy_s": round(span.busy_s, 3)} | {name: fact for name, fact in facts.items() if fact}


def _merged(spans: Iterable[Span], gap: int) -> list[Span]:
    """Runs of one gang that lie so close, as one."""
    merged: list[Span] = []
    for span in spans:
        if merged and _lie_close(merged[-1], span, gap):
            merged[-1] = _both(merged[-1], span)
        else:
            merged.append(span)
    return merged


def _lie_close(last: Span, span: Span, gap: int) -> bool:
    runs = last.lane == span.lane and last.windows and span.windows
    return bool(runs) and span.start - last.end <= gap and last.end - last.start <= 60 * gap


def _both(last: Span, span: Span) -> Span:
    name = last.name if last.name == span.name else "windows of several shots"
    row = last.row if last.row == span.row else None
    busy_s, windows = last.busy_s + span.busy_s, last.windows + span.windows
    return replace(last, end=span.end, name=name, row=row, busy_s=busy_s, windows=windows)


def _us(night: Night, when: datetime) -> int:
    assert night.began is not None, "the first row sets it"
    return round((when - night.began).total_seconds() * 1e6)
