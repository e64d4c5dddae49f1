"""Of an audit: whether films are shown as they were told, and whether they are counted right.

What is kept of a row of results are some numbers, and of a film its hash: a job may have millions.

Decides: what is asked of films. Does not decide: which tasks were done (cluster.audit), or how it is told.
"""

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cluster.unsound import Broken, Findings, Unchecked
from manifests.finished import listed_rows
from manifests.names import Names, hash_of
from manifests.results import STATUSES, iter_results
from manifests.store import Store, StoreError

COLUMNS = ["row_id", "lang", "status", "output_uri", "output_bytes", "output_sha256"]
AT_ONCE = 1000  # rows that are held
_CHUNK = 1 << 20
_SLACK_S = 1e-3


class Count:
    """How films ended, and what gangs spent on them, by rows in any order: 17 bytes a row."""

    def __init__(self) -> None:
        self._films, self._bits, self._used_s = array("Q"), array("B"), array("d")

    def add(self, row: dict[str, Any]) -> None:
        """One more row of results."""
        self._films.append(hash_of(row["row_id"]))
        self._bits.append(1 << STATUSES.index(row["status"]))
        self._used_s.append(row["gpu_used_s"] or 0.0)

    def end(self) -> tuple[dict[str, int], float]:
        """Films of each kind, as `status_of` has them; GPU-seconds, which each row of a film has the same."""
        if not self._films:
            return {"done": 0, "failed": 0, "films": 0}, 0.0
        films = np.frombuffer(self._films, np.uint64)
        order = np.argsort(films, kind="stable")
        firsts = np.flatnonzero(np.diff(films[order], prepend=~films[order[:1]]))
        bits = np.bitwise_or.reduceat(np.frombuffer(self._bits, np.uint8)[order], firsts)
        done, _, invalid = (int((bits == 1 << n).sum()) for n in range(len(STATUSES)))
        used_s = np.frombuffer(self._used_s)[order[firsts]]
        counts = {"done": done, "failed": len(bits) - done - invalid, "films": len(bits)}
        return counts, float(used_s.sum())


def results(store: Store, job_id: str, ended: dict[str, Any]) -> Findings:
    """Of a job with results: its films, their number, and what is on the bill for them."""
    where, count = f"jobs/{job_id}/results.parquet", Count()
    try:
        for row in iter_results(store, where):
            count.add(row)
            if row["status"] == "done" and (what := unlike(store, row)):
                yield Broken("films", row["output_uri"], what)
    except StoreError as error:
        yield Broken("films", where, str(error))
        return
    counted, used_s = count.end()
    for name, number in counted.items():
        if ended[name] != number:
            what = f"the job's last word has {ended[name]} films {name}, its results {number}"
            yield Broken("counts", where, what)
    if (kinds := sum(ended[name] for name in ("done", "failed", "invalid"))) != ended["films"]:
        what = f"of {ended['films']} films the job's last word has {kinds} done, failed or invalid"
        yield Broken("counts", where, what)
    billed_s = (ended.get("gpu") or {}).get("used_s", used_s)
    if used_s > billed_s + _SLACK_S:  # less is lawful: what came late is the job's alone
        what = f"its films took {used_s:,.3f} GPU-seconds, and the run's bill has {billed_s:,.3f}"
        yield Broken("spent", where, what)


def films_so_far(store: Store, job_id: str, made: Callable[[], Iterator[str]], hashes: Names) -> Findings:
    """Films of a job without results: those that drivers listed, and those whose notes say they were shown.

    `made` gives the rows of all versions that were made. A film that is made once more may be shown and not
    listed yet, as its maker told it: `hashes` are the SHA-256 of all that makers told.
    """
    listed, uris = Names(), Names()
    try:
        for rows in _grouped(listed_rows(store, job_id, COLUMNS, newest_first=True)):
            listed.meet([row["row_id"] for row in rows])
            newest = uris.meet([row["output_uri"] for row in rows])
            for row in (row for row, is_newest in zip(rows, newest, strict=True) if is_newest):
                if what := unlike(store, row, hashes):
                    yield Broken("films", row["output_uri"], what)
    except StoreError as error:
        yield Broken("films", f"jobs/{job_id}/finished", str(error))
        return
    yield from _unlisted(store, job_id, made(), listed)


def _unlisted(store: Store, job_id: str, made: Iterator[str], seen: Names) -> Findings:
    """Films that were made and not listed; what is shown is listed only if there are any."""
    shown, n_unlisted = None, 0
    for rows in _grouped(made):
        for row_id in (row for row, fresh in zip(rows, seen.meet(rows), strict=True) if fresh):
            n_unlisted += 1
            if store.read(f"notes/{row_id}.json") is None:
                continue
            shown = _shown(store) if shown is None else shown
            if not shown.met([row_id])[0]:
                what = "the film is gone, and its note says that it was shown"
                yield Broken("films", f"films/{row_id}.*.mp4", what)
    if n_unlisted:
        what = f"{n_unlisted:,} films were about to be finished, and nobody listed what was shown of them"
        yield Unchecked("films", f"jobs/{job_id}/finished", what)


def _shown(store: Store) -> Names:
    """The rows of which a film or its captions are shown, as films/ROW.LANG.mp4."""
    names = Names()
    for keys in _grouped(iter(store.list_keys("films"))):
        names.meet([key.split("/", 1)[1].rsplit(".", 2)[0] for key in keys])
    return names


def unlike(store: Store, row: dict[str, Any], hashes: Names | None = None) -> str | None:
    """How a published film differs from what was told of it, or of another version of it by its hash."""
    with tempfile.TemporaryDirectory(prefix="longtake-audit-") as folder:
        path = Path(folder, "film")
        if not store.fetch(row["output_uri"], path):
            return "the film is gone"
        n_bytes, sha256 = path.stat().st_size, _sha256(path)
    if hashes is not None and hashes.met([sha256])[0]:
        return None
    if n_bytes != row["output_bytes"]:
        return f"the film has {n_bytes:,} bytes, and had {row['output_bytes']:,}"
    if sha256 != row["output_sha256"]:
        return "the film was changed since: its SHA-256 is another"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as film:
        while chunk := film.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _grouped(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, AT_ONCE)):
        yield group
