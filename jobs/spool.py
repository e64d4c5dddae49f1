"""Where rows of results wait for a job's end, and films are counted meanwhile."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.dropping import DEADLINE, SOFT
from manifests.finished import Finished
from manifests.results import status_of


class Spool:
    """Rows of results on the local disk until the job ends, so that their number costs no memory."""

    def __init__(self, path: Path, job_id: str, epoch: int) -> None:
        self.path, self.common = path, {"job_id": job_id, "driver_epoch": epoch}
        self.films: Counter[str] = Counter()
        self._lines = 0
        self._void: dict[str, int] = {}  # row -> lines before this one do not count
        self._adopted: Finished | None = None
        path.touch()

    def add(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Append one film's rows and count the film: it is done only in all its languages; the whole rows."""
        now = datetime.now(UTC)
        common = self.common | {"finished_at": now.isoformat()}
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row | common, ensure_ascii=False) + "\n" for row in rows)
        self._lines += len(rows)
        self.films.update(_counted(rows))
        return [row | self.common | {"finished_at": now} for row in rows]

    def adopt(self, finished: Finished) -> None:
        """Count films that earlier drivers finished; their rows come before all others."""
        self.films["done"] += finished.n_films
        self.films["reused"] += finished.n_films
        self._adopted = finished

    def forget(self, places: Any) -> None:
        """Rows of the manifest (numpy bool) are made again: of adopted films theirs do not count any more."""
        n = self._adopted.forget(places) if self._adopted else 0
        self.films.subtract({"done": n, "reused": n})

    def void(self, row_ids: Collection[str]) -> None:
        """Films are made again: what was added of them does not count any more."""
        before: dict[str, list[dict[str, Any]]] = {}
        for row in self._own():
            if row["row_id"] in row_ids:
                before.setdefault(row["row_id"], []).append(row)
        for rows in before.values():
            self.films.subtract(_counted(rows))
        self._void |= dict.fromkeys(row_ids, self._lines)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows again, in the order of their addition."""
        yield from self._adopted.rows() if self._adopted else ()
        yield from self._own()

    def _own(self) -> Iterator[dict[str, Any]]:
        """Those that were added here and still count."""
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                if number < self._void.get(row["row_id"], 0):
                    continue
                yield row | {"finished_at": datetime.fromisoformat(row["finished_at"])}


def _counted(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """One film by its rows."""
    counts = Counter({status_of([row["status"] for row in rows]): 1})
    counts["reused"] = all(row.get("reused") for row in rows)
    counts["dropped"] = any(row.get("code") in (DEADLINE, SOFT) for row in rows)
    return counts
