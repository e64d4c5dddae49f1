"""A Parquet manifest read a batch of rows at a time, so that its length costs no memory.

The open file is held: a manifest that is replaced meanwhile is read on as it was, and one that is written
over is refused. Decides: how a file is read, and when it is damaged. Does not decide: what its rows mean.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.schema import SCHEMA, ManifestError, brief, check_header

BATCH_ROWS = 4096  # in memory at a time, with the copies that checks and plans make of them
_BUFFER_BYTES = 1 << 18  # of each column, so that a row group of any size is read in pieces
Batch = tuple[int, pa.RecordBatch]  # the place of its first row in the manifest, and its rows


@dataclass(frozen=True, eq=False)
class Stream:
    """An open Parquet manifest."""

    where: str
    file: BufferedReader
    group_rows: tuple[int, ...]  # rows of each row group
    state: tuple[int, int]  # of the file as it was opened

    @property
    def n_rows(self) -> int:
        """How many rows the footer tells."""
        return sum(self.group_rows)

    def batches(
        self, columns: Sequence[str] | None = None, wanted: Callable[[range], bool] = bool
    ) -> Iterator[Batch]:
        """The rows in order, page checksums verified: these columns, of row groups whose rows are wanted.

        Raises ManifestError for a file that is damaged, or is not what it was when it was opened.
        """
        for start, groups in self._runs(wanted):
            yield from self._read(groups, start, columns)

    def _runs(self, wanted: Callable[[range], bool]) -> Iterator[tuple[int, list[int]]]:
        """Wanted row groups that follow one another, with the place of their first row."""
        start, first, run = 0, 0, list[int]()
        for group, n_rows in enumerate(self.group_rows):
            if wanted(range(start, start + n_rows)):
                first = first if run else start
                run.append(group)
            elif run:
                yield first, run
                run = []
            start += n_rows
        if run:
            yield first, run

    def _read(self, groups: list[int], start: int, columns: Sequence[str] | None) -> Iterator[Batch]:
        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        end, found = start + sum(self.group_rows[group] for group in groups), self._scan(groups, schema)
        while (batch := self._sound(found, schema)) is not None:
            if len(batch):
                yield start, batch
            start += len(batch)
        if start != end:
            raise self._damaged(
                f"it has {abs(end - start)} rows {'less' if start < end else 'more'} than it says"
            )

    def _sound(self, found: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch | None:
        """The next batch, None at the end."""
        try:
            batch = next(found, None)
            if batch is not None:
                batch = batch.cast(schema)
                batch.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            self._check_state()
            raise self._damaged(brief(error)) from error
        self._check_state()
        return batch

    def _scan(self, groups: list[int], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Row groups, piece by piece; a column that the file lacks is null.

        Arrow's scanner of datasets would read on while a batch is looked at, up to the end of the file.
        """
        file = pq.ParquetFile(
            _path(self.file), buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        )
        there = [name for name in schema.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=there):
            columns = [
                batch.column(field.name) if field.name in there else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema.names)

    def _check_state(self) -> None:
        if _state(self.file) != self.state:
            todo = "leave a manifest as it is while it is read, and give the command again"
            raise ManifestError("the manifest was changed while it was read", self.where, todo)

    def _damaged(self, why: str) -> ManifestError:
        todo = "restore it from its source or compose it again"
        return ManifestError(f"manifest is damaged: {why}", self.where, todo)


def open_stream(path: Path, where: str = "") -> Stream:
    """Open a manifest, verifying its version and columns; `where` errors say it is. Raises ManifestError."""
    check_header(path)
    file = path.open("rb")
    try:
        footer = pq.read_metadata(_path(file))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        what = f"manifest is damaged: {brief(error)}"
        raise ManifestError(what, str(path), "restore it from its source or compose it again") from error
    rows = tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
    return Stream(where or str(path), file, rows, _state(file))


def batches_of(table: pa.Table) -> Iterator[Batch]:
    """A table in memory, likewise."""
    start = 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        yield start, batch
        start += len(batch)


def _path(file: BufferedReader) -> str:
    """A name of the very file that is open, whatever has its old name by now."""
    return f"/proc/self/fd/{file.fileno()}"


def _state(file: BufferedReader) -> tuple[int, int]:
    """What changes when a file is written to: its time of change in ns, and its size in bytes."""
    stat = os.fstat(file.fileno())
    return stat.st_mtime_ns, stat.st_size


def read_manifest(path: str | Path) -> pa.Table:
    """A whole manifest, verified; for those that fit in memory. Raises ManifestError."""
    return pa.Table.from_batches([batch for _, batch in open_stream(Path(path)).batches()], SCHEMA)
