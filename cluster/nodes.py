"""The nodes of a Ray cluster: which there are, what they have, which are about to go, and where this one is.

Decides: whom Ray is asked. Does not decide: what follows from an answer (dispatch, topology, causes).
"""

import socket
from collections.abc import Callable, Mapping

import ray

Place = tuple[str, int]  # where a node's raylet listens: address and port
ANSWER_S = 1.0  # in which it takes a connection
OTHERS = 8  # nodes that are asked whether any can be reached


def node_address() -> str:
    """The address by which other nodes reach this one."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def node_of(actor: object) -> str:
    """The id of the node that an actor's process is on, asked of itself."""
    return str(ray.get_runtime_context().get_node_id())


def draining_nodes() -> set[str]:
    """Ids of nodes that are about to go: told to drain, or given notice of their end.

    Ray's public calls do not tell it; its own training library asks here, too.
    """
    from ray._private.state import state

    return set(state.get_draining_nodes())


def living() -> dict[str, dict[str, float]]:
    """What every node of the cluster has, by its id."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}


def living_nodes() -> list[dict[str, float]]:
    """What every node of the cluster has."""
    return list(living().values())


def lives(node_id: str) -> bool:
    """Whether a node lives, asked of itself: Ray takes it for alive until some seconds after its death.

    A driver outside of the cluster may reach no node at all: then what Ray has in its table counts.
    """
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    own = ray.get_runtime_context().get_node_id()
    alive = sorted((node for node in nodes if node["Alive"]), key=lambda node: node["NodeID"] != own)
    places = {node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive}
    return is_there(node_id, places, lambda place: _listens(*place))


def is_there(node_id: str, places: Mapping[str, Place], answers: Callable[[Place], bool]) -> bool:
    """Whether a node is one of those that Ray takes for alive, and answers; if none does, that it is one.

    `places` has the driver's own node first: few others need be asked.
    """
    if node_id not in places or answers(places[node_id]):
        return node_id in places
    others = [place for other, place in places.items() if other != node_id]
    return not any(answers(place) for place in others[:OTHERS])


def _listens(address: str, port: int) -> bool:
    """Whether somebody takes a connection there."""
    try:
        socket.create_connection((address, port), ANSWER_S).close()
    except OSError:
        return False
    return True
