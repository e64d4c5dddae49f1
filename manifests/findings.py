"""Findings, and how a check names the place of one: a manifest's nested lists, laid flat.

Decides: the row and the JSON path of every entry. Does not decide what is wrong with an entry.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)  # there may be millions
class Finding:
    """One problem: where it is, a stable code, what was found and what to do."""

    row_index: int
    row_id: str
    code: str
    json_path: str
    message: str
    hint: str


def faulty_rows(findings: Iterable[Finding]) -> set[int]:
    """Places of the rows that have findings; -1 stands for the manifest as a whole."""
    return {finding.row_index for finding in findings}


@dataclass(frozen=True, eq=False)  # arrays have no single truth value, so == would raise
class Level:
    """The entries of one nesting level, flattened, each with its row and its place in the row."""

    data: Any  # StructArray, one entry each
    rows: Any  # numpy int64: the place in `index` and `ids` of each entry's row
    parent: Any  # numpy int64: the entry, one level up, that holds each
    index: Any  # numpy int64: place in the manifest of each row
    ids: Any  # StringArray: row_id of each row
    prefix: Callable[[int], str]  # JSON path of entry i

    def column(self, name: str) -> Any:
        """The values of one field; an entry that is null gives null."""
        return pc.struct_field(self.data, [name])

    def keys(self, name: str, within: Any) -> Any:
        """Field `name` qualified by the integers `within`: equal values of different owners stay apart."""
        return pc.binary_join_element_wise(pa.array(within).cast(pa.string()), self.column(name), "/")

    def child(self, name: str) -> "Level":
        """The entries of list field `name`."""
        lists = self.column(name)
        # Not list_parent_indices, which counts what lies hidden below a null list and flattening leaves out.
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        parent = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(len(parent)) - np.repeat(np.cumsum(sizes) - sizes, sizes)

        def prefix(i: int) -> str:
            return f"{self.prefix(int(parent[i]))}/{name}/{int(place[i])}"

        flat = pc.list_flatten(lists)
        return Level(flat, self.rows[parent], parent, self.index, self.ids, prefix)

    def report(
        self,
        mask: Any,
        code: str,
        field: str,
        message: str,
        hint: str | Callable[[int], str],
        *,
        entry: bool = False,
    ) -> Iterator[Finding]:
        """A finding for every entry where `mask` is true (null is false); `{v}` in `message` is the value.

        Its path is the field's, or with `entry` that of the whole entry. A hint may be made for each entry.
        """
        wrong = pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()
        values = self.column(field) if wrong else None
        told: dict[str, str] = {}  # equal messages are one text in memory
        for i in wrong:
            row = int(self.rows[i])
            text = message.format(v=short(values[i].as_py()))  # type: ignore[index]  # not None: there are wrong ones
            name = self.ids[row].as_py() or ""
            path = self.prefix(i) if entry else f"{self.prefix(i)}/{field}"
            todo = hint if isinstance(hint, str) else hint(i)
            yield Finding(int(self.index[row]), name, code, path, told.setdefault(text, text), todo)


@dataclass(frozen=True, eq=False)
class Levels:
    """Some rows of a manifest and all that is nested in them."""

    rows: Level
    shots: Level
    prompts: Level  # later prompts of shots
    languages: Level
    segments: Level

    @classmethod
    def of_batch(cls, start: int, batch: pa.RecordBatch) -> "Levels":
        """Those of a batch, whose first row is at this place in the manifest."""
        return cls.of(batch.to_struct_array(), np.arange(start, start + batch.num_rows))

    @classmethod
    def of(cls, data: Any, index: Any) -> "Levels":
        """The levels of a StructArray of rows; `index` (numpy int64) says where in the manifest each is."""
        every = np.arange(len(data))
        rows = Level(data, every, every, index, pc.struct_field(data, ["row_id"]), lambda i: "")
        shots, languages = rows.child("shots"), rows.child("languages")
        return cls(rows, shots, shots.child("prompts"), languages, languages.child("segments"))

    def where(self, mask: Any) -> "Levels":
        """The rows where `mask` is true, with what is nested in them; null is false."""
        kept = pc.fill_null(mask, False)
        return self.of_rows(kept.to_numpy(zero_copy_only=False))

    def of_rows(self, chosen: Any) -> "Levels":
        """The rows that are chosen (numpy bool), with what is nested in them."""
        if chosen.all():
            return self
        return Levels.of(self.rows.data.filter(pa.array(chosen)), self.rows.index[chosen])

    def without(self, places: Collection[int]) -> "Levels":
        """The rows at other places of the manifest, with what is nested in them."""
        if not places:
            return self
        return self.of_rows(~np.isin(self.rows.index, list(places)))

    def pairs(self, chosen: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Chosen rows (numpy bool), each with its place in the manifest, as plain values."""
        for at in np.flatnonzero(chosen):
            yield int(self.rows.index[at]), self.rows.data[int(at)].as_py()


def repeated(keys: Any) -> Any:
    """True for every non-null key that an earlier entry has too."""
    codes = pc.fill_null(pc.dictionary_encode(keys).indices, -1).to_numpy(zero_copy_only=False)
    first = np.unique(codes, return_index=True)[1]
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return pa.array(again & (codes >= 0))


def true(mask: Any) -> Any:
    """`mask` with null as false, where a null would swallow the other side of an `or`."""
    return pc.fill_null(mask, False)


def empty(values: Any) -> Any:
    """True where a string is null or holds only white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)


def floats(values: Any) -> Any:
    """Numbers as numpy float64; null becomes NaN, which no comparison finds."""
    return pc.fill_null(values.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)


def short(value: Any) -> Any:
    """A value fit for a message: long text is cut at 200 characters."""
    return value[:200] + "…" if isinstance(value, str) and len(value) > 200 else value
