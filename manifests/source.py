"""A manifest from wherever it lies: Parquet or a file that people write, on this disk or in a store."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.utils import get_protocol

from manifests.compose import compose
from manifests.links import LINKS, ORDER, Order, asks_order, order_of
from manifests.opening import translated
from manifests.places import plain_path
from manifests.schema import SCHEMA, ManifestError
from manifests.stream import Batch, Stream, batches_of, open_stream

_ROWS = 256  # as Python objects at a time
FETCHED_ROWS = 16_384  # that are held at a time where rows are made in another order than they lie in


@dataclass(frozen=True, eq=False)
class Manifest:
    """Rows, where they came from, and the BLAKE2b-256 of their file; Parquet is read as it is asked."""

    source: str
    digest: str
    held: pa.Table | Stream

    @property
    def n_rows(self) -> int:
        """How many films it asks for."""
        return self.held.n_rows if isinstance(self.held, Stream) else int(self.held.num_rows)

    @property
    def row_ids(self) -> pa.ChunkedArray:
        """The names of all rows. Raises ManifestError."""
        return self.columns(["row_id"]).column("row_id")

    @property
    def links(self) -> pa.Table:
        """What manifests.links asks of all rows: the columns LINKS. Raises ManifestError."""
        return self.columns(LINKS)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows, and nothing else is read. Raises ManifestError."""
        if isinstance(self.held, pa.Table):
            return self.held.select(names)
        schema = pa.schema([SCHEMA.field(name) for name in names])
        return pa.Table.from_batches([batch for _, batch in self.held.batches(names)], schema)

    def named(self, row_ids: Collection[str] | None) -> Any:
        """Which rows have one of these names, numpy bool; all for None. Raises ManifestError."""
        if row_ids is None:
            return np.ones(self.n_rows, bool)
        among = pa.array(list(row_ids), pa.string())
        return pc.fill_null(pc.is_in(self.row_ids, value_set=among), False).to_numpy()

    @property
    def table(self) -> pa.Table:
        """All of it, in memory. Raises ManifestError."""
        if isinstance(self.held, pa.Table):
            return self.held
        return pa.Table.from_batches([batch for _, batch in self.held.batches()], SCHEMA)

    def batches(self, wanted: Callable[[range], bool] = bool) -> Iterator[Batch]:
        """The rows in order, many at a time; parts of a file that has none that are wanted are passed over.

        Raises ManifestError.
        """
        return self.held.batches(wanted=wanted) if isinstance(self.held, Stream) else batches_of(self.held)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in order, as plain values. Raises ManifestError."""
        for _, batch in self.batches():
            for start in range(0, len(batch), _ROWS):
                yield from batch.slice(start, _ROWS).to_pylist()

    @cached_property
    def has_order(self) -> bool:
        """Whether any row is more urgent than others, or waits for one. Raises ManifestError."""
        if isinstance(self.held, pa.Table):
            return asks_order(self.held)
        return any(asks_order(batch) for _, batch in self.held.batches(ORDER))

    def order(self, bad: Collection[int]) -> Order | None:
        """The order in which rows are made but those at these places; None for that in which they lie.

        Holds some numbers a row. Raises ManifestError.
        """
        return order_of(self.links, bad) if self.has_order else None

    def ordered(self, order: Order) -> Iterator[dict[str, Any]]:
        """LINKS of the rows of this order; `priority` is how urgent they are. Raises ManifestError."""
        links = self.links.combine_chunks()
        for start in range(0, len(order.places), _ROWS):
            places = order.places[start : start + _ROWS]
            rows = links.take(pa.array(places)).to_pylist()
            for row, urgency in zip(rows, order.urgency[places].tolist(), strict=True):
                yield row | {"priority": urgency}

    def chosen(self, wanted: Any, order: Order | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Wanted rows (numpy bool) as plain values, each with its place, in this order. Raises ManifestError.

        Where there is an order, their `priority` is how urgent they are, as others wait for them.
        """
        if order is None:
            yield from self._lying(wanted)
            return
        places = order.places[wanted[order.places]]
        for start in range(0, len(places), FETCHED_ROWS):
            for place, row in self._fetched(places[start : start + FETCHED_ROWS]):
                yield place, row | {"priority": int(order.urgency[place])}

    def _lying(self, wanted: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Wanted rows as they lie in the manifest."""
        for start, batch in self.batches(lambda some: bool(wanted[some.start : some.stop].any())):
            data = batch.to_struct_array()
            for at in np.flatnonzero(wanted[start : start + len(batch)]).tolist():
                yield start + at, data[at].as_py()

    def _fetched(self, places: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows at these places, in the order of the places; all of them are held, as Arrow."""
        wanted = np.zeros(self.n_rows, bool)
        wanted[places] = True
        held = list[Any]()
        for start, batch in self.batches(lambda some: bool(wanted[some.start : some.stop].any())):
            held += batch.filter(pa.array(wanted[start : start + len(batch)])).to_struct_array()
        for place, at in zip(places.tolist(), np.searchsorted(np.sort(places), places).tolist(), strict=True):
            yield place, held[at].as_py()


def read_source(source: str, *, keep: bool = False) -> Manifest:
    """A .parquet, .yaml, .jsonl or .csv manifest at a path or URL. Raises ManifestError.

    To `keep` is to go on with it as it is now, whatever becomes of its file: of a Parquet file on this disk a
    copy is read. Any other is held as it is now, too.
    """
    protocol = get_protocol(source)
    path = Path(plain_path(source))
    if protocol == "file" and not (keep and path.suffix == ".parquet" and path.is_file()):
        return _read(path, source)
    with tempfile.TemporaryDirectory(prefix="longtake-manifest-") as folder:
        copy = Path(folder, path.name)
        try:
            if protocol == "file":
                shutil.copyfile(path, copy)
            else:
                with translated(protocol):
                    fs, key = fsspec.url_to_fs(source)  # with the account that an abfs:// URL may name
                    fs.get_file(key, str(copy))
        except (OSError, ValueError, ImportError) as error:
            raise ManifestError(
                f"cannot read: {error}", source, "check the URL and the credentials"
            ) from error
        try:
            return _read(copy, source)  # a Parquet file stays open, and so outlives its name
        except ManifestError as error:  # of the copy, which nobody knows
            raise ManifestError(error.what, source, error.todo) from error


def _read(path: Path, source: str) -> Manifest:
    if not path.is_file():
        raise ManifestError("there is no such file", source, "give the path of a manifest")
    if path.suffix != ".parquet":
        with path.open("rb") as file:
            return Manifest(source, _digest(file), compose(path))
    stream = open_stream(path, source)
    return Manifest(source, _digest(stream.file), stream)


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
