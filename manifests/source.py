"""A manifest from wherever it lies: Parquet or a file that people write, on this disk or in a store."""

import hashlib
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from fsspec.utils import get_protocol

from manifests.compose import compose
from manifests.links import asks_order, order_of
from manifests.places import plain_path
from manifests.schema import ManifestError, read_manifest

_BATCH_ROWS = 256  # as Python objects at a time; the table itself stays in Arrow's memory
_RUN_ROWS = 65_536  # of which runs of neighbours are looked for at once


@dataclass(frozen=True, eq=False)
class Manifest:
    """A table of rows, where it came from, and the BLAKE2b-256 of its file."""

    source: str
    digest: str
    table: pa.Table

    @property
    def n_rows(self) -> int:
        """How many films it asks for."""
        return int(self.table.num_rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in order, as plain values."""
        for batch in self.table.to_batches(max_chunksize=_BATCH_ROWS):
            yield from batch.to_pylist()

    @property
    def has_order(self) -> bool:
        """Whether any row is more urgent than others, or waits for one."""
        return asks_order(self.table)

    def ordered(self, bad: Collection[int]) -> Iterator[dict[str, Any]]:
        """The rows but those at these places, in the order of their making (manifests.links).

        Their `priority` is how urgent they are, as others wait for them, if the manifest has any priorities.
        """
        order = order_of(self.table, bad)
        if order is None:
            yield from (row for index, row in enumerate(self.rows()) if index not in bad)
            return
        for start in range(0, len(order.places), _RUN_ROWS):
            places = order.places[start : start + _RUN_ROWS]
            for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
                rows = self.table.slice(run[0], len(run)).to_batches(max_chunksize=_BATCH_ROWS)
                plain = (row for batch in rows for row in batch.to_pylist())
                for row, urgency in zip(plain, order.urgency[run].tolist(), strict=True):
                    yield row | {"priority": urgency}


def read_source(source: str) -> Manifest:
    """Read a .parquet, .yaml, .jsonl or .csv manifest at a path or URL. Raises ManifestError."""
    protocol = get_protocol(source)
    if protocol == "file":
        return _read(Path(plain_path(source)), source)
    with tempfile.TemporaryDirectory(prefix="longtake-manifest-") as folder:
        copy = Path(folder, Path(source).name)
        try:
            fsspec.filesystem(protocol).get_file(source, str(copy))
        except _unreachable(protocol) as error:
            raise ManifestError(
                f"cannot read: {error}", source, "check the URL and the credentials"
            ) from error
        return _read(copy, source)


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
    table = read_manifest(path) if path.suffix == ".parquet" else compose(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    return Manifest(source, digest, table)
