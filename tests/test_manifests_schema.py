"""A manifest comes back as it was written, or the read says why not."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.schema import SCHEMA, VERSION_KEY, ManifestError, write_manifest
from manifests.stream import read_manifest

TITLE = "नदी का गीत, a title long enough to be found in the file"


@pytest.fixture
def table() -> pa.Table:
    shot = {"shot_id": "s1", "prompt": "a river", "duration_s": 4.0}
    language = {"lang": "hi-IN", "segments": [{"shot_id": "s1", "text": "नदी"}]}
    row = {"row_id": "film", "title": TITLE, "profile": "p", "shots": [shot], "languages": [language]}
    return pa.Table.from_pylist([row], schema=SCHEMA)


@pytest.fixture
def path(table: pa.Table, tmp_path: Path) -> Path:
    write_manifest(table, tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


def test_round_trip_keeps_every_value_and_the_schema(table: pa.Table, path: Path) -> None:
    found = read_manifest(path)
    assert found.equals(table)
    assert found.schema.equals(SCHEMA, check_metadata=True)


def test_every_field_carries_unit_and_doc() -> None:
    for field in SCHEMA:
        assert field.metadata[b"unit"] and field.metadata[b"doc"]


def test_write_leaves_no_partial_file(path: Path) -> None:
    assert [p.name for p in path.parent.iterdir()] == ["m.parquet"]


def test_write_refuses_a_table_without_the_columns(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"does not fit"):
        write_manifest(pa.table({"row_id": ["a"]}), tmp_path / "m.parquet")


def test_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ManifestError, match=r"not a readable Parquet file.*copied whole"):
        read_manifest(path)


def test_one_flipped_bit_in_a_page_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(1)
    # The last byte of the column chunk belongs to a page body, not to a page header.
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start + chunk.total_compressed_size - 1] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"damaged"):
        read_manifest(path)


def test_no_flipped_bit_changes_a_value_silently(table: pa.Table, path: Path) -> None:
    good = path.read_bytes()
    end = len(good) - 8 - pq.read_metadata(path).serialized_size
    for place in range(4, end, 3):
        content = bytearray(good)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        try:
            assert read_manifest(path).equals(table), f"byte {place} changed the table"
        except ManifestError:
            continue


def test_other_schema_version_is_refused(table: pa.Table, path: Path) -> None:
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"manifest/2.0"}), path)
    with pytest.raises(ManifestError, match=r"version is manifest/2\.0, expected manifest/1\.0"):
        read_manifest(path)


def test_parquet_without_version_is_refused(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ManifestError, match=r"version is none"):
        read_manifest(path)


def test_unknown_column_is_refused_rather_than_dropped(table: pa.Table, path: Path) -> None:
    pq.write_table(table.append_column("extra", pa.array([1])), path)
    with pytest.raises(ManifestError, match=r"unknown columns extra"):
        read_manifest(path)


def test_file_that_is_not_parquet_is_refused(path: Path) -> None:
    path.write_text("rows: []\n")
    with pytest.raises(ManifestError, match=r"not a readable Parquet"):
        read_manifest(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"not found .*none\.parquet"):
        read_manifest(tmp_path / "none.parquet")
