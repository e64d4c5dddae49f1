"""Which of very many names were met, without keeping the names: of each there are 64 bits of its hash.

Eight bytes a name last, and up to sixteen more while parts are joined. Of ten million names two have one hash
with a chance of 1 in 370,000; the later one is then taken for met. Whoever asks must be able to bear that.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def hash_of(name: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class Names:
    """Names that were met. Each part is sorted, without repeats, and at least twice as long as the next."""

    def __init__(self) -> None:
        self._parts: list[Any] = []  # numpy uint64

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def met(self, names: Sequence[str]) -> Any:
        """Of each name whether it was met (numpy bool)."""
        return self._has(_hashes(names))

    def meet(self, names: Sequence[str]) -> Any:
        """Of each name whether it is met for the first time, now (numpy bool)."""
        hashes = _hashes(names)
        fresh = np.zeros(len(hashes), bool)
        fresh[np.unique(hashes, return_index=True)[1]] = True
        fresh &= ~self._has(hashes)
        self._take(np.sort(hashes[fresh]))
        return fresh

    def _has(self, hashes: Any) -> Any:
        found = np.zeros(len(hashes), bool)
        for part in self._parts:
            places = np.minimum(np.searchsorted(part, hashes), len(part) - 1)
            found |= part[places] == hashes
        return found

    def _take(self, part: Any) -> None:
        self._parts += [part] if len(part) else []
        while len(self._parts) > 1 and len(self._parts[-2]) < 2 * len(self._parts[-1]):
            joined = np.concatenate([self._parts.pop(), self._parts.pop()])
            joined.sort()
            self._parts.append(joined)


def _hashes(names: Sequence[str]) -> Any:
    return np.fromiter(map(hash_of, names), np.uint64, len(names))
