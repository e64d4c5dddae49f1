"""What must be true of a job's folder whatever happened to the job; each broken rule is told with its place.

Decides: which rules there are. Does not decide: how they are told (jobs.audit), or how anything is mended.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.leftovers import finished_checkpoints
from cluster.once import found, marker_key
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


def audit(store: Store, job_id: str, ended: dict[str, Any] | None) -> Iterator[Broken]:
    """Every rule against one job; `ended` is what its last driver ended with, if it has. Raises OSError."""
    done, broken = _ledger(store, job_id)
    yield from broken
    for kind, key in done:
        yield from _marker(store, kind, key)
    if ended is not None and ended.get("results"):
        yield from _results(store, job_id, ended)
    yield from _leftovers(store)


def _ledger(store: Store, job_id: str) -> tuple[list[tuple[str, str]], list[Broken]]:
    """The tasks that the ledger tells as done, by kind and key."""
    try:
        tasks = fold(iter_events(store, job_id)).tasks
    except StoreError as error:
        return [], [Broken("ledger", f"jobs/{job_id}/ledger", str(error))]
    rows = tasks.select(["task_key", "kind", "event"]).to_pylist()
    return [(row["kind"], row["task_key"]) for row in rows if row["event"] in FINAL], []


def _marker(store: Store, kind: str, key: str) -> Iterator[Broken]:
    where = marker_key(kind, key)
    try:
        outcome = found(store, kind, key)
        if outcome is None:
            yield Broken("markers", where, "there is no marker of a task that was done")
            return
        for hash in outcome.files.values():
            _check_artefact(store, hash)
    except (StoreError, FileNotFoundError, Corrupt) as error:
        yield Broken("markers", where, str(error))


def _check_artefact(store: Store, hash: str) -> None:
    """Raises Corrupt or FileNotFoundError; constant memory."""
    with tempfile.TemporaryDirectory(prefix="longtake-audit-") as folder:
        store.fetch_artefact(hash, Path(folder, hash))


def _results(store: Store, job_id: str, ended: dict[str, Any]) -> Iterator[Broken]:
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


_COLUMNS = ["row_id", "lang", "status", "output_uri", "output_bytes", "output_sha256"]


def _unlike(store: Store, row: dict[str, Any]) -> str | None:
    """How a published film differs from what was told of it."""
    data = store.read(row["output_uri"])
    if data is None:
        return "the film is gone"
    if len(data) != row["output_bytes"]:
        return f"the film has {len(data):,} bytes, and had {row['output_bytes']:,}"
    if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
        return "the film was changed since: its SHA-256 is another"
    return None


def _films(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many films there are of each kind."""
    statuses: dict[str, set[str]] = {}
    for row in rows:
        statuses.setdefault(row["row_id"], set()).add(row["status"])
    kinds = Counter(map(status_of, statuses.values()))
    return {"done": kinds["done"], "failed": kinds["failed"], "films": len(statuses)}


def _leftovers(store: Store) -> Iterator[Broken]:
    for key in finished_checkpoints(store):
        yield Broken("leftovers", key, "a checkpoint of a shot that is finished")
