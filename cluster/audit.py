"""What must be true of a job's folder whatever happened to the job; each broken rule is told with its place.

Of a job that has not come to its end only so much can be checked as was told of it: the rest is told too.

Decides: which rules there are. Does not decide: how they are told (jobs.audit), or how anything is mended.
"""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.leftovers import finished_checkpoints
from cluster.once import found, marker_key
from manifests.finished import listed_rows
from manifests.ledger import FINAL, fold, iter_events
from manifests.results import read_results, status_of
from manifests.store import Corrupt, Store, StoreError

RULES = {
    "ledger": "no event of any driver is missing",
    "markers": "every task that was told as done has its marker, and files of the right size and hash",
    "films": "every film that was told as done is published, as it was when it was told",
    "counts": "the results have a row for every film, and as many of each kind as the job's last word says",
    "leftovers": "no checkpoint is kept of a shot that is finished",
}


@dataclass(frozen=True)
class Broken:
    """A rule that does not hold, and where."""

    rule: str
    where: str
    what: str


@dataclass(frozen=True)
class Unchecked:
    """A rule that cannot be checked, or not for all, of a job that has not come to its end; and why."""

    rule: str
    where: str
    what: str


Findings = Iterator[Broken | Unchecked]


@dataclass(frozen=True)
class Task:
    """A task that the ledger tells as done, and the film that it was done for."""

    kind: str
    key: str
    row_id: str | None


def audit(store: Store, job_id: str, ended: dict[str, Any] | None) -> Findings:
    """Every rule against one job; `ended` is what its last driver ended with, if it has. Raises OSError."""
    done, findings = _ledger(store, job_id)
    yield from findings
    hashes = set[str]()  # SHA-256 of films, as their makers told it
    for task in done:
        yield from _marker(store, task, hashes)
    if ended is not None and ended.get("results"):
        yield from _results(store, job_id, ended)
    else:
        yield from _films_so_far(store, job_id, done, hashes)
        why = "its last driver runs still, or is gone without a word"
        if ended is not None:
            why = f"its last driver ended as {ended['status']} before there were results"
        yield Unchecked("counts", f"jobs/{job_id}", f"{why}; the same command goes on")
    yield from _leftovers(store)


def _ledger(store: Store, job_id: str) -> tuple[list[Task], list[Broken | Unchecked]]:
    """The tasks that the ledger tells as done, and what is wrong with it."""
    where, told = f"jobs/{job_id}/ledger", set[int]()
    try:
        tasks = fold(_by_driver(iter_events(store, job_id), told)).tasks
        silent = drivers_that_worked(store, job_id) - told
    except StoreError as error:
        return [], [Broken("ledger", where, str(error))]
    rows = tasks.select(["task_key", "kind", "row_id", "event"]).to_pylist()
    done = [Task(row["kind"], row["task_key"], row["row_id"]) for row in rows if row["event"] in FINAL]
    if not told and not silent:
        return done, [_untold(store, where)]
    what = "driver {} had work done, and there is no event of it"
    return done, [Broken("ledger", f"{where}/drv={each:06}", what.format(each)) for each in sorted(silent)]


def _by_driver(events: Iterable[Any], told: set[int]) -> Iterator[Any]:
    """The pieces of the ledger, with the drivers of their events noted in `told`."""
    for table in events:
        told.update(table["driver_epoch"].unique().to_pylist())
        yield table


_WORK = ["driver_epoch", "reused"]
_DRIVER = re.compile(r"/(\d{6,})\.json$")


def drivers_that_worked(store: Store, job_id: str) -> set[int]:
    """Drivers that had gangs at work or a film made, by what else they left. Raises StoreError, OSError."""
    worked = {row["driver_epoch"] for row in listed_rows(store, job_id, _WORK) if not row["reused"]}
    for folder in ("bill", "ended"):
        for key in store.list_keys(f"jobs/{job_id}/{folder}"):
            left, match = store.read_marker(key) or {}, _DRIVER.search(key)
            made = left.get("done", 0) - left.get("reused", 0) if left.get("results") else 0
            if match and (left.get("used_s", 0.0) > 0 or made > 0):
                worked.add(int(match[1]))
    return worked


