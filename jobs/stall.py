"""Whether a job stands still: nothing is done or predicted, though work is to be given out.

Decides: since when, and what may be the cause. Does not decide: when a person is told (deadline).
"""

import time
from collections.abc import Callable

from cluster.events import Admitted, Done, Event, Predicted, Turned
from cluster.state import GANG, State

STALL_S = 600.0  # for which nothing happens before that is remarkable
MOVES = (Admitted, Done, Predicted, Turned)


class Stall:
    """Told of every event; by a clock of seconds that goes forward only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved_s = clock()

    def event(self, event: Event, state: State) -> None:
        """Something happened; while a person holds the job, nothing is to. Trouble that is waited out is."""
        if isinstance(event, MOVES) or state.holds:
            self._moved_s = self._clock()

    @property
    def stands_s(self) -> float:
        """For how long the job stands still; 0 while that is not remarkable."""
        stands_s = self._clock() - self._moved_s
        return stands_s if stands_s >= STALL_S else 0.0


def told(stands_s: float, state: State) -> str:
    """That a job stands still, in words, with what there is to do the work."""
    gangs = sum(worker.role == GANG for worker in state.workers.values())
    since = f"nothing was done for {round(stands_s / 60)} min"
    if not gangs:
        return f"{since}: there is no gang; does the cluster have GPUs that are free?"
    at_work = f"{len(state.predicting)} of {gangs} gangs are at a window, {len(state.windows)} windows wait"
    tasks = f"{len(state.running)} shots and other tasks are under way"
    return f"{since}: {at_work}, {tasks}; look at the workers' logs"
