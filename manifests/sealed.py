"""Tables as Parquet bytes that are refused when they are damaged or of another version."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.places import StoreError
from manifests.schema import VERSION_KEY


def seal(batches: Iterable[pa.RecordBatch], schema: pa.Schema, out: BinaryIO) -> None:
    """Write batches of exactly ``schema``, each a row group with page checksums, in the memory of one."""
    with pq.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch)


def unseal(data: bytes, schema: pa.Schema, where: str) -> pa.Table:
    """The table, of exactly ``schema``. Raises StoreError naming ``where``."""
    with _sound(where), _opened(data) as file:
        found, table = file.schema_arrow, file.read()
        table.validate(full=True)
    _check_version(found, schema, where)
    return table


def unsealed(data: bytes | Path, schema: pa.Schema, where: str) -> Iterator[pa.Table]:
    """The same, a row group at a time: the table itself, and even its file, may be too large for memory.

    Raises as ``unseal``.
    """
    with _sound(where):
        file = _opened(data)
    _check_version(file.schema_arrow, schema, where)
    for group in range(file.num_row_groups):
        with _sound(where):
            table = file.read_row_group(group)
            table.validate(full=True)
        yield table


def _opened(data: bytes | Path) -> pq.ParquetFile:
    source = data if isinstance(data, Path) else io.BytesIO(data)
    return pq.ParquetFile(source, page_checksum_verification=True)


@contextmanager
def _sound(where: str) -> Iterator[None]:
    """Whatever Arrow raises means that the bytes are damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        what = f"not a sound Parquet file: {str(error).splitlines()[0][:300]}"
        raise StoreError(what, where, "restore it from a copy, or remove it and run the job again") from error


def _check_version(found: pa.Schema, schema: pa.Schema, where: str) -> None:
    if not found.equals(schema, check_metadata=True):
        version, ours = ((s.metadata or {}).get(VERSION_KEY, b"none").decode() for s in (found, schema))
        what = f"its columns are of {version}, expected {ours}"
        raise StoreError(what, where, "read it with the release that wrote it")
