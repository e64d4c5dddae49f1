"""One driver renders a job: it beats, others see it and leave, and one given up for dead leaves later.

A beat is a small file, put anew under the next number, whose predecessor then goes: by a thread, so that a
driver which loads a model or waits for its cluster is not taken for dead. A driver of the same host is seen
to live by its process; one of another host by a beat that comes while one waits. Two that render at once harm
nothing, since markers are put only once: they only waste time.

Decides: who leaves. Does not decide: what a driver does (jobs.run).
"""

import os
import platform
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from manifests.places import StoreError
from manifests.store import Store

EVERY_S = 5.0
JOIN_S = 5.0
PATIENCE_S = 15.0  # in which a driver that lives beats
_BEAT = re.compile(r"/beats/(\d{6,})/(\d{9,})\.json$")
_NUMBER = re.compile(r"/(\d{6,})\.json$")
_EPOCH = re.compile(r"/driver/epoch-(\d{6,})\.json$")


def me() -> dict[str, Any]:
    """This process, as other drivers know it."""
    return {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """When a process of this host began, in the kernel's ticks; None if there is none."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]  # field 22, counted behind the name, which may hold anything


class Heart:
    """The beats of one driver epoch: inside a `with` block by a thread of its own, elsewhere by `beat`.

    A store that is away makes no beat fail for good: the next one comes in time.
    """

    def __init__(
        self, store: Store, job_id: str, epoch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._job_id, self._epoch, self._clock = store, job_id, epoch, clock
        self._number, self._next_s = 0, -float("inf")
        self._over, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self.successor: dict[str, Any] | None = None  # who has taken the job over, if somebody has

    def __enter__(self) -> Self:
        """The first beat is there. Raises OSError."""
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """No driver is at work any more, as far as this one knows."""
        self._over.set()
        self._thread.join(JOIN_S)  # a store that is away is not waited for
        with suppress(OSError, StoreError):
            self.stop()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            with suppress(OSError, StoreError):
                self.beat()

    def beat(self) -> None:
        """Beat if it is time, and look for a successor. Raises OSError, StoreError."""
        if self._clock() < self._next_s:
            return
        self._store.put_marker(self._key(self._number + 1), me())
        self._number, last = self._number + 1, self._number
        if last:
            self._store.remove(self._key(last))
        self._next_s = self._clock() + EVERY_S
        found = beats(self._store, self._job_id)
        if (latest := max(found, default=0)) > self._epoch:
            _, self.successor = found[latest]

    def stop(self) -> None:
        """As if it had never beaten. Raises OSError, StoreError."""
        for key in self._store.list_keys(self._key(0).rpartition("/")[0]):
            self._store.remove(key)

    def _key(self, number: int) -> str:
        return f"jobs/{self._job_id}/beats/{self._epoch:06}/{number:09}.json"


def beats(store: Store, job_id: str) -> dict[int, tuple[int, dict[str, Any]]]:
    """Each driver that beat and did not stop: by its epoch, its latest beat and who it is. Raises OSError."""
    found: dict[int, int] = {}
    for match in map(_BEAT.search, store.list_keys(f"jobs/{job_id}/beats")):
        if match:
            found[int(match[1])] = max(found.get(int(match[1]), 0), int(match[2]))
    read = {e: (n, store.read_marker(f"jobs/{job_id}/beats/{e:06}/{n:09}.json")) for e, n in found.items()}
    return {epoch: (number, who) for epoch, (number, who) in read.items() if who is not None}


def rival_of(
    store: Store, job_id: str, epoch: int, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any] | None:
    """A driver of an earlier epoch that is at work; looked for before this one does anything. Raises OSError.

    Waits only where earlier drivers of other hosts have not ended: PATIENCE_S for each, since one that waits
    itself, for one that is dead, beats only after that.
    """
    before = _earlier(store, job_id, epoch)
    for who in before.values():
        here = who.get("host") == platform.node() and who["pid"] != os.getpid()
        if here and who.get("started") == _started(who["pid"]) is not None:
            return who
    unsure = {each for each, who in before.items() if who.get("host") != platform.node()}
    seen = {each: number for each, (number, _) in beats(store, job_id).items()}
    for _ in unsure:
        sleep(PATIENCE_S)
        for each, (number, who) in beats(store, job_id).items():
            if each < epoch and number > seen.get(each, 0):
                return who
        if unsure <= _over(store, job_id):
            break
    return None


def _over(store: Store, job_id: str) -> set[int]:
    """The epochs whose drivers ended or left."""
    folders = (store.list_keys(f"jobs/{job_id}/{folder}") for folder in ("ended", "left"))
    return {int(match[1]) for keys in folders for match in map(_NUMBER.search, keys) if match}


def _earlier(store: Store, job_id: str, epoch: int) -> dict[int, dict[str, Any]]:
    """Claims of earlier epochs that have neither ended nor left, nor been taken over by a later one."""
    over, last = _over(store, job_id), max((e for e in beats(store, job_id) if e < epoch), default=0)
    claims: dict[int, dict[str, Any]] = {}
    for match in map(_EPOCH.search, store.list_keys(f"jobs/{job_id}/driver")):
        if match and last <= int(match[1]) < epoch and int(match[1]) not in over:
            claims[int(match[1])] = store.read_marker(f"jobs/{job_id}/driver/epoch-{match[1]}.json") or {}
    return {each: claim for each, claim in claims.items() if "pid" in claim}


def leave(store: Store, job_id: str, epoch: int, to: dict[str, Any]) -> None:
    """This driver renders nothing of the job: another one does. Raises OSError."""
    store.put_marker(f"jobs/{job_id}/left/{epoch:06}.json", {"to": to})


def told(who: dict[str, Any]) -> str:
    """A driver as people find it."""
    return f"process {who.get('pid')} on {who.get('host')}"
