"""A manifest from wherever it lies: Parquet or a file that people write, on this disk or in a store."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.utils import get_protocol

from manifests.compose import compose
from manifests.places import plain_path
from manifests.schema import SCHEMA, ManifestError
from manifests.stream import Batch, Stream, batches_of, open_stream

_ROWS = 256  # as Python objects at a time


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
        if isinstance(self.held, pa.Table):
            return self.held.column("row_id")
        ids = [batch.column(0) for _, batch in self.held.batches(["row_id"])]
        return pa.chunked_array(ids, pa.string())

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
                fsspec.filesystem(protocol).get_file(source, str(copy))
        except _unreachable(protocol) as error:
            raise ManifestError(
                f"cannot read: {error}", source, "check the URL and the credentials"
            ) from error
        return _read(copy, source)  # a Parquet file stays open, and so outlives its name


def _unreachable(protocol: str) -> tuple[type[Exception], ...]:
    """What fetching raises when there is no file to read, for want of credentials or a reply as well."""
    plain = (OSError, ValueError, ImportError)
    if protocol not in ("s3", "s3a"):
        return plain
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # as heavy as s3fs
    except ImportError:  # no s3fs either, which is the error to tell
        return plain
    return (*plain, BotoCoreError)


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
