"""How a job stands, read from its store alone: no driver or cluster is asked.

A job's latest driver has ended if it left an `ended` record; otherwise it is at work or gone, and the time of
its last event is all that can be said. An unknown job is never "done".
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobs.bill import added, spoken
from jobs.moment import told
from jobs.outcome import DONE, LAST_LINE, TIMED_OUT
from jobs.places import opened, reading
from jobs.refusal import Refused

if TYPE_CHECKING:
    from manifests.store import Store

POLL_S = 2.0
QUIET_S = 60.0  # a driver that has recorded nothing for so long may be gone
APPEAR_S = 120.0  # a job just submitted has this long to show up in its store
TOP = 5
DRIVER = re.compile(r"/driver/epoch-(\d+)\.json$")


@dataclass(frozen=True)
class Standing:
    """A job as its store tells it: `tasks` by kind and latest event, `errors` the most frequent first."""

    job_id: str
    status: str  # running, or what the latest driver ended with
    exit_code: int | None
    films: int
    driver: int
    last_event: str | None  # UTC
    quiet_s: float | None
    tasks: dict[str, dict[str, int]]
    lost_workers: int
    errors: list[dict[str, Any]]
    gpu: dict[str, Any]  # the bills of its drivers; before the end only what they used so far
    result: dict[str, Any] | None
    manifest: str
    forecast: dict[str, Any] | None = None  # when it may end, or since when it stands still


def status(arguments: argparse.Namespace) -> int:
    """Print how one job stands; of several without a name, a line each."""
    store = opened(arguments.out)
    with reading(arguments.out):
        named = [known_job(store, arguments.job, arguments.out)] if arguments.job else known_jobs(store)
        if not named:
            raise Refused(f"there are no jobs in {arguments.out}: give the --out that a run was given")
        standings = [standing(store, job) for job in named]
    if arguments.output == "json":
        facts = [asdict(one) for one in standings]
        print(json.dumps(facts[0] if arguments.job else facts, ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(standings[0]) if len(standings) == 1 else map(_verdict, standings)))
    return DONE


def wait(arguments: argparse.Namespace) -> int:
    """Return with the job's own exit code when its latest driver has ended."""
    store, began = opened(arguments.out), time.monotonic()
    while True:
        with reading(arguments.out):
            _, result = latest(store, arguments.job)
            waited_s = time.monotonic() - began
            if result is None and waited_s > APPEAR_S:
                known_job(store, arguments.job, arguments.out)
        if result is not None:
            break
        if arguments.timeout is not None and waited_s >= arguments.timeout:
            print(f"longtake: {arguments.job} has not ended after {waited_s:.0f} s", file=sys.stderr)
            return TIMED_OUT
        left_s = POLL_S if arguments.timeout is None else arguments.timeout - waited_s
        time.sleep(min(POLL_S, left_s))
    text = json.dumps(result, ensure_ascii=False)
    print(text if arguments.output == "json" else f"{_ended(result)}\n{LAST_LINE} {text}")
    return int(result["exit_code"])


def known_jobs(store: "Store") -> list[str]:
    """The jobs of a store, by name."""
    keys = (key.split("/") for key in store.list_keys("jobs"))
    return sorted({parts[1] for parts in keys if parts[2:] == ["job.json"]})


def known_job(store: "Store", job: str, out: str) -> str:
    """The job, if the store has it. Raises Refused."""
    jobs = known_jobs(store)
    if job not in jobs:
        shown = ", ".join(jobs[:10]) + (f" and {len(jobs) - 10} more" if len(jobs) > 10 else "")
        raise Refused(f"there is no job {job!r} in {out}: {'it has ' + shown if jobs else 'it has none'}")
    return job


def latest(store: "Store", job: str) -> tuple[int, dict[str, Any] | None]:
    """The job's latest driver, 0 if none ever began, and what it ended with, None if it has not."""
    try:
        drivers = store.list_keys(f"jobs/{job}/driver")
    except ValueError as error:
        raise Refused(f"{job!r} is no job id") from error
    left = {key.rsplit("/", 1)[1].removesuffix(".json") for key in store.list_keys(f"jobs/{job}/left")}
    found = [driver[1] for driver in map(DRIVER.search, drivers) if driver]  # others are no drivers
    epochs = [int(epoch) for epoch in found if epoch not in left]
    if not epochs:
        return 0, None
    epoch = max(epochs)
    return epoch, store.read_marker(f"jobs/{job}/ended/{epoch:06}.json")


def standing(store: "Store", job: str) -> Standing:
    """All that the store tells of a job."""
    from manifests.ledger import fold, iter_events

    record, (epoch, result) = store.read_marker(f"jobs/{job}/job.json") or {}, latest(store, job)
    times: list[datetime] = []
    folded = fold(_timed(iter_events(store, job), times))
    last = max(times, default=None)
    return Standing(
        job_id=job,
        status=result["status"] if result else "running",
        exit_code=result["exit_code"] if result else None,
        films=int(record.get("films", 0)),
        driver=epoch,
        last_event=last.isoformat(timespec="seconds") if last else None,
        quiet_s=round((datetime.now(UTC) - last).total_seconds(), 1) if last else None,
        tasks=_tasks(folded.tasks),
        lost_workers=folded.totals.events["lost"],
        errors=_errors(folded.tasks),
        gpu=spent_of(store, job) if result else {"used_s": _used_s(store, job)},
        result=result,
        manifest=str(record.get("manifest", "")),
        forecast=None if result else store.read_marker(f"jobs/{job}/forecast.json"),
    )


