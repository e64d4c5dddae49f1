"""A driver that is killed, and two of other hosts that would go on: slow, since they wait whether it beats.

make chaos
"""

from manifests.ledger import iter_events
from manifests.store import open_store
from tests.test_jobs_crash import TASKS
from tests.test_jobs_faults import JOB, Drivers, check, drivers, s3, settings

__all__ = ["drivers", "s3", "settings"]  # fixtures


def test_a_driver_that_is_killed_is_followed_by_one_of_another_host_and_by_no_second_one(
    drivers: Drivers,
) -> None:
    out = "s3://films/night"
    assert drivers.race(out, ("marker-after", 4, "a", 0.0)) == [-9]
    statuses = drivers.race(out, ("never", 1, "b", 0.0), ("never", 1, "c", 0.5))
    assert set(statuses) <= {0, 2} and 0 in statuses, [drivers.said(number) for number in range(2)]
    store = open_store(out)
    check(store)
    assert sum(len(store.list_keys(f"done/{kind}")) for kind in ("shot", "segment", "version")) == 6
    assert len(list(store.list_keys("done"))) == TASKS
    rendered = {
        e["driver_epoch"] for t in iter_events(store, JOB) for e in t.to_pylist() if e["event"] == "done"
    }
    assert len(rendered - {1}) == 1, "two drivers went on where one had died"
