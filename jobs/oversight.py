"""While gangs are tried: what that takes is billed, and people's orders and the job's budget end it.

Trials come when a job is claimed and before its first film, so the loop is not there yet to hear an order.
What ends them is what dispatch would make of the same orders in a job without films. They are looked at here
and not taken: the loop hears them all, and answers them.
Decides: when trials stop. Does not decide: what follows for the job (cluster.dispatch), which gangs are tried
(cluster.trials), or what their seconds cost (jobs.bill).
"""

from collections.abc import Callable

from cluster.dispatch import Limits, State, decide
from cluster.dropping import ends_early
from cluster.events import Ticked
from cluster.loop import Desk
from cluster.orders import event_of
from jobs.books import Books
from jobs.desk import JobDesk
from jobs.job import Job
from jobs.overruled import Counts
from jobs.terms import limits_of
from manifests.control import Orders
from manifests.drivers import Heart
from manifests.store import Store


def oversight(job: Job, store: Store, heart: Heart, books: Books, counts: Counts) -> "Oversight":
    """Over the trials of a job that this driver has claimed."""
    desk = JobDesk(Orders(store, job.job_id), heart, lambda rows: (), lambda rows: None, {}, counts)
    return Oversight(desk, limits_of(job.spec.cluster), books.tried, books.had, books.spent_gpu_s)


class Oversight:
    """An overseer of trials; `desk` has all orders of the job, each once, and may raise to end the driver.

    `tried` and `hired` are told what gangs took, as the overseer is; `spent` says what the job took by then.
    """

    def __init__(
        self,
        desk: Desk,
        limits: Limits,
        tried: Callable[[str, float, float], None],
        hired: Callable[[float], None],
        spent: Callable[[], float],
    ) -> None:
        self._desk, self.took, self.had, self._spent = desk, tried, hired, spent
        self._state = State(limits)

    def goes_on(self, gpu_s: float = 0.0) -> bool:
        """Whether nobody has paused or ended the job, and its budgets have room for gpu_s more."""
        for order in self._desk.orders():
            if (event := event_of(order)) is not None:
                self._state, _ = decide(self._state, event)
        after, _ = decide(self._state, Ticked(self._state.now_s, self._spent() + gpu_s))
        return not (after.held or ends_early(after))
