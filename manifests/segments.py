"""Segments of one writer: numbered files below a prefix of its own, each put once and never rewritten.

Killing a writer loses what it has not flushed, never anything earlier, and no two writers meet as long as
each has a prefix of its own.
Decides: when a segment is due, and whether a refused put was ours after all. Does not decide: what a segment
holds, or how it is read (ledger, finished).
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from manifests.places import StoreError
from manifests.store import Store

Item = TypeVar("Item")


class Segments(Generic[Item]):
    """Items wait until `most` of them do, or the first has for `max_age_s`; `seal` makes bytes of them.

    Not for several threads.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        seal: Callable[[list[Item]], bytes],
        most: int,
        max_age_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._prefix, self._seal = store, prefix, seal
        self._most, self._max_age_s, self._clock = most, max_age_s, clock
        self._waiting: list[Item] = []
        self._sealed: tuple[bytes, int] | None = None  # a segment whose put is not known to have succeeded
        self._oldest_s, self._number = 0.0, 0

    def add(self, item: Item) -> None:
        """Take one, and put nothing yet."""
        if not self._waiting:
            self._oldest_s = self._clock()
        self._waiting.append(item)

    def flush_if_due(self) -> None:
        """Flush when enough wait, or the first has waited long enough. Raises as ``flush``."""
        full = len(self._waiting) >= self._most
        if full or (self._waiting and self._clock() - self._oldest_s >= self._max_age_s):
            self.flush()

    def flush(self) -> None:
        """All that was taken so far is durable. Raises OSError (call again), StoreError (another writer)."""
        while self._waiting:
            # Sealed once and put until it is known to be there: sealing again could add items under
            # a name that the lost first put has already given away.
            self._sealed = self._sealed or (self._seal(self._waiting), len(self._waiting))
            data, count = self._sealed
            self._put(f"{self._prefix}/seg-{self._number + 1:09}.parquet", data)
            self._number += 1
            self._sealed = None
            del self._waiting[:count]

    def _put(self, key: str, data: bytes) -> None:
        if not self._store.put_new(key, data) and self._store.read(key) != data:
            todo = "give every driver an epoch of its own with claim_epoch"
            raise StoreError("another driver writes this segment", f"{self._store.url}/{key}", todo)
