"""How many gangs of which size fit on the nodes there are. Pure arithmetic.

A gang lies on one node: its ranks exchange gigabytes a step, where windows exchange megabytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.crew import Setup

Resources = Mapping[str, float]


class TooSmall(Exception):
    """The cluster cannot hold what the job asks for."""


def rank_needs(setup: Setup) -> dict[str, float]:
    """What one rank takes of its node."""
    return {"GPU": 1.0} if setup.device == "cuda" else {"CPU": float(setup.threads)}


def gangs_on(node: Resources, setup: Setup) -> int:
    """How many gangs fit on a node."""
    ranks = min(int(node.get(name, 0.0) // amount) for name, amount in rank_needs(setup).items())
    return ranks // setup.axes.ranks


def fit(setup: Setup, nodes: Sequence[Resources]) -> Setup:
    """The setup with its device and number of gangs: as many as fit where it says 0. Raises TooSmall."""
    if setup.device == "auto":
        gpus = sum(node.get("GPU", 0.0) for node in nodes)
        setup = replace(setup, device="cuda" if gpus else "cpu")
    room = sum(gangs_on(node, setup) for node in nodes)
    axes, ((unit, amount), *_) = setup.axes, rank_needs(setup).items()
    largest = max((node.get(unit, 0.0) for node in nodes), default=0.0)
    if room == 0:
        raise TooSmall(
            f"a gang of {axes.equation} ranks needs {axes.ranks * amount:g} {unit} on one node, the largest "
            f"of {len(nodes)} nodes has {largest:g}; lower cluster.cfg, cluster.ring, cluster.ulysses or "
            "cluster.threads"
        )
    if setup.gangs > room:
        raise TooSmall(
            f"cluster.gangs={setup.gangs} gangs of {axes.ranks} do not fit: the {len(nodes)} nodes have room "
            f"for {room}; lower cluster.gangs, or 0 for as many as fit"
        )
    return replace(setup, gangs=setup.gangs or room)
