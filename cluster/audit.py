"""What must be true of a job's folder whatever happened to the job; each broken rule is told with its place.

Of a job that has not come to its end only so much can be checked as was told of it: the rest is told too.
All is read some at a time, and what is kept of a task or a film are its hashes and numbers: memory grows by
some tens of bytes for each of them.

What writers that were killed left unfinished is no fault of the job: `longtake clean` takes it away.

Decides: which rules there are. Does not decide: how they are told (jobs.audit), or how anything is mended.
"""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from cluster import audit_films, audit_spent
from cluster.audit_spent import Runs
from cluster.leftovers import finished_checkpoints
from cluster.once import found, marker_key
from cluster.unsound import Broken, Findings, Unchecked
from manifests.finished import listed_rows
from manifests.ledger import FINAL, iter_events, of_kinds
from manifests.names import Names
from manifests.store import Corrupt, Store, StoreError

RULES = {
    "ledger": "no event of any driver is missing",
    "markers": "every task that was told as done has its marker, and files of the right size and hash",
    "films": "every film that was told as done is published, as it was when it was told",
    "counts": "the results have a row for every film, and as many of each kind as the job's last word says",
    "spent": "bill, ledger, results and last word of a run have the same GPU-seconds, as far as they tell",
    "budget": "no run took more than its budget left it, and what was under way when that was reached",
    "leftovers": "no checkpoint is kept of a shot that is finished",
}


@dataclass(frozen=True)
class Task:
    """A task that the ledger tells as done, and the film that it was done for."""

    kind: str
    key: str
    row_id: str | None


@dataclass
class Told:
    """What the ledger says of each driver, and what makers said of films: their SHA-256."""

    runs: dict[int, Runs] = field(default_factory=dict)
    hashes: Names = field(default_factory=Names)


def audit(store: Store, job_id: str, ended: dict[str, Any] | None) -> Findings:
    """Every rule against one job; `ended` is what its last driver ended with, if it has. Raises OSError."""
    told = Told()
    try:
        for task in _done(_noting(iter_events(store, job_id), told.runs)):
            yield from _marker(store, task, told.hashes)
        yield from _silent(store, job_id, told)
    except StoreError as error:
        yield Broken("ledger", f"jobs/{job_id}/ledger", str(error))
    else:  # sums of a ledger that is not whole say nothing
        yield from _sums(store, job_id, told)
    if ended is not None and ended.get("results"):
        yield from audit_films.results(store, job_id, ended)
    else:
        yield from audit_films.films_so_far(store, job_id, lambda: _versions(store, job_id), told.hashes)
        why = "its last driver runs still, or is gone without a word"
        if ended is not None:
            why = f"its last driver ended as {ended['status']} before there were results"
        yield Unchecked("counts", f"jobs/{job_id}", f"{why}; the same command goes on")
    yield from _leftovers(store)


def _sums(store: Store, job_id: str, told: Told) -> Findings:
    try:
        yield from audit_spent.sums(store, job_id, told.runs)
    except StoreError as error:
        yield Broken("spent", f"jobs/{job_id}/bill", str(error))


def _noting(events: Iterator[Any], runs: dict[int, Runs]) -> Iterator[Any]:
    """The pieces of the ledger, each of one driver; what its gangs took is noted in `runs`."""
    for table in events:
        runs.setdefault(table["driver_epoch"][0].as_py(), Runs()).add(table)
        yield table


_TASK = ["kind", "task_key", "row_id"]


def _done(events: Iterator[Any]) -> Iterator[Task]:
    """The tasks that the ledger tells as done, each once, as it is first told."""
    met = Names()
    for table in events:
        rows = [row for row in of_kinds(table, FINAL, _TASK) if row["task_key"] is not None]
        for row in compress(rows, met.meet([row["task_key"] for row in rows])):
            yield Task(row["kind"], row["task_key"], row["row_id"])


def _versions(store: Store, job_id: str) -> Iterator[str]:
    """The rows of all versions that were made, of a ledger that may be damaged from some event on."""
    try:
        for task in _done(iter_events(store, job_id)):
            if task.kind == "version" and task.row_id:
                yield task.row_id
    except StoreError:  # which was told
        return


def _silent(store: Store, job_id: str, told: Told) -> Findings:
    """Drivers that had work done, and of which the ledger says nothing. Raises StoreError."""
    where = f"jobs/{job_id}/ledger"
    silent = drivers_that_worked(store, job_id) - told.runs.keys()
    if not told.runs and not silent:
        yield _untold(store, where)
    for epoch in sorted(silent):
        what = f"driver {epoch} had work done, and there is no event of it"
        yield Broken("ledger", f"{where}/drv={epoch:06}", what)


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


def _marker(store: Store, task: Task, hashes: Names) -> Findings:
    """Check a task that was done; what it tells of a film goes into `hashes`."""
    where = marker_key(task.kind, task.key)
    try:
        outcome = found(store, task.kind, task.key)
        if outcome is None:
            yield Broken("markers", where, "there is no marker of a task that was done")
            return
        if "sha256" in outcome.facts:
            hashes.meet([outcome.facts["sha256"]])
        for hash in outcome.files.values():
            _check_artefact(store, hash)
    except (StoreError, FileNotFoundError, Corrupt) as error:
        yield Broken("markers", where, str(error))


def _check_artefact(store: Store, hash: str) -> None:
    """Raises Corrupt or FileNotFoundError; constant memory."""
    with tempfile.TemporaryDirectory(prefix="longtake-audit-") as folder:
        store.fetch_artefact(hash, Path(folder, hash))


def _leftovers(store: Store) -> Findings:
    for key in finished_checkpoints(store):
        yield Broken("leftovers", key, "a checkpoint of a shot that is finished")
