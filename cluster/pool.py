"""Which gangs a job has, as nodes come and go and other jobs want their share.

A job that takes as many gangs as there is room for follows the cluster: what fits on nodes that come, it adds
at the next look. A gang that was lost with its node waits for a place, and takes the next one that there is;
Ray tells that to whatever adds nodes. Nodes that are about to go have no room: where others come in their
stead, gangs are formed there at once, and those that die with their nodes are not replaced.

Decides: how many gangs there are, and what they are called. Does not decide: how ranks are shared out between
jobs (shares), or what a gang is at (dispatch).
"""

from collections.abc import Collection
from typing import Protocol

from cluster.crew import Setup
from cluster.shares import Change, Holding


class Sharing(Protocol):
    """A job's part in a cluster with others: which gangs it holds, could use, and there is room for."""

    holding: Holding
    most: int
    room: int

    def look(self, hired: Collection[str], busy: Collection[str], forming: Collection[str]) -> Change:
        """What is to become of the gangs now."""

    def park(self, gangs: Collection[str]) -> None:
        """There may be gangs of these names besides."""

    def emptied(self, busy: Collection[str]) -> list[str]:
        """Gangs that were to go and have nothing to do any more."""

    def leave(self) -> None:
        """The job has ended."""


class Pool:
    """The names of a job's gangs; `growing` where more may come. Without a part it has the cluster alone."""

    def __init__(self, setup: Setup, part: Sharing | None, growing: bool) -> None:
        self.names = {f"gang-{number}" for number in range(setup.gangs)}
        self.numbered = self.most = setup.gangs
        self.part, self.growing = part, growing

    def look(
        self,
        room: int,
        going: Collection[str],
        hired: Collection[str],
        forming: Collection[str],
        busy: Collection[str],
    ) -> Change:
        """Which gangs are to go, to come and to form no more.

        There is room for so many on nodes that stay; `going` are gangs on nodes that do not.
        """
        come = self._grown(room, len(going)) if self.growing else frozenset[str]()
        if self.part is None:
            return Change(come=come)
        self.part.most, self.part.room = self.most, room
        self.part.park(come)
        return self.part.look(hired, busy, forming)

    def _grown(self, room: int, going: int) -> frozenset[str]:
        """Names of gangs for which there is more room."""
        self.most = max(self.most, room)
        more = max(room - (len(self.names) - going), 0)
        come = frozenset(f"gang-{number}" for number in range(self.numbered, self.numbered + more))
        self.names |= come
        self.numbered += more
        return come

    def keeps(self, worker: str) -> bool:
        """Whether a worker that was lost is to be replaced: no gang that has no place, or is one too many."""
        if worker not in self.names:
            return True
        if self.part is not None and worker in self.part.holding.parked:
            return False
        if len(self.names) <= self.most:
            return True
        self.names.discard(worker)
        return False

    def emptied(self, busy: Collection[str]) -> list[str]:
        """Gangs that were to go and have nothing to do any more: they are given up now."""
        return self.part.emptied(busy) if self.part is not None else []

    def leave(self) -> None:
        """The job has ended."""
        if self.part is not None:
            self.part.leave()