def _untold(store: Store, where: str) -> Broken | Unchecked:
    """Of a job without any event: it has done nothing yet, unless there are markers that no job tells of."""
    others = any("/ledger/" in key for key in store.list_keys("jobs"))
    if not others and (markers := store.list_keys("done")):
        what = f"there are {len(markers):,} markers of finished tasks, and no event of any"
        return Broken("ledger", where, what)
    return Unchecked("ledger", where, "no driver has recorded anything yet")


def _marker(store: Store, task: Task, hashes: set[str]) -> Iterator[Broken]:
    """Check a task that was done; what it tells of a film goes into `hashes`."""
    where = marker_key(task.kind, task.key)
    try:
        outcome = found(store, task.kind, task.key)
        if outcome is None:
            yield Broken("markers", where, "there is no marker of a task that was done")
            return
        hashes.add(outcome.facts.get("sha256", ""))
        for hash in outcome.files.values():
            _check_artefact(store, hash)
    except (StoreError, FileNotFoundError, Corrupt) as error:
        yield Broken("markers", where, str(error))


def _check_artefact(store: Store, hash: str) -> None:
    """Raises Corrupt or FileNotFoundError; constant memory."""
    with tempfile.TemporaryDirectory(prefix="longtake-audit-") as folder:
        store.fetch_artefact(hash, Path(folder, hash))


def _results(store: Store, job_id: str, ended: dict[str, Any]) -> Findings:
    where = f"jobs/{job_id}/results.parquet"
    try:
        rows = read_results(store, where).select(_COLUMNS).to_pylist()
    except StoreError as error:
        yield Broken("films", where, str(error))
        return
    for row in rows:
        if row["status"] == "done" and (what := _unlike(store, row)):
            yield Broken("films", row["output_uri"], what)
    counted = _films(rows)
    for name, number in counted.items():
        if ended[name] != number:
            what = f"the job's last word has {ended[name]} films {name}, its results {number}"
            yield Broken("counts", where, what)


def _films_so_far(store: Store, job_id: str, done: Sequence[Task], hashes: Collection[str]) -> Findings:
    """Films of a job without results: those that drivers listed, and those whose notes say they were shown.

    A film that is made once more may be shown and not listed yet, as its maker told it.
    """
    try:
        listed = {row["output_uri"]: row for row in listed_rows(store, job_id, _COLUMNS)}
    except StoreError as error:
        yield Broken("films", f"jobs/{job_id}/finished", str(error))
        return
    for key, row in listed.items():
        if what := _unlike(store, row, hashes):
            yield Broken("films", key, what)
    made = {task.row_id for task in done if task.kind == "version" and task.row_id}
    unlisted = sorted(made - {row["row_id"] for row in listed.values()})
    noted, shown = ({_row_of(key) for key in store.list_keys(folder)} for folder in ("notes", "films"))
    for row_id in unlisted:
        if row_id in noted and row_id not in shown:
            yield Broken(
                "films", f"films/{row_id}.*.mp4", "the film is gone, and its note says that it was shown"
            )
    if unlisted:
        what = f"{len(unlisted):,} films were about to be finished, and nobody listed what was shown of them"
        yield Unchecked("films", f"jobs/{job_id}/finished", what)


def _row_of(key: str) -> str:
    """The row of films/ROW.LANG.mp4, or of notes/ROW.json."""
    folder, name = key.split("/", 1)
    return name.rsplit(".", 2 if folder == "films" else 1)[0]


_COLUMNS = ["row_id", "lang", "status", "output_uri", "output_bytes", "output_sha256"]


def _unlike(store: Store, row: dict[str, Any], hashes: Collection[str] = ()) -> str | None:
    """How a published film differs from what was told of it, or of another version of it by its hash."""
    data = store.read(row["output_uri"])
    if data is None:
        return "the film is gone"
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 in hashes:
        return None
    if len(data) != row["output_bytes"]:
        return f"the film has {len(data):,} bytes, and had {row['output_bytes']:,}"
    if sha256 != row["output_sha256"]:
        return "the film was changed since: its SHA-256 is another"
    return None


def _films(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many films there are of each kind."""
    statuses: dict[str, set[str]] = {}
    for row in rows:
        statuses.setdefault(row["row_id"], set()).add(row["status"])
    kinds = Counter(map(status_of, statuses.values()))
    return {"done": kinds["done"], "failed": kinds["failed"], "films": len(statuses)}


def _leftovers(store: Store) -> Findings:
    for key in finished_checkpoints(store):
        yield Broken("leftovers", key, "a checkpoint of a shot that is finished")
