"""Workers that die before their first call, as one does whose GPU fell off the bus while its node lives.

Such a one is begun anew a few times, then parked: the others go on without it. After a while it is tried
again, a gang in whatever place is free then, which may be another node. Only where nobody of its role is left
can nothing be done.

Decides: who is begun anew, parked, or missed too much. Does not decide: how one is begun (remote).
"""

import time
from collections.abc import Collection

from cluster.outcomes import Failure

HIRES = 5  # in a row that a worker may die before its first call
PARKED_S = 600.0  # until a parked one is tried again
PARKED = "E914_PARKED"


class CrewError(Exception):
    """Workers cannot be had, whatever is done."""


class Hires(dict[str, int]):
    """How often each worker was begun that has not come to work yet."""

    def __init__(self) -> None:
        super().__init__()
        self.parked: dict[str, float] = {}  # workers that are left alone, until then

    def begun(self, worker: str) -> None:
        """One start more."""
        self[worker] = self.get(worker, 0) + 1

    def parks(
        self, worker: str, crew: Collection[str], node: str, why: BaseException | None
    ) -> Failure | None:
        """What to say of a worker that died at its start and is parked; None to begin it anew at once.

        `crew` are all workers, `node` its node's id if known, `why` what it died of. Raises CrewError.
        """
        if self[worker] < HIRES:
            return None
        told = parked(worker, node, why)
        if not any(_role(other) == _role(worker) for other in set(crew) - {worker, *self.parked}):
            raise CrewError(f"{told.message}; {told.hint}")
        self.parked[worker] = time.monotonic() + PARKED_S
        return told

    def forget(self, worker: str) -> None:
        """Nobody waits for this one any more."""
        self.pop(worker, None)
        self.parked.pop(worker, None)

    def due(self) -> list[str]:
        """Those that are to be tried again, as if for the first time."""
        now_s = time.monotonic()
        found = sorted(worker for worker, until_s in self.parked.items() if until_s <= now_s)
        for worker in found:
            del self.parked[worker], self[worker]
        return found


def _role(worker: str) -> str:
    return worker.rpartition("-")[0]


def parked(worker: str, node: str, why: object) -> Failure:
    """What is said of a worker that is left alone for a while; `why` is what it died of last, if known."""
    said = [line.strip() for line in str(why or "").splitlines() if line.strip()]
    last = said[-1] if said else "nobody knows of what"
    where = f" on node {node[:8]}" if node else ""
    message = f"{worker} died {HIRES} times before its first call{where}: {last}"[:500]
    hint = "look at that node's GPUs (nvidia-smi, kernel log) and at the worker's log in Ray's folder"
    return Failure(PARKED, message, hint, "GPU_FAULT" if worker.startswith("gang-") else "BUG")
