"""A sorted line of what waits, never changed: one with an entry more or less shares nearly all with the old.

Tens of thousands of windows wait in a large farm, of which an event adds or takes a few. The entries lie in
blocks, so that an event copies one block and the list of blocks, whatever the line's length.

Decides: how a line lies in memory. Does not decide: what stands in one (state).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar, overload

BLOCK = 128  # entries at most; a block with more is cut in two

Entry = TypeVar("Entry", covariant=True)
Block = tuple[Any, ...]


class Line(Sequence[Entry]):
    """Entries in their order, each as often as it was put."""

    __slots__ = ("_blocks", "_n")

    def __init__(self, entries: Sequence[Any] = ()) -> None:
        ordered = tuple(sorted(entries))
        self._blocks = tuple(ordered[at : at + BLOCK] for at in range(0, len(ordered), BLOCK))
        self._n = len(ordered)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self._blocks)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        """Quick at the head of the line, where it is looked at."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self._n)
            return tuple(islice(self, start, stop, step)) if step > 0 else tuple(self)[index]
        at = index + self._n if index < 0 else index
        for entry in islice(self, max(at, 0), None) if at >= 0 else ():
            return entry
        raise IndexError(f"entry {index} of a line of {self._n}")

    def __contains__(self, entry: object) -> bool:
        at, place = self._find(entry)
        return self._has(entry, at, place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Line) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Line({list(self)})"

    def put(self, *entries: Any) -> "Line[Entry]":
        """The line with more entries."""
        line = self
        for entry in entries:
            line = line._with(entry)
        return line

    def taken(self, *entries: Any) -> "Line[Entry]":
        """The line without these entries, whether they were there or not."""
        line = self
        for entry in entries:
            line = line._without(entry)
        return line

    def _with(self, entry: Any) -> "Line[Entry]":
        if not self._blocks:
            return self._of(((entry,),), 1)
        at, place = self._find(entry)
        block = self._blocks[at]
        longer = (*block[:place], entry, *block[place:])
        half = len(longer) // 2
        blocks = (longer,) if len(longer) <= BLOCK else (longer[:half], longer[half:])
        return self._of((*self._blocks[:at], *blocks, *self._blocks[at + 1 :]), self._n + 1)

    def _without(self, entry: Any) -> "Line[Entry]":
        at, place = self._find(entry)
        if not self._has(entry, at, place):
            return self
        block, before, after = self._blocks[at], self._blocks[:at], self._blocks[at + 1 :]
        shorter = block[:place] + block[place + 1 :]
        # So that there are never many small ones: two neighbours have more than half a block together.
        if before and len(before[-1]) + len(shorter) <= BLOCK // 2:
            shorter, before = before[-1] + shorter, before[:-1]
        if after and len(shorter) + len(after[0]) <= BLOCK // 2:
            shorter, after = shorter + after[0], after[1:]
        return self._of((*before, shorter, *after) if shorter else before + after, self._n - 1)

    def _find(self, entry: Any) -> tuple[int, int]:
        """The block where an entry stands, or would, and its place there."""
        at = min(bisect_left(self._blocks, entry, key=lambda block: block[-1]), len(self._blocks) - 1)
        return at, bisect_left(self._blocks[at], entry) if self._blocks else 0

    def _has(self, entry: object, at: int, place: int) -> bool:
        return bool(self._blocks) and self._blocks[at][place : place + 1] == (entry,)

    @classmethod
    def _of(cls, blocks: tuple[Block, ...], n: int) -> "Line[Any]":
        line: Line[Any] = cls.__new__(cls)
        line._blocks, line._n = blocks, n
        return line
