"""A place of which every call is told: how long it took, how many bytes it moved, whether it failed.

Decides: what is told. Does not decide: what becomes of it, or anything about the place.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from manifests.bucket import Bucket
from manifests.places import Disk


class Told(Protocol):
    """Whoever is told of a call that has ended."""

    def __call__(self, call: str, seconds: float, read: int, written: int, failed: bool) -> None:
        """Bytes are those that were read from the place, and written to it."""


@dataclass
class Moved:
    """Bytes of one call."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Measured:
    """The place, with somebody who is told of each call."""

    place: Disk | Bucket
    told: Told

    @property
    def staging(self) -> Path:
        """The place's own."""
        return self.place.staging

    def create(self, staged: Path, key: str) -> bool:
        with self._timed("create") as moved:
            size = staged.stat().st_size
            won = self.place.create(staged, key)
            moved.written = size if won else 0
            return won

    def show(self, source: str, key: str) -> None:
        with self._timed("show"):
            self.place.show(source, key)

    def read(self, key: str) -> bytes | None:
        with self._timed("read") as moved:
            data = self.place.read(key)
            moved.read = len(data or b"")
            return data

    def fetch(self, key: str, path: Path) -> None:
        with self._timed("read") as moved:
            self.place.fetch(key, path)
            moved.read = path.stat().st_size

    def size(self, key: str) -> int | None:
        with self._timed("size"):
            return self.place.size(key)

    def keys(self, prefix: str) -> list[str]:
        with self._timed("list"):
            return self.place.keys(prefix)

    def remove(self, key: str) -> None:
        with self._timed("remove"):
            self.place.remove(key)

    @contextmanager
    def _timed(self, call: str) -> Iterator[Moved]:
        """Tell of a call. That there is no such file is an answer, and no failure."""
        began, moved, failed = time.monotonic(), Moved(), True
        try:
            yield moved
            failed = False
        except FileNotFoundError:
            failed = False
            raise
        finally:
            self.told(call, time.monotonic() - began, moved.read, moved.written, failed)
