"""Orders to a job while it runs: small files in its folder, put one after another, that outlive any driver.

An order is a JSON object at jobs/JOB/control/NNNNNN.json, put only where none is, so that all orders of all
people have one sequence, and giving one needs nothing but the store. A file that is damaged keeps its number
and stops no order behind it.

Decides: how orders are numbered and read. Does not decide: what they mean (cluster.orders).
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from manifests.store import Store, Unreadable

LOG = logging.getLogger("longtake")


def give_order(store: Store, job_id: str, order: Mapping[str, Any]) -> int:
    """The number of an order that is now given. Raises OSError (unknown; safe to retry)."""
    body, number = dict(order) | {"id": uuid4().hex}, 1
    while not _put(store, _key(job_id, number), body):
        number += 1
    return number


def _put(store: Store, key: str, body: Mapping[str, Any]) -> bool:
    """Whether it is there as we put it: refused, it may be ours still, if the reply to a put was lost."""
    try:
        return store.put_marker(key, body) or store.read_marker(key) == body
    except Unreadable:  # another's, as ours is there whole or not at all
        return False


class Orders:
    """Reads the orders of a job, each once, the first ones of its life at the first look."""

    def __init__(
        self, store: Store, job_id: str, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._job_id, self._every_s, self._clock = store, job_id, every_s, clock
        self._read, self._next_s = 0, -float("inf")
        self._found: list[dict[str, Any]] = []

    def new(self) -> list[dict[str, Any]]:
        """Those given since the last look, numbered; none within `every_s` seconds of it.

        Raises OSError; what was read until then comes with the next look that ends well.
        """
        if self._clock() < self._next_s:
            return []
        try:
            while self._take():
                pass
        finally:  # also where the store is away, which is asked again no sooner
            self._next_s = self._clock() + self._every_s
        found, self._found = self._found, []
        return found

    def _take(self) -> bool:
        """Whether there is a next order. It is found then, or told to be damaged. Raises OSError."""
        number = self._read + 1
        try:
            order = self._store.read_marker(_key(self._job_id, number))
        except Unreadable as error:
            # Not with its advice to remove it: orders are found by counting, and behind a gap there are none.
            LOG.warning("order %d is left out, give it again: %s (%s)", number, error.what, error.where)
        else:
            if order is None:
                return False
            self._found.append(order | {"number": number})
        self._read = number
        return True


def _key(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/control/{number:06}.json"
