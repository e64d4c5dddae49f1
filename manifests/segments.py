"""Segments of one writer: numbered files below a prefix of its own, each put once and never rewritten.

    seg-NUMBER.parquet      what was flushed at once; numbers go from 1, without gaps
    upto-NUMBER.parquet     MERGED of those as one, by the number of its last

Killing a writer loses what it has not flushed, never anything earlier, and no two writers meet as long as
each has a prefix of its own: one that is thought dead and is not merges its own segments and nobody else's.
A merged segment is put before the first of those that it replaces is removed, and is itself kept for ever. So
whoever looks for a number there, and only then in the merged one, finds it if it was ever put. The very first
segment stays too: a second writer of the same prefix is refused at its first put.

Decides: when a segment is due and which are merged, whether a refused put was ours after all, and where a
number is found. Does not decide: what a segment holds, or what it is read for (ledger, finished).
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from manifests.full import DiskFull, StoreFull
from manifests.places import StoreError
from manifests.store import Store

MERGED = 100  # segments in a merged one: readers know it from here, so it is part of the format
REMOVED = 8  # replaced segments at each flush: a remote store takes tens of ms for each, and work waits
_NAME = re.compile(r"/(?:seg|upto)-(\d{9,})\.parquet$")

Item = TypeVar("Item")


class Segments(Generic[Item]):
    """Items wait until `most` of them do, or the first has for `max_age_s`; `seal` makes bytes of them.

    `merge`, if given, makes one segment's bytes of those of MERGED. Not for several threads.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        seal: Callable[[list[Item]], bytes],
        most: int,
        max_age_s: float,
        clock: Callable[[], float],
        merge: Callable[[list[bytes]], bytes] | None = None,
    ) -> None:
        self._store, self._prefix, self._seal, self._merge = store, prefix, seal, merge
        self._most, self._max_age_s, self._clock = most, max_age_s, clock
        self._waiting: list[Item] = []
        self._sealed: tuple[bytes, int] | None = None  # a segment whose put is not known to have succeeded
        self._oldest_s, self._number = 0.0, 0
        self._loose: list[bytes] = []  # the latest segments, which are in no merged one
        self._merging: bytes | None = None  # a merged one whose put is not known to have succeeded
        self._replaced: list[str] = []

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
            self._put(loose(self._prefix, self._number + 1), data)
            self._number += 1
            self._sealed = None
            del self._waiting[:count]
            self._loose += [data] if self._merge else []
        with suppress(OSError, StoreFull, DiskFull):  # all is durable: this can wait for the next flush
            self._compact()

    def _compact(self) -> None:
        """Merge the oldest segments once there are enough, and take away a few that have been merged."""
        if self._merge and len(self._loose) >= MERGED:
            first = self._number - len(self._loose) + 1
            self._merging = self._merging or self._merge(self._loose[:MERGED])
            self._put(merged(self._prefix, first), self._merging)
            self._merging = None
            del self._loose[:MERGED]
            replaced = range(max(first, 2), first + MERGED)  # the first one stays
            self._replaced += [loose(self._prefix, number) for number in replaced]
        for key in self._replaced[:REMOVED]:
            self._store.remove(key)
            self._replaced.remove(key)

    def _put(self, key: str, data: bytes) -> None:
        if not self._store.put_new(key, data) and self._store.read(key) != data:
            todo = "give every driver an epoch of its own with claim_epoch"
            raise StoreError("another driver writes this segment", f"{self._store.url}/{key}", todo)


def loose(prefix: str, number: int) -> str:
    """The key of a segment."""
    return f"{prefix}/seg-{number:09}.parquet"


def merged(prefix: str, number: int) -> str:
    """The key of the merged segment that a segment goes into."""
    return f"{prefix}/upto-{-(-number // MERGED) * MERGED:09}.parquet"


def last_of(keys: Collection[str]) -> int:
    """The highest number among the keys of one writer's segments, 0 for none."""
    found = [_NAME.search(key) for key in keys]
    return max((int(match[1]) for match in found if match), default=0)


def replaced(keys: Collection[str]) -> Iterator[str]:
    """Those of these keys that are in a merged segment among them; the first of a writer is not.

    A writer takes them away itself, unless it is killed before.
    """
    there = set(keys)
    for key in keys:
        prefix, number = key.rpartition("/")[0], last_of([key])
        if number > 1 and key == loose(prefix, number) and merged(prefix, number) in there:
            yield key


def find(store: Store, prefix: str, number: int, listed: Collection[str]) -> tuple[str, bytes] | None:
    """Where a segment is, alone or merged, and the bytes there; None if it was never put. Raises OSError.

    Only a merged one may be believed to be where it was `listed`: it is never removed.
    """
    alone, among_others = loose(prefix, number), merged(prefix, number)
    order = [among_others] if among_others in listed else [alone, among_others]
    for key in order:
        data = store.read(key)
        if data is not None:
            return key, data
    return None
