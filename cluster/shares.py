"""How the ranks of a cluster are shared out between the jobs on it.

Each job has a weight, cluster.share. Ranks go one by one to the job that has least for its weight, as far as
it wants any: weighted max-min fairness. What one job does not want the others have; a job that wants any has
one before another has its second, so that none starves. A job with larger gangs rounds down, and has one.

Decides: how many each job should have, and which gangs go or come back. Does not decide: how (yielding).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace

GIVEN_UP = "E913_GIVEN_UP"  # with which a gang is lost that another job gets
STALE_S = 30.0  # a job that says nothing for so long is gone


@dataclass(frozen=True)
class Claim:
    """What a job says of itself: its weight, how many ranks it could use, and how many it has."""

    share: float
    wants: int
    has: int


def targets(claims: Mapping[str, Claim], ranks: int) -> dict[str, int]:
    """How many of so many ranks each job should have. Equal claims are served in the order of their names."""
    found = dict.fromkeys(sorted(claims), 0)
    line = [(0.0, job) for job in found if claims[job].wants > 0]
    heapify(line)
    for _ in range(ranks):
        if not line:
            break
        _, job = line[0]
        found[job] += 1
        more = found[job] < claims[job].wants
        heapreplace(line, (found[job] / claims[job].share if more else float("inf"), job))
        if line[0][0] == float("inf"):
            break
    return found


def allowed(claims: Mapping[str, Claim], job: str, ranks: int) -> int:
    """How many of so many ranks a job may keep: all that it has where no other job wants for any."""
    mine = claims[job]
    wanting = any(claim.wants > claim.has for other, claim in claims.items() if other != job)
    target = targets(claims, ranks)[job]
    return target if wanting else max(target, mine.has)


class Shares:
    """The claims of all jobs on a cluster; the plain class of an actor that all drivers find by its name.

    When a claim came is told by this clock alone: those of the drivers' hosts may be minutes apart.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.claims: dict[str, tuple[float, Claim]] = {}  # job -> when, and what

    def tell(self, job: str, claim: Claim, ranks: int) -> int:
        """Take a job's claim; how many of the cluster's ranks it may have, with what all others claim."""
        now_s = self.clock()
        living = {each: told for each, told in self.claims.items() if now_s - told[0] < STALE_S}
        self.claims = living | {job: (now_s, claim)}
        return allowed({each: claim for each, (_, claim) in self.claims.items()}, job, ranks)

    def leave(self, job: str) -> None:
        """A job has ended."""
        self.claims.pop(job, None)


@dataclass(frozen=True)
class Holding:
    """A job's gangs by name: those at work, those of them that are to go once they are idle, those that have
    not come to work yet, and those that have no place: given up, or not tried yet."""

    hired: frozenset[str]
    yielding: frozenset[str] = frozenset()
    forming: frozenset[str] = frozenset()
    parked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Change:
    """Gangs by name: those at work that are to go, parked ones to come, and forming ones to stop."""

    go: frozenset[str] = frozenset()
    come: frozenset[str] = frozenset()
    stop: frozenset[str] = frozenset()


def rearranged(holding: Holding, allowed: int) -> Change:
    """What makes so many gangs, one at least, of those there are; none counts that is to go already."""
    staying, forming = sorted(holding.hired - holding.yielding), sorted(holding.forming)
    most = max(allowed, 1)
    room = max(most - len(staying), 0)
    wanting = max(room - len(forming), 0)
    return Change(
        go=frozenset(staying[most:]),
        come=frozenset(sorted(holding.parked)[:wanting]),
        stop=frozenset(forming[room:]),
    )
