"""The nodes of a cluster as a driver knows them: which stay, which are about to go, which it found dead.

Ray takes a dead node for alive until some seconds after its death. Its room would be counted besides that of
a node which has come in its stead.

Decides: which nodes count. Does not decide: what becomes of who was there (remote, pool).
"""

import time
from collections.abc import Iterable

from cluster.causes import of_node
from cluster.nodes import draining_nodes, lives, living
from cluster.outcomes import Failure

UNNOTICED_S = 60.0  # after which Ray's word counts again of a node that was found dead


class Ground:
    """`draining` are the nodes that had notice, by their ids."""

    def __init__(self) -> None:
        self.draining: set[str] = set()
        self._dead: dict[str, float] = {}  # nodes that were found so, and when
        self._living: dict[str, dict[str, float]] = {}
        self._nodes: dict[str, str] = {}  # worker -> the node it came to work on

    def look(self) -> tuple[list[str], bool]:
        """Nodes that had notice since the last look, and whether any has gone since."""
        told, before = draining_nodes() - self.draining, self._living
        self.draining |= told
        self._living = living()
        return sorted(told), not before.keys() <= self._living.keys()

    def came(self, worker: str, node: str) -> None:
        """A worker has come to work."""
        self._nodes[worker] = node

    def going(self, workers: Iterable[str]) -> set[str]:
        """Those that are on nodes which are about to go."""
        return {worker for worker in workers if self._nodes.get(worker) in self.draining}

    def lost(self, worker: str) -> Failure | None:
        """What to say of a worker that is gone, if its node is to blame."""
        node = self._nodes.pop(worker, "")
        return of_node(worker, node, self.draining, self._lives(node)) if node else None

    def _lives(self, node: str) -> bool:
        """Asked of itself, but not once more for each worker that was there."""
        if node in self._found_dead():
            return False
        found = lives(node)
        if not found:
            self._dead[node] = time.monotonic()
        return found

    def staying(self) -> list[dict[str, float]]:
        """What every node has that is there and stays."""
        besides = self.draining | self._found_dead()
        return [has for node, has in self._living.items() if node not in besides]

    def _found_dead(self) -> set[str]:
        since_s = time.monotonic() - UNNOTICED_S
        return {node for node, at_s in self._dead.items() if at_s > since_s}