def _timed(segments: Iterable[Any], times: list[datetime]) -> Iterator[Any]:
    """The segments, as their last times are noted: the ledger is read once, a segment at a time."""
    for segment in segments:
        times += [max(segment["ts"].to_pylist())] if len(segment) else []
        yield segment


def _used_s(store: "Store", job: str) -> float:
    from jobs.spent import spent_by_run

    return round(sum(spent_by_run(store, job).values()), 3)


def spent_of(store: "Store", job: str) -> dict[str, Any]:
    """The bills of a job's drivers as one, and how many of them left none, as killed ones do.

    Of those it is known what they used, nearly, and not for what.
    """
    from jobs.spent import bills, spent_by_run

    keys = store.list_keys(bills(job))
    told = [bill for key in keys if (bill := store.read_marker(key)) is not None]
    used_s = round(sum(spent_by_run(store, job).values()), 6)
    return added(told) | {"used_s": used_s, "unbilled": latest(store, job)[0] - len(told)}


def _tasks(tasks: Any) -> dict[str, dict[str, int]]:
    """Kind to event to number of tasks; a failed task's kind may be unknown."""
    found: dict[str, dict[str, int]] = {}
    for row in tasks.group_by(["kind", "event"]).aggregate([([], "count_all")]).to_pylist():
        found.setdefault(row["kind"] or "task", {})[row["event"]] = row["count_all"]
    return dict(sorted(found.items()))


def _errors(tasks: Any) -> list[dict[str, Any]]:
    """The codes of tasks that stand as failed, each with its number and one message."""
    groups = tasks.group_by(["event", "code"]).aggregate([("task_key", "count"), ("message", "min")])
    found = [
        {"code": group["code"], "tasks": group["task_key_count"], "example": group["message_min"]}
        for group in groups.to_pylist()
        if group["event"] == "failed"
    ]
    return sorted(found, key=lambda error: -error["tasks"])


def _verdict(one: Standing) -> str:
    """The job in one line."""
    if one.result:
        return _ended(one.result)
    if one.quiet_s is None:
        return f"{one.job_id}: begun, nothing has happened yet"
    if one.quiet_s > QUIET_S:
        return (
            f"{one.job_id}: no word for {_time(one.quiet_s)}; a long step, or its driver is gone: "
            "the same command goes on where it stopped"
        )
    return f"{one.job_id}: running, last event {_time(one.quiet_s)} ago"


def _ended(result: dict[str, Any]) -> str:
    counts = [f"{result['done']} of {result['films']} films done"]
    counts += [f"{result[name]} {name}" for name in ("reused", "failed", "invalid") if result[name]]
    took = f"exit code {result['exit_code']}, took {_time(result['seconds'])}"
    return f"{result['job_id']}: {result['status']}; {', '.join(counts)}; {took}"


def _lines(one: Standing) -> Iterator[str]:
    """The job for people, most important first."""
    yield _verdict(one)
    yield f"  films     {one.films} from {one.manifest}"
    for kind, events in one.tasks.items():
        yield f"  {kind:9} {', '.join(f'{count:,} {event}' for event, count in sorted(events.items()))}"
    yield f"  driver    {one.driver}" + (f", last event {one.last_event}" if one.last_event else "")
    if one.forecast:
        yield from _forecast(one.forecast)
    if words := spoken(one.gpu):
        more = f"; {n} drivers were killed and left no bill" if (n := one.gpu.get("unbilled")) else ""
        yield f"  spent     {', '.join(words)}{more}"
    if one.lost_workers:
        yield f"  workers   {one.lost_workers} lost and replaced"
    for error in one.errors[:TOP]:
        yield f"  {error['code']}  {error['tasks']:,} times  {error['example']}"
    if one.result and one.result["results"]:
        yield f"  results   {one.result['results']}"
        yield f"  report    {one.result['report']}"


def _forecast(note: dict[str, Any]) -> Iterator[str]:
    """When the job may end, or since when it stands still."""
    since, end, due = (
        datetime.fromisoformat(note[name]) if note.get(name) else None
        for name in ("stands_since", "predicted_end", "deadline")
    )
    if since:
        yield f"  stands    nothing was done since {since:%Y-%m-%d %H:%M} UTC"
    if due and end:
        yield f"  deadline  {told(end, due)}"
    elif due:
        yield f"  deadline  {due:%Y-%m-%d %H:%M} UTC; when the job will end cannot be told"


def _time(seconds: float) -> str:
    """A time to the second below an hour, else to the minute."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
    )
