"""Calls that a crew on Ray waits for: of whom, of what, for how long, and what is made of their answers.

Decides: when a call counts as hung, and what is said of it. Does not decide: what a failed one says of its
worker (causes), or what becomes of that (dispatch).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.crew import judge
from cluster.events import Event, Raised, Window
from cluster.outcomes import Failure


@dataclass(frozen=True, eq=False)
class Call:
    """A call under way: at whom, of what, what its answer means, and how long it is waited for."""

    worker: str
    key: str
    answer: Callable[[Any], Event]
    window: Window | None = None
    bound_s: float = math.inf
    began: float = field(default_factory=time.monotonic)

    @property
    def is_late(self) -> bool:
        """Whether it is waited for no longer."""
        return time.monotonic() - self.began > self.bound_s

    def raised(self, cause: BaseException) -> Raised:
        """That it raised, on a worker that lives."""
        return Raised(self.key, self.worker, judge(cause), self.window)


def answered(refs: list[Any], most_s: float) -> list[Any]:
    """All that are answered, once one is or so much time has passed."""
    ready, _ = ray.wait(refs, timeout=most_s, fetch_local=False)
    if ready:
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
    return ready


def hung(call: Call) -> Failure:
    """What is said of a call that is waited for no longer."""
    key = "step" if call.window or call.worker.startswith("conduct-") else "task"
    message = f"{call.worker} gave no answer for {call.bound_s:g} s, so it counts as hung"
    hint = f"if it was at work all the time, raise cluster.{key}_timeout_s; else see its log in Ray's folder"
    return Failure("E911_HUNG", message, hint, "TIMEOUT")
