"""What a job took over all its runs: a budget is of the job, however often its driver is begun again.

    jobs/ID/bill/EPOCH.json            what a run took, left at its end
    jobs/ID/spent/EPOCH/NUMBER.json    what it had taken until then, put anew while it runs: it may be killed

Decides: what earlier runs took. Does not decide: what counts as taken (cluster.account), or what a budget
ends (cluster.dispatch).
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress

from manifests.store import Store, StoreError

EVERY_S = 10.0  # between two notes: what a driver that is killed may have taken unseen
_LOOKS = 5  # at notes that come and go
_NOTE = re.compile(r"/spent/(\d{6,})/(\d{9,})\.json$")
_BILL = re.compile(r"/bill/(\d{6,})\.json$")


def bills(job_id: str) -> str:
    """The folder of a job's bills, one a driver."""
    return f"jobs/{job_id}/bill"


class SpentNote:
    """Notes of one run: the newest stays, the one before it goes. Trouble with a note is none of the job."""

    def __init__(
        self, store: Store, job_id: str, epoch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._folder, self._clock = store, f"jobs/{job_id}/spent/{epoch:06}", clock
        self._number, self._used_s, self._next_s = 0, 0.0, -float("inf")

    def note(self, used_s: float) -> None:
        """This run took so many GPU-seconds until now."""
        if used_s == self._used_s or self._clock() < self._next_s:
            return
        self._next_s = self._clock() + EVERY_S
        with suppress(OSError, StoreError):
            self._store.put_marker(self._key(self._number + 1), {"used_s": used_s})
            self._number, self._used_s, last = self._number + 1, used_s, self._number
            if last:
                self._store.remove(self._key(last))

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:09}.json"


def spent_before(store: Store, job_id: str, epoch: int) -> float:
    """GPU-seconds that the runs before this driver's took. Raises OSError, StoreError."""
    return sum(used_s for each, used_s in spent_by_run(store, job_id).items() if each < epoch)


def spent_by_run(store: Store, job_id: str) -> dict[int, float]:
    """GPU-seconds by driver: as billed, or noted last where there is no bill. Raises OSError, StoreError.

    A note is put before the one that it replaces is taken away: where that is gone once it is to be read, a
    later one is there.
    """
    for _ in range(_LOOKS):
        read = {each: store.read_marker(key) for each, key in _keys_by_run(store, job_id).items()}
        if None not in read.values():
            break
    return {each: float((marker or {}).get("used_s", 0.0)) for each, marker in read.items()}


def _keys_by_run(store: Store, job_id: str) -> dict[int, str]:
    """The bill of each driver, or its last note."""
    latest: dict[int, tuple[int, str]] = {}
    for key in store.list_keys(f"jobs/{job_id}/spent"):
        if match := _NOTE.search(key):
            latest[int(match[1])] = max(latest.get(int(match[1]), (0, "")), (int(match[2]), key))
    keys = {each: key for each, (_, key) in latest.items()}
    keys |= {int(match[1]): key for key in store.list_keys(bills(job_id)) if (match := _BILL.search(key))}
    return keys
