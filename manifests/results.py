"""Results, `results/1.2`: what became of every film in every language, as one Parquet file in the store."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.places import StoreError
from manifests.schema import VERSION_KEY, column
from manifests.sealed import seal, unseal, unsealed
from manifests.store import Store

STATUSES = ("done", "failed", "invalid")
REQUIRED = ("job_id", "row_id", "lang", "status")
GROUP_ROWS = 5000
SHOT = pa.struct(
    [
        column("shot_id", pa.string(), "none", "The shot."),
        column("drift_de_per_min", pa.float64(), "dE/min", "Drift of its mean colour as it was drawn."),
        column("held_de_per_min", pa.float64(), "dE/min", "Its drift as it is shown."),
    ]
)
HELD = pa.list_(pa.field("element", SHOT))  # the name that Parquet gives it
RESULTS = pa.schema(
    [
        column("job_id", pa.string(), "none", "The job that made the row."),
        column("row_id", pa.string(), "none", "The film."),
        column("lang", pa.string(), "BCP-47", "Language of the version; und for visual only."),
        column("title", pa.string(), "none", "Title in that language."),
        column("status", pa.string(), "none", "One of done, failed, invalid (never rendered)."),
        column("code", pa.string(), "none", "Stable code of what went wrong."),
        column("message", pa.string(), "none", "What went wrong."),
        column("json_path", pa.string(), "none", "Field of the manifest row that it concerns."),
        column("hint", pa.string(), "none", "What to do about it."),
        column("output_uri", pa.string(), "none", "The film: a key in the store, or a URI."),
        column("captions_uri", pa.string(), "none", "Its captions, likewise."),
        column("output_bytes", pa.int64(), "B", "Size of the film."),
        column("output_sha256", pa.string(), "none", "SHA-256 hex of the film, as sha256sum prints it."),
        column("width_px", pa.int32(), "px", "Frame width."),
        column("height_px", pa.int32(), "px", "Frame height."),
        column("fps_num", pa.int32(), "frames", "Frame rate numerator."),
        column("fps_den", pa.int32(), "s", "Frame rate denominator."),
        column("frame_count", pa.int64(), "frames", "Length of the film in frames."),
        column("duration_s", pa.float64(), "s", "Length of the film."),
        column("shots", pa.int32(), "none", "How many shots it has."),
        column("windows", pa.int32(), "none", "How many windows they were cut into."),
        column("held", HELD, "none", "Shots whose colours drifted, and were held to their beginning."),
        column("reused", pa.bool_(), "none", "Whether the version was there already."),
        column("render_s", pa.float64(), "s", "Time that workers spent on the film in this run."),
        column("gpu_used_s", pa.float64(), "GPU-s", "What gangs spent on the film in this run."),
        column("gpu_wasted_s", pa.float64(), "GPU-s", "Of that, what went into none of its artefacts."),
        column("gpu_saved_s", pa.float64(), "GPU-s", "What artefacts that were found had taken."),
        column("cost", pa.float64(), "currency", "Of gpu_used_s, where a price is set."),
        column("currency", pa.string(), "none", "Of the cost, as cluster.currency says."),
        column("model", pa.string(), "none", "Digest of the model."),
        column("seed", pa.int64(), "none", "Noise seed of the first shot."),
        column("finished_at", pa.timestamp("us", tz="UTC"), "UTC", "When the row was decided."),
        column("driver_epoch", pa.int64(), "none", "Which driver of the job decided it."),
    ],
    metadata={VERSION_KEY: b"results/1.2"},
)


def status_of(statuses: Collection[str]) -> str:
    """A film's status by those of its rows: it is done only in all its languages."""
    found = set(statuses)
    return found.pop() if len(found) == 1 else "failed"


def write_results(rows: Iterable[Mapping[str, Any]], store: Store, key: str = "results.parquet") -> str:
    """``key`` shows exactly these rows, replacing older ones at once; returns the file's artefact hash.

    Constant memory. When anything is raised, ``key`` is as before: ValueError for a row that does not fit
    RESULTS, OSError from the store.
    """
    with tempfile.TemporaryDirectory(prefix="longtake-results-") as folder:
        path = Path(folder, "results.parquet")
        with path.open("wb") as out:
            seal(_batches(iter(rows)), RESULTS, out)
        hash = store.put_file(path)
    store.publish(hash, key)
    return hash


def read_results(store: Store, key: str = "results.parquet") -> pa.Table:
    """The rows, page checksums verified. Raises StoreError (absent, damaged, other version), OSError."""
    data, where = store.read(key), f"{store.url}/{key}"
    if data is None:
        raise _absent(where)
    return unseal(data, RESULTS, where)


def iter_results(store: Store, key: str = "results.parquet") -> Iterator[dict[str, Any]]:
    """The rows one by one, in the memory of some; the file lies on disk meanwhile. As ``read_results``."""
    where = f"{store.url}/{key}"
    with tempfile.TemporaryDirectory(prefix="longtake-results-") as folder:
        path = Path(folder, "results.parquet")
        if not store.fetch(key, path):
            raise _absent(where)
        for table in unsealed(path, RESULTS, where):
            yield from table.to_pylist()


def _absent(where: str) -> StoreError:
    return StoreError("there are no results", where, "check the path; they are written as a job ends")


def _batches(rows: Iterator[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    """The rows in batches of at most GROUP_ROWS. Raises ValueError naming the first row that does not fit."""
    start = 0
    while group := list(islice(rows, GROUP_ROWS)):
        for index, row in enumerate(group, start):
            _check(row, index)
        try:
            yield pa.RecordBatch.from_pylist(group, schema=RESULTS)
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
            raise _misfit(group, start, error) from error
        start += len(group)


def _check(row: Mapping[str, Any], index: int) -> None:
    """Raise on what Arrow would let pass: unknown keys, absent values, another status."""
    unknown = sorted(set(row) - set(RESULTS.names))
    if unknown:
        raise ValueError(f"row {index} has unknown columns {', '.join(unknown)}")
    absent = [name for name in REQUIRED if row.get(name) is None]
    if absent:
        raise ValueError(f"row {index} has no {', '.join(absent)}")
    if row["status"] not in STATUSES:
        raise ValueError(f"row {index} has status {row['status']!r}: use one of {', '.join(STATUSES)}")


def _misfit(group: list[Mapping[str, Any]], start: int, error: Exception) -> ValueError:
    """The error with the row and column that Arrow does not name."""
    for index, row in enumerate(group, start):
        for name, value in row.items():
            try:
                pa.array([value], RESULTS.field(name).type)
            except (pa.ArrowException, TypeError, OverflowError, ValueError) as found:
                return ValueError(f"row {index}: {name} does not fit {RESULTS.field(name).type}: {found}")
    return ValueError(f"rows from {start} do not fit: {error}")
