"""How urgent rows are and which wait for which: faults of both, and the order in which rows may be made.

A row is as urgent as the most urgent row that waits for it, for a less urgent one would hold that up. More
urgent rows come first, others in the order of the manifest, and no row before one that it waits for.

Decides: the order, and what is wrong with `priority` and `depends_on`. Does not decide: when a row is begun
(cluster.upstream). A manifest that uses neither column costs a look at them. A table here needs no other
columns than LINKS.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.findings import Finding, short
from manifests.texts import ints, lengths_of

MOST = 100  # the highest priority, and the lowest below 0
ORDER = ("priority", "depends_on")
LINKS = ("row_id", *ORDER)
TOLD = 5  # rows of a circle that are named
Needs = Mapping[int, Sequence[int]]  # place of a row -> places of the rows that it waits for


@dataclass(frozen=True, eq=False)
class Order:
    """Places of rows in the order of their making, and the priority of every row, both numpy int64."""

    places: Any
    urgency: Any


@dataclass(frozen=True, eq=False)
class Links:
    """Every entry of every `depends_on`: whose it is, its place there, its text, and the row it names.

    `names` is a StringArray, the others are numpy int64; an entry that names no row has -1 as `needed`.
    """

    waiting: Any
    index: Any
    names: Any
    needed: Any

    @classmethod
    def of(cls, table: pa.Table) -> "Links":
        """The entries of a manifest, in its order."""
        lists = table.column("depends_on").combine_chunks()
        sizes = lengths_of(lists)
        waiting = np.repeat(np.arange(len(sizes)), sizes)
        index = np.arange(len(waiting)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        names = pc.list_flatten(lists)
        if not len(names):
            return cls(waiting, index, names, waiting)
        ids = table.column("row_id").combine_chunks()
        found = pc.index_in(names, value_set=ids, skip_nulls=True)
        return cls(waiting, index, names, ints(pc.fill_null(found, -1)))

    def needs(self, bad: Collection[int] = ()) -> dict[int, list[int]]:
        """Which rows wait for which, without what names no row, and without the rows in `bad`."""
        found: dict[int, list[int]] = {}
        for waiting, needed in zip(self.waiting.tolist(), self.needed.tolist(), strict=True):
            if needed >= 0 and waiting not in bad and needed not in bad:
                found.setdefault(waiting, []).append(needed)
        return found


def link_findings(table: pa.Table) -> Iterator[Finding]:
    """Priorities out of range, rows that nobody has, and rows that wait for themselves."""
    ids = table.column("row_id")
    yield from _priorities(table, ids)
    links = Links.of(table)
    for entry in np.flatnonzero(links.needed < 0).tolist():
        name, row = links.names[entry].as_py(), int(links.waiting[entry])
        path = f"/depends_on/{links.index[entry]}"
        if name is None:
            yield _finding(row, ids, "E101_MISSING", path, "no value", "give a row_id of the manifest")
        else:
            message = f"the manifest has no row {short(name)!r}"
            yield _finding(row, ids, "E107_UNKNOWN_ROW", path, message, "name a row_id of the manifest")
    yield from _circular(links, ids)


def _finding(row: int, ids: Any, code: str, path: str, message: str, hint: str) -> Finding:
    return Finding(row, ids[row].as_py() or "", code, path, message, hint)


def _priorities(table: pa.Table, ids: Any) -> Iterator[Finding]:
    values = table.column("priority")
    for row in np.flatnonzero(np.abs(ints(values)) > MOST).tolist():
        message = f"priority {values[row].as_py()} is not within -{MOST} to {MOST}"
        yield _finding(row, ids, "E106_PRIORITY", "/priority", message, "give one that is; more goes first")


def _circular(links: Links, ids: Any) -> Iterator[Finding]:
    """One finding a row of every circle that a walk meets: without these rows there is no circle left."""
    told: set[int] = set()
    for circle in circles(links.needs()):
        names = [ids[row].as_py() or "" for row in circle[:TOLD]]
        for row, needed in zip(circle, [*circle[1:], circle[0]], strict=True):
            if row in told:
                continue
            told.add(row)
            entry = np.flatnonzero((links.waiting == row) & (links.needed == needed))[0]
            path, hint = f"/depends_on/{links.index[entry]}", "take one row out of the circle"
            yield _finding(row, ids, "E108_CIRCLE", path, _round(names, len(circle)), hint)


def _round(names: Sequence[str], n: int) -> str:
    if n == 1:
        return "the row waits for itself"
    rest = f" and {n - len(names)} more" if n > len(names) else ""
    return f"{n} rows wait for each other: {', '.join(names)}{rest}"


def circles(needs: Needs) -> Iterator[list[int]]:
    """Circles of rows that wait for each other, each row before the one that it waits for.

    A walk in depth meets every circle at an entry that leads back onto its own path, and every circle has
    such an entry: so a row of each circle is among those that are told.
    """
    seen: dict[int, bool] = {}  # row -> whether it is on the path
    for start in needs:
        if start in seen:
            continue
        path, ahead, seen[start] = [start], [iter(needs[start])], True
        while path:
            row = next(ahead[-1], None)
            if row is None:
                ahead.pop()
                seen[path.pop()] = False
            elif seen.get(row):
                yield path[path.index(row) :]
            elif row not in seen:
                path.append(row)
                ahead.append(iter(needs.get(row, ())))
                seen[row] = True


def asks_order(rows: pa.Table | pa.RecordBatch) -> bool:
    """Whether these rows say anything of order."""
    return bool(lengths_of(rows.column("depends_on")).any() or ints(rows.column("priority")).any())


def order_of(table: pa.Table, bad: Collection[int] = ()) -> Order | None:
    """The order of all rows but those in `bad`, which must break every circle; None for the one they have."""
    if not asks_order(table):
        return None
    urgency, needs = ints(table.column("priority")), Links.of(table).needs(bad)
    for row in reversed(_in_order(np.arange(len(urgency)), needs) if needs else ()):
        for needed in needs.get(row, ()):
            urgency[needed] = max(urgency[needed], urgency[row])
    places = _in_order(np.argsort(-urgency, kind="stable"), needs)
    left_out = np.zeros(len(urgency), dtype=bool)
    left_out[[row for row in bad if row >= 0]] = True
    order = np.array(places, dtype=np.int64)
    return Order(order[~left_out[order]], urgency)


def _in_order(rows: Any, needs: Needs) -> list[int]:
    """Rows in this order, but one that waits right behind the last that it waits for."""
    place = np.empty(len(rows), dtype=np.int64)
    place[rows] = np.arange(len(rows))
    order, made, parked = list[int](), bytearray(len(rows)), dict[int, list[int]]()
    for next_row in rows.tolist():
        ready = [(0, next_row)]
        while ready:
            _, row = heappop(ready)
            missing = next((need for need in needs.get(row, ()) if not made[need]), None)
            if missing is not None:
                parked.setdefault(missing, []).append(row)
                continue
            made[row] = True
            order.append(row)
            for waiting in parked.pop(row, ()):
                heappush(ready, (int(place[waiting]), waiting))
    return order


def awaited(table: pa.Table, bad: Collection[int] = ()) -> dict[str, bool]:
    """The rows that others wait for, by row_id, and whether they are among those that are made."""
    links = Links.of(table)
    ids = table.column("row_id")
    needed = {
        need
        for waiting, need in zip(links.waiting.tolist(), links.needed.tolist(), strict=True)
        if need >= 0 and waiting not in bad
    }
    return {ids[row].as_py(): row not in bad for row in sorted(needed)}
