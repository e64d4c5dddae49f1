"""How many distinct things of each kind there are, in memory that does not grow with their number."""

from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

import numpy as np

PARTS = 16  # that are looked at one by one
RECORD = np.dtype([("number", np.int64), ("kind", np.int32)])


class Distinct:
    """Things on disk, each by a number of 64 bits that equal ones share, and a kind, an index from 0."""

    def __init__(self) -> None:
        self._parts = [TemporaryFile() for _ in range(PARTS)]  # noqa: SIM115  # closed by __exit__

    def add(self, numbers: Any, kinds: Any = 0) -> None:
        """Take some more (numpy, n); of equal things the kind of the first counts."""
        records = np.empty(len(numbers), RECORD)
        records["number"], records["kind"] = numbers, kinds
        part = numbers % PARTS
        for at, file in enumerate(self._parts):
            file.write(records[part == at].tobytes())

    def by_kind(self) -> Any:
        """How many there are of each kind, numpy, as far as any has one."""
        found = np.zeros(1, np.int64)
        for file in self._parts:
            file.seek(0)
            records = np.frombuffer(file.read(), RECORD)
            first = np.unique(records["number"], return_index=True)[1]
            counts = np.bincount(records["kind"][first], minlength=len(found))
            counts[: len(found)] += found
            found = counts
        return found

    @property
    def total(self) -> int:
        """How many there are in all."""
        return int(self.by_kind().sum())

    def __enter__(self) -> "Distinct":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._parts:
            file.close()
