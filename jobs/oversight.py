"""While gangs are tried: what that takes is billed, and orders, the job's budget and its deadline end it.

Trials come when a job is claimed and before its first film, so the loop is not there yet to hear an order.
What ends them is what dispatch would make of the same orders in a job without films. They are looked at here
and not taken: the loop hears them all, and answers them. While a job is paused nothing is tried, and what was
left untried is tried when it goes on.
Decides: when trials stop. Does not decide: what follows for the job (cluster.dispatch), which gangs are tried
(cluster.trials), or what their seconds cost (jobs.bill).
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from cluster.dispatch import Limits, State, decide
from cluster.dropping import ends_early
from cluster.events import Ticked
from cluster.loop import Desk
from cluster.orders import event_of
from jobs.books import Books
from jobs.deadline import left_s
from jobs.desk import JobDesk
from jobs.job import Job
from jobs.terms import limits_of
from manifests.control import Orders
from manifests.drivers import Heart
from manifests.store import Store

LOOK_S = 1.0  # between two looks at a pause


def oversight(
    job: Job, store: Store, heart: Heart, books: Books, done_by: datetime | None = None
) -> "Oversight":
    """Over the trials of a job that this driver has claimed, and that is to be done by a moment."""
    desk = JobDesk(Orders(store, job.job_id), heart, lambda rows: (), lambda rows: None, {})
    limits, left = limits_of(job.spec.cluster), partial(left_s, done_by)
    return Oversight(desk, limits, books.tried, books.had, left)


class Oversight:
    """An overseer of trials; `desk` has all orders of the job, each once, and may raise to end the driver.

    `tried` and `hired` are told what gangs took, as the overseer is. `left_s` tells the time to the deadline.
    """

    def __init__(
        self,
        desk: Desk,
        limits: Limits,
        tried: Callable[[str, float, float], None],
        hired: Callable[[float], None],
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._desk, self._tried, self.had, self._left_s = desk, tried, hired, left_s
        self._state = State(limits)

    @property
    def spent_gpu_s(self) -> float:
        """What all trials took until now."""
        return self._state.spent_gpu_s

    def took(self, gang: str, seconds: float, gpu_s: float) -> None:
        """A gang was at a window."""
        self._state = replace(self._state, spent_gpu_s=self._state.spent_gpu_s + gpu_s)
        self._tried(gang, seconds, gpu_s)

    @property
    def ended(self) -> bool:
        """Whether somebody has ended the job, or its budgets or its time are over."""
        return self._ends()

    def goes_on(self, gpu_s: float = 0.0) -> bool:
        """Whether nobody has paused or ended the job, and its budgets have room for gpu_s more."""
        self._hear()
        return not (self._state.held or self._ends(gpu_s))

    def resumed(self) -> bool:
        """Wait while the job is paused; whether it goes on then."""
        while not self.goes_on():
            if self._ends():
                return False
            time.sleep(LOOK_S)
        return True

    def _hear(self) -> None:
        """Look at what was ordered since the last look."""
        for order in self._desk.orders():
            if (event := event_of(order)) is not None:
                self._state, _ = decide(self._state, event)

    def _ends(self, gpu_s: float = 0.0) -> bool:
        """Whether dispatch would end the job, or the deadline has come."""
        spent = replace(self._state, spent_gpu_s=self._state.spent_gpu_s + gpu_s)
        after, _ = decide(spent, Ticked(self._state.now_s))
        return bool(ends_early(after)) or self._left_s() <= 0
