"""The films of a job that are finished, with their rows of results, for the driver that takes the job over.

A driver lists finished films in segments below a prefix of its own epoch, each put once and never
rewritten, as the ledger does. Its successor reads them, where a marker for every task would have to be
asked for one by one. A film stands here once it is published, so killing a driver leaves at most its last
films to be looked for.

Decides: how finished films are listed and read. Does not decide: when to believe the list (jobs.takeover).
"""

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.places import StoreError
from manifests.results import RESULTS
from manifests.schema import VERSION_KEY, column
from manifests.sealed import seal, unseal
from manifests.segments import Segments
from manifests.store import Store

MAX_FILMS = 1000  # of a segment
MAX_AGE_S = 30.0
_AT_ONCE = 8  # segments that are read ahead
_OWN = [
    column("place", pa.int64(), "none", "Which row of the manifest the film is, from 0."),
    column("predictions", pa.int64(), "none", "Window predictions of its shots."),
]
FINISHED = pa.schema([*_OWN, *RESULTS], metadata={VERSION_KEY: b"finished/1.0"})
_BEFORE = {"reused": True, "render_s": 0.0, "gpu_used_s": 0.0, "gpu_wasted_s": 0.0}
_SEGMENT = re.compile(r"/drv=(\d{6,})/seg-\d{9,}\.parquet$")


class Finishing:
    """The one writer of a driver epoch. Not for several threads. Flushed as in segments."""

    def __init__(
        self,
        store: Store,
        job_id: str,
        asked: str,
        epoch: int,
        *,
        max_films: int = MAX_FILMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        prefix = f"{_folder(job_id, asked)}/drv={epoch:06}"
        self._films = Segments(store, prefix, _sealed, max_films, MAX_AGE_S, clock)
        self.flush_if_due, self.flush = self._films.flush_if_due, self._films.flush

    def add(self, place: int, predictions: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take a film that is published, by its place in the manifest. Raises as ``flush``."""
        self._films.add([{"place": place, "predictions": predictions, **row} for row in rows])
        self.flush_if_due()

    def __enter__(self) -> "Finishing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


class Finished:
    """What earlier drivers listed: `there`, numpy bool, says of each row of the manifest whether it is.

    `saved_s` are the GPU-seconds that the films need not take again.
    """

    def __init__(self, store: Store, job_id: str, asked: str, epoch: int, n_rows: int) -> None:
        """Read the lists of all earlier epochs than this. Raises StoreError (damaged), OSError."""
        self._store = store
        found = ((key, _SEGMENT.search(key)) for key in store.list_keys(_folder(job_id, asked)))
        self._keys = [key for key, match in found if match and int(match[1]) < epoch]
        self.there, self.predictions, self.saved_s = np.zeros(n_rows, bool), 0, 0.0
        for table in self._tables():
            places, first = np.unique(table["place"].to_numpy(), return_index=True)
            new = (places < n_rows) & ~self.there[np.minimum(places, n_rows - 1)]
            self.predictions += int(table["predictions"].to_numpy()[first[new]].sum())
            self.saved_s += float(_kept_s(table)[first[new]].sum())
            self.there[places[new]] = True

    @property
    def n_films(self) -> int:
        """How many films are listed."""
        return int(self.there.sum())

    def forget(self, places: Any) -> int:
        """Films at these places (numpy bool) are to be made again: how many of them were listed."""
        n = int((self.there & places).sum())
        self.there &= ~places
        return n

    def rows(self) -> Iterator[dict[str, Any]]:
        """Their rows of results, as a driver that found them has them: made before. Raises as __init__."""
        told = np.zeros(len(self.there), bool)
        for table in self._tables():
            places = table["place"].to_numpy()
            fresh = self.there[places] & ~told[places]  # two drivers at once may both list a film
            told[places] = True
            saved = pa.array(_kept_s(table), pa.float64())
            table = table.set_column(table.schema.get_field_index("gpu_saved_s"), "gpu_saved_s", saved)
            for row in table.filter(pa.array(fresh)).drop(["place", "predictions"]).to_pylist():
                yield row | _BEFORE | {"cost": None if row["cost"] is None else 0.0}

    def _tables(self) -> Iterator[pa.Table]:
        """The segments in their order, some read ahead."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for start in range(0, len(self._keys), _AT_ONCE):
                yield from threads.map(self._table, self._keys[start : start + _AT_ONCE])

    def _table(self, key: str) -> pa.Table:
        return _read(self._store, key)


def listed_rows(
    store: Store, job_id: str, columns: Sequence[str], *, newest_first: bool = False
) -> Iterator[dict[str, Any]]:
    """These columns of all films' rows of results that any driver listed, those of later drivers last.

    In the memory of a segment. Raises StoreError (damaged), OSError.
    """
    found = [
        (int(match[1]), key)
        for key in store.list_keys(f"jobs/{job_id}/finished")
        if (match := _SEGMENT.search(key))
    ]
    for _, key in sorted(found, reverse=newest_first):
        rows = _read(store, key).select(columns).to_pylist()
        yield from reversed(rows) if newest_first else rows


def _read(store: Store, key: str) -> pa.Table:
    data, where = store.read(key), f"{store.url}/{key}"
    if data is None:
        raise StoreError("a list of finished films is gone", where, "give the same command again")
    return unseal(data, FINISHED, where)


def _kept_s(table: pa.Table) -> Any:
    """GPU-seconds that went into each row's film, numpy."""
    used, wasted, saved = (
        pc.fill_null(table[name], 0.0).to_numpy() for name in ("gpu_used_s", "gpu_wasted_s", "gpu_saved_s")
    )
    return np.maximum(used - wasted, 0.0) + saved


def _sealed(films: Sequence[Sequence[Mapping[str, Any]]]) -> bytes:
    out, rows = io.BytesIO(), [row for film in films for row in film]
    seal([pa.RecordBatch.from_pylist(rows, schema=FINISHED)], FINISHED, out)
    return out.getvalue()


def _folder(job_id: str, asked: str) -> str:
    return f"jobs/{job_id}/finished/{asked}"
