"""A driver's part in sharing out a cluster: it tells what its job has and wants, and hears what it may keep.

All drivers ask one actor, found by its name, that the first of them starts and none owns. An answer is read
at the look after the question, so that nobody waits for it; while there is none a job keeps what it has.

Decides: when to ask. Does not decide: how ranks are shared out (shares), or what a gang is at (dispatch).
"""

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import ray
from ray import exceptions as errors

from cluster.crew import Setup
from cluster.outcomes import Failure
from cluster.shares import GIVEN_UP, Change, Claim, Holding, Shares, rearranged

NAME, NAMESPACE = "longtake-shares", "longtake"
LULL_S = 30.0  # for which a gang must have had nothing to do before it is not wanted
GIVEN = Failure(GIVEN_UP, "another job has a right to it", "raise cluster.share to keep more", "PREEMPTED")
SharesActor: Any = ray.remote(max_restarts=0, num_cpus=0)(Shares)


class Part:
    """Which gangs a job has, gives up and takes up again.

    `most` is how many it could use, and `room` how many of its size the whole cluster has room for now.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup, self.ranks = setup, setup.axes.ranks
        self.asked: Any = None
        self.most = self.room = self.allowed = setup.gangs
        self.had = 0  # gangs, forming ones too, when it last asked
        self.over = False  # whether it may have fewer than those
        self.holding = Holding(frozenset())
        self.busy_s: dict[str, float] = {}
        self.actor = _actor()

    def look(self, hired: Collection[str], busy: Collection[str], forming: Collection[str] = ()) -> Change:
        """What is to become of the gangs now."""
        now_s = time.monotonic()
        self.busy_s |= dict.fromkeys(set(busy) | (set(hired) - self.holding.hired), now_s)  # new ones too
        still = self.holding.yielding & set(hired)
        self.holding = Holding(frozenset(hired), still, frozenset(forming), self.holding.parked)
        self._ask(now_s)
        change = rearranged(self.holding, self.allowed)
        if not self.over:  # what is too many has come since the question
            change = Change(come=change.come)
        self.over = False
        parked = self.holding.parked - change.come | change.stop
        self.holding = replace(self.holding, yielding=self.holding.yielding | change.go, parked=parked)
        return change

    def park(self, gangs: Collection[str]) -> None:
        """There may be gangs of these names besides, which form as far as the job has a right to them."""
        self.holding = replace(self.holding, parked=self.holding.parked | frozenset(gangs))

    def emptied(self, busy: Collection[str]) -> list[str]:
        """Gangs that were to go and have nothing to do any more: they are given up now."""
        gone = self.holding.yielding - set(busy)
        self.holding = replace(
            self.holding,
            hired=self.holding.hired - gone,
            yielding=self.holding.yielding - gone,
            parked=self.holding.parked | gone,
        )
        return sorted(gone)

    def leave(self) -> None:
        """The job has ended."""
        self.actor.leave.remote(self.setup.job_id)

    def _ask(self, now_s: float) -> None:
        """Read the last answer, if it is there, and ask anew."""
        if self.asked is not None:
            ready, _ = ray.wait([self.asked], timeout=0)
            if not ready:
                return
            try:
                self.allowed = max(ray.get(self.asked) // self.ranks, 1)
                self.over = self.allowed < self.had
            except errors.RayActorError:  # its node is gone: whoever asks first starts it anew
                self.actor, self.allowed, self.over = _actor(), self.most, False
        lately = sum(now_s - at_s < LULL_S for at_s in self.busy_s.values())
        has = len(self.holding.hired - self.holding.yielding)
        self.had = has + len(self.holding.forming)
        wants = self.most if lately >= has else max(lately, 1)
        claim = Claim(self.setup.share, wants * self.ranks, has * self.ranks)
        self.asked = self.actor.tell.remote(self.setup.job_id, claim, self.room * self.ranks)


def _actor() -> Any:
    """The one that all drivers ask; started if nobody has."""
    named = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return SharesActor.options(**named).remote()
