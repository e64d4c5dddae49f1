"""A Parquet manifest is read a batch at a time, and what happens to its file meanwhile changes no row."""

import gc
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import manifests.stream
from manifests.schema import SCHEMA, ManifestError, write_manifest
from manifests.source import read_source
from manifests.stream import Stream, open_stream, read_manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """100 rows in groups of 10."""
    table = pa.Table.from_pylist(
        [{"row_id": f"r{i}", "shots": [{"shot_id": "s"}]} for i in range(100)], schema=SCHEMA
    )
    pq.write_table(
        table, tmp_path / "m.parquet", row_group_size=10, compression="none", write_page_checksum=True
    )
    return tmp_path / "m.parquet"


def names(stream: Stream, **asked) -> list[str]:
    return [name for _, batch in stream.batches(**asked) for name in batch.column("row_id").to_pylist()]


def test_rows_come_in_order_each_batch_with_the_place_of_its_first(path, monkeypatch):
    monkeypatch.setattr(manifests.stream, "BATCH_ROWS", 4)
    found = [(start, len(batch)) for start, batch in open_stream(path).batches()]
    assert found[:4] == [(0, 4), (4, 4), (8, 4), (12, 4)] and sum(n for _, n in found) == 100
    assert names(open_stream(path)) == [f"r{i}" for i in range(100)]
    assert read_manifest(path).schema.equals(SCHEMA, check_metadata=True)


def test_a_reader_that_takes_its_time_does_not_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests.stream, "BATCH_ROWS", 1)
    row = {"row_id": "r", "prompt": "x" * 2**20, "shots": [{"shot_id": "s"}]}
    table = pa.Table.from_pylist([row | {"row_id": f"r{i}"} for i in range(40)], schema=SCHEMA)
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=1, use_dictionary=False)
    del table
    batches, before = open_stream(tmp_path / "m.parquet").batches(), held()
    next(batches)
    time.sleep(0.5)  # in which all 40 MiB could be read
    assert held() - before < 8 * 2**20


def held() -> int:
    """Bytes that Arrow holds."""
    gc.collect()
    return pa.total_allocated_bytes()


def test_a_column_that_a_file_lacks_is_null(tmp_path):
    schema = pa.schema([field for field in SCHEMA if field.name != "seed"], SCHEMA.metadata)
    pq.write_table(pa.Table.from_pylist([{"row_id": "r"}], schema=schema), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").column("seed").to_pylist() == [None]


def test_groups_of_which_no_row_is_wanted_are_not_read(path):
    assert names(open_stream(path), wanted=lambda rows: 37 in rows) == [f"r{i}" for i in range(30, 40)]
    assert names(open_stream(path), columns=["row_id"])[:2] == ["r0", "r1"]


def test_a_manifest_that_is_replaced_is_read_on_as_it_was(path):
    manifest = read_source(str(path))
    other = path.with_name("other.parquet")
    write_manifest(pa.Table.from_pylist([{"row_id": "new"}], schema=SCHEMA), other)
    os.replace(other, path)
    assert [row["row_id"] for row in manifest.rows()] == [f"r{i}" for i in range(100)]
    assert read_source(str(path)).n_rows == 1


def test_a_manifest_that_is_written_over_is_refused(path):
    stream, half = open_stream(path), path.read_bytes()
    reading = stream.batches()
    next(reading)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ManifestError, match="was changed while it was read"):
        list(reading)
    path.write_bytes(half[: len(half) // 2])
    with pytest.raises(ManifestError, match=r"changed|damaged"):
        list(stream.batches())


def test_a_manifest_that_is_kept_is_read_on_whatever_is_written_over_its_file(path):
    manifest = read_source(str(path), keep=True)
    path.write_bytes(b"something else")
    assert [row["row_id"] for row in manifest.rows()] == [f"r{i}" for i in range(100)]
    assert manifest.source == str(path)


def test_a_damaged_page_is_told_when_it_is_read(path):
    data = bytearray(path.read_bytes())
    at = bytes(data).index(b"r57")
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ManifestError, match="manifest is damaged"):
        names(open_stream(path))


def test_a_big_manifest_is_made_the_same_each_time_and_is_sound(tmp_path):
    from jobs.checks import check
    from jobs.spec import load_spec
    from jobs.stock import stock
    from tests.bench.make_manifest import write

    first, again = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for each in (first, again):
        write(each, 60, seed=3)
    assert first.read_bytes() == again.read_bytes()
    spec, manifest = load_spec(None, []), read_source(str(first))
    assert check(manifest, stock(spec, exact=False), spec) == []
    assert {len(row["shots"]) for row in manifest.rows()} == {6}
    assert {len(row["languages"]) for row in manifest.rows()} == {4}
