"""What results promise: every row as it was given, whole or not at all, in constant memory."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manifests.results import GROUP_ROWS, RESULTS, iter_results, read_results, write_results
from manifests.store import Store, StoreError, open_store

FULL = {
    "job_id": "night",
    "row_id": "water",
    "lang": "hi-IN",
    "title": "नदी",
    "status": "done",
    "code": "C",
    "message": "नदी",
    "json_path": "/shots/0",
    "hint": "h",
    "output_uri": "films/water.hi-IN.mp4",
    "captions_uri": "films/water.hi-IN.vtt",
    "output_bytes": 1 << 40,
    "output_sha256": "ab" * 32,
    "width_px": 1280,
    "height_px": 720,
    "fps_num": 24,
    "fps_den": 1,
    "frame_count": 1440,
    "duration_s": 60.0,
    "shots": 6,
    "windows": 48,
    "held": [{"shot_id": "river", "drift_de_per_min": 12.5, "held_de_per_min": 0.75}],
    "reused": False,
    "render_s": 812.5,
    "gpu_used_s": 6400.0,
    "gpu_wasted_s": 12.5,
    "gpu_saved_s": 0.0,
    "cost": 4.25,
    "currency": "EUR",
    "model": "chalk",
    "seed": (1 << 63) - 1,
    "finished_at": datetime(2026, 3, 1, 4, 5, 6, 7, UTC),
    "driver_epoch": 2,
}
BAD = {"job_id": "night", "row_id": "fire", "lang": "und", "status": "invalid", "code": "E101_MISSING"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def _rows(count: int) -> Iterator[dict[str, Any]]:
    return (FULL | {"row_id": f"film-{number}", "message": "m" * 200} for number in range(count))


def test_rows_come_back_with_every_value(store: Store) -> None:
    write_results(iter([FULL, BAD]), store)
    table = read_results(store)
    assert table.schema.equals(RESULTS, check_metadata=True)
    assert table.to_pylist() == [FULL, dict.fromkeys(RESULTS.names) | BAD]


def test_every_column_carries_unit_and_doc_and_the_file_its_version() -> None:
    for field in RESULTS:
        assert field.metadata[b"unit"] and field.metadata[b"doc"]
    assert RESULTS.metadata == {b"longtake.schema": b"results/1.2"}
    assert set(FULL) == set(RESULTS.names)


def test_job_without_rows_has_empty_results(store: Store) -> None:
    write_results([], store)
    assert read_results(store).num_rows == 0


def test_rows_are_written_in_groups_with_page_checksums(store: Store, tmp_path: Path) -> None:
    write_results(_rows(GROUP_ROWS + 1), store)
    file = pq.ParquetFile(tmp_path / "results.parquet")
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert sizes == [GROUP_ROWS, 1]
    assert read_results(store)["row_id"].to_pylist()[-1] == f"film-{GROUP_ROWS}"


def test_results_are_read_row_by_row_and_a_damaged_group_is_told(store: Store, tmp_path: Path) -> None:
    write_results(_rows(GROUP_ROWS + 2), store)
    assert list(iter_results(store)) == read_results(store).to_pylist()
    path = tmp_path / "results.parquet"
    group = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    data[group.data_page_offset + group.total_compressed_size - 3] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    rows = iter_results(store)
    assert sum(1 for _ in zip(range(GROUP_ROWS), rows, strict=False)) == GROUP_ROWS
    with pytest.raises(StoreError, match="not a sound Parquet file"):
        list(rows)


def test_memory_does_not_grow_with_the_number_of_rows(store: Store) -> None:
    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        write_results(_rows(count), store)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(4 * GROUP_ROWS) < 1.2 * peak_bytes(2 * GROUP_ROWS)


def test_results_of_a_resumed_job_replace_the_older_ones(store: Store) -> None:
    write_results([BAD], store)
    write_results([FULL], store)
    assert read_results(store).to_pylist() == [FULL]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (FULL | {"costs": 3}, "row 1 has unknown columns costs"),
        (FULL | {"lang": None}, "row 1 has no lang"),
        (FULL | {"status": "ok"}, "row 1 has status 'ok'"),
        (FULL | {"width_px": 1 << 40}, "row 1: width_px does not fit int32"),
        (FULL | {"finished_at": "today"}, "row 1: finished_at does not fit timestamp"),
    ],
)
def test_row_that_does_not_fit_is_named_and_older_results_stay(
    store: Store, row: dict[str, Any], match: str
) -> None:
    write_results([FULL], store)
    with pytest.raises(ValueError, match=match):
        write_results([BAD, row], store)
    assert read_results(store).to_pylist() == [FULL]


def test_rows_that_stop_with_an_error_leave_older_results(store: Store) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield BAD
        raise RuntimeError("the driver is stopped")

    write_results([FULL], store)
    with pytest.raises(RuntimeError):
        write_results(broken(), store)
    assert read_results(store).to_pylist() == [FULL]


def test_absent_results_are_told(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no results \(.*results\.parquet\)"):
        read_results(store)


def test_flipped_bit_in_a_page_is_refused(store: Store, tmp_path: Path) -> None:
    write_results([FULL], store)
    path = tmp_path / "results.parquet"
    content = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start + chunk.total_compressed_size - 1] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"not a sound Parquet file.*results\.parquet"):
        read_results(store)
