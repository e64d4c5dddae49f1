"""Where rows of results wait for a job's end, and films are counted meanwhile."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifests.finished import Finished


class Spool:
    """Rows of results on the local disk until the job ends, so that their number costs no memory."""

    def __init__(self, path: Path, job_id: str, epoch: int) -> None:
        self.path, self.common = path, {"job_id": job_id, "driver_epoch": epoch}
        self.films: Counter[str] = Counter()
        self._lines = 0
        self._void: dict[str, int] = {}  # row -> lines before this one do not count
        self._before: Callable[[], Iterator[dict[str, Any]]] = lambda: iter(())
        path.touch()

    def add(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Append one film's rows and count the film: it is done only in all its languages; the whole rows."""
        now = datetime.now(UTC)
        common = self.common | {"finished_at": now.isoformat()}
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row | common, ensure_ascii=False) + "\n" for row in rows)
        self._lines += len(rows)
        statuses = {row["status"] for row in rows}
        self.films[statuses.pop() if len(statuses) == 1 else "failed"] += 1
        self.films["reused"] += all(row.get("reused") for row in rows)
        return [row | self.common | {"finished_at": now} for row in rows]

    def adopt(self, finished: Finished) -> None:
        """Count films that earlier drivers finished; their rows come before all others."""
        self.films["done"] += finished.n_films
        self.films["reused"] += finished.n_films
        self._before = finished.rows

    def void(self, row_ids: Collection[str]) -> None:
        """Films that failed are made again: what was added of them does not count any more."""
        self.films["failed"] -= len(row_ids)
        self._void |= dict.fromkeys(row_ids, self._lines)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows again, in the order of their addition."""
        yield from self._before()
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                if number < self._void.get(row["row_id"], 0):
                    continue
                yield row | {"finished_at": datetime.fromisoformat(row["finished_at"])}
