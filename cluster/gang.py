"""A gang: the ranks that predict one window together, on one node. Formed whole, replaced whole.

Its processes share a placement group that outlives them, so a replaced gang takes the same place, unless
that was lost with its node. Each forming has a prefix of its own in the rendezvous: a rank of the gang before
it cannot join by being late.
"""

from collections.abc import Mapping

from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from cluster.actors import RankHandle, Ref
from cluster.crew import Setup
from cluster.events import Window
from cluster.topology import rank_needs


class Gang:
    """Handles of `setup.axes.ranks` ranks; made again by `form` after a loss."""

    def __init__(self, name: str, setup: Setup, rendezvous: tuple[str, int]) -> None:
        self.name, self.setup, self.rendezvous = name, setup, rendezvous
        self.needs = rank_needs(setup)
        self.place = placement_group([self.needs] * setup.axes.ranks, strategy="STRICT_PACK")
        self.ranks: list[RankHandle] = []
        self.formed = 0

    def form(self) -> list[Ref]:
        """Start the ranks anew; each reference resolves when the gang has come together.

        They look for each other once all processes live: the gang's timeout is for collectives, not for how
        long a busy node takes to start a process.
        """
        self.kill()
        axes, self.formed = self.setup.axes, self.formed + 1
        self.ranks = [
            RankHandle(self.name, self.setup, self.needs, self.place, rank) for rank in range(axes.ranks)
        ]
        host, port = self.rendezvous
        prefix, living = f"{self.name}/{self.formed}", [rank.ready() for rank in self.ranks]
        return [
            rank.form(host, port, prefix, number, axes, self.setup.group_timeout_s, living)
            for number, rank in enumerate(self.ranks)
        ]

    def predict(self, request: Ref, window: Window) -> tuple[list[Ref], Ref]:
        """What tells how each rank fared, and the prediction, which all ranks hold alike."""
        answers = [rank.predict(request, window) for rank in self.ranks]
        return [fared for fared, _ in answers], answers[0][1]

    def node(self) -> str:
        """The id of the node that its place is on, "" if it has none."""
        bundles = placement_group_table(self.place).get("bundles_to_node_id", {})
        return next(iter(bundles.values()), "")

    def kill(self) -> None:
        """End all ranks: half a gang is none."""
        for rank in self.ranks:
            rank.kill()
        self.ranks = []

    def disband(self) -> None:
        """Give the gang's place back."""
        self.kill()
        remove_placement_group(self.place)


def placeless(gangs: Mapping[str, Gang]) -> list[str]:
    """Names of those whose place was lost with its node.

    For these Ray looks for another one before all others and without a pause, which takes a core of its head
    node until there is one. For a new gang it looks now and then.
    """
    states = {group: told["state"] for group, told in placement_group_table().items()}
    return sorted(name for name, gang in gangs.items() if states.get(gang.place.id.hex()) == "RESCHEDULING")
