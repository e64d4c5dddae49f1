"""Lists of finished films: each segment once, read by whoever takes the job over, and by nobody else."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from manifests.finished import MAX_AGE_S, Finished, Finishing
from manifests.store import Store, StoreError, open_store

JOB, ASKED = "job", "0123456789abcdef"


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(str(tmp_path))


def rows(row_id: str, *langs: str) -> list[dict[str, Any]]:
    common = {"job_id": JOB, "row_id": row_id, "status": "done", "driver_epoch": 1, "render_s": 2.0}
    return [common | {"lang": lang, "finished_at": datetime(2026, 1, 1, tzinfo=UTC)} for lang in langs]


def segments(store: Store) -> list[str]:
    return [key.rpartition("/")[2] for key in store.list_keys(f"jobs/{JOB}/finished")]


def test_a_successor_knows_the_films_and_has_their_rows_as_made_before(store):
    with Finishing(store, JOB, ASKED, 1, max_films=2) as finishing:
        for place in (4, 0, 2):
            finishing.add(place, 10, rows(f"r{place}", "hi-IN", "ta-IN"))
    found = Finished(store, JOB, ASKED, 2, 5)
    assert found.there.tolist() == [True, False, True, False, True]
    assert (found.n_films, found.predictions, len(segments(store))) == (3, 30, 2)
    told = list(found.rows())
    assert [row["row_id"] for row in told] == ["r4", "r4", "r0", "r0", "r2", "r2"]
    assert all(row["reused"] and row["render_s"] == 0.0 and "place" not in row for row in told)


def test_what_a_film_took_before_is_saved_now(store):
    took = {"gpu_used_s": 5.0, "gpu_wasted_s": 1.0, "gpu_saved_s": 2.0, "cost": 3.0, "currency": "EUR"}
    with Finishing(store, JOB, ASKED, 1) as finishing:
        finishing.add(0, 1, [row | took for row in rows("r0", "hi-IN", "ta-IN")])
        finishing.add(1, 1, rows("r1", "hi-IN"))
    found = Finished(store, JOB, ASKED, 2, 2)
    assert found.saved_s == 6.0
    first, *_, last = ({name: row[name] for name in took} for row in found.rows())
    saved = {"gpu_used_s": 0.0, "gpu_wasted_s": 0.0, "gpu_saved_s": 6.0, "cost": 0.0, "currency": "EUR"}
    assert first == saved and last == saved | {"gpu_saved_s": 0.0, "cost": None, "currency": None}


def test_films_that_are_made_again_are_listed_no_more(store):
    with Finishing(store, JOB, ASKED, 1) as finishing:
        for place in range(3):
            finishing.add(place, 1, rows(f"r{place}", "hi-IN", "ta-IN"))
    found = Finished(store, JOB, ASKED, 2, 4)
    asked = np.array([False, True, False, True])
    assert (found.forget(asked), found.forget(asked), found.n_films) == (1, 0, 2)
    assert [row["row_id"] for row in found.rows()] == ["r0", "r0", "r2", "r2"]


def test_the_own_epoch_later_ones_and_other_settings_are_not_read(store):
    for epoch, asked in ((1, ASKED), (3, ASKED), (1, "f" * 16)):
        with Finishing(store, JOB, asked, epoch) as finishing:
            finishing.add(epoch, 1, rows(f"r{epoch}", "hi-IN"))
    assert Finished(store, JOB, ASKED, 3, 9).there.nonzero()[0].tolist() == [1]
    assert Finished(store, JOB, "e" * 16, 3, 9).n_films == 0


def test_a_film_that_two_drivers_listed_counts_once(store):
    for epoch in (1, 2):
        with Finishing(store, JOB, ASKED, epoch) as finishing:
            finishing.add(0, 7, rows("r0", "hi-IN"))
            finishing.add(epoch, 7, rows(f"r{epoch}", "hi-IN"))
    found = Finished(store, JOB, ASKED, 3, 3)
    assert (found.n_films, found.predictions) == (3, 21)
    assert [row["row_id"] for row in found.rows()] == ["r0", "r1", "r2"]


def test_films_are_listed_when_the_first_has_waited_long_enough(store):
    now = [0.0]
    finishing = Finishing(store, JOB, ASKED, 1, clock=lambda: now[0])
    finishing.add(0, 1, rows("r0", "hi-IN"))
    finishing.flush_if_due()
    assert segments(store) == []
    now[0] = MAX_AGE_S
    finishing.flush_if_due()
    assert segments(store) == ["seg-000000001.parquet"]


def test_a_put_whose_reply_was_lost_is_repeated_with_the_same_bytes(store, monkeypatch):
    finishing, real = Finishing(store, JOB, ASKED, 1), Store.put_new

    def lost(self, key, data):
        real(self, key, data)
        raise OSError("no reply")

    finishing.add(0, 1, rows("r0", "hi-IN"))
    monkeypatch.setattr(Store, "put_new", lost)
    with pytest.raises(OSError, match="no reply"):
        finishing.flush()
    monkeypatch.setattr(Store, "put_new", real)
    finishing.add(1, 1, rows("r1", "hi-IN"))
    finishing.flush()
    finishing.flush()
    assert Finished(store, JOB, ASKED, 2, 2).n_films == 2


def test_a_second_writer_of_an_epoch_is_told(store):
    first, second = (Finishing(store, JOB, ASKED, 1) for _ in range(2))
    first.add(0, 1, rows("r0", "hi-IN"))
    second.add(1, 1, rows("r1", "hi-IN"))
    first.flush()
    with pytest.raises(StoreError, match="another driver writes this segment"):
        second.flush()


def test_a_damaged_list_is_told(store, tmp_path):
    with Finishing(store, JOB, ASKED, 1) as finishing:
        finishing.add(0, 1, rows("r0", "hi-IN"))
    (path,) = (tmp_path / "jobs").rglob("*.parquet")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="not a sound Parquet file"):
        Finished(store, JOB, ASKED, 2, 1)
