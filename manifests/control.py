"""Orders to a job while it runs: small files in its folder, put one after another, that outlive any driver.

An order is a JSON object at jobs/JOB/control/NNNNNN.json, put only where none is, so that all orders of all
people have one sequence, and giving one needs nothing but the store.

Decides: how orders are numbered and read. Does not decide: what they mean (cluster.orders).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from manifests.store import Store


def give_order(store: Store, job_id: str, order: Mapping[str, Any]) -> int:
    """The number of an order that is now given. Raises OSError (unknown; safe to retry)."""
    body, number = dict(order) | {"id": uuid4().hex}, 1
    while not _put(store, _key(job_id, number), body):
        number += 1
    return number


def _put(store: Store, key: str, body: Mapping[str, Any]) -> bool:
    """Whether it is there as we put it: refused, it may be ours still, if the reply to a put was lost."""
    return store.put_marker(key, body) or store.read_marker(key) == body


class Orders:
    """Reads the orders of a job, each once, the first ones of its life at the first look."""

    def __init__(
        self, store: Store, job_id: str, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._job_id, self._every_s, self._clock = store, job_id, every_s, clock
        self._read, self._next_s = 0, -float("inf")

    def new(self) -> list[dict[str, Any]]:
        """Those given since the last look, numbered; none within `every_s` seconds of it. Raises OSError."""
        if self._clock() < self._next_s:
            return []
        found: list[dict[str, Any]] = []
        while (order := self._store.read_marker(_key(self._job_id, self._read + 1))) is not None:
            self._read += 1
            found.append(order | {"number": self._read})
        self._next_s = self._clock() + self._every_s
        return found


def _key(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/control/{number:06}.json"
