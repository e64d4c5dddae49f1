"""The nodes of a Ray cluster: which there are, what they have, which are about to go, and where this one is.

Decides: whom Ray is asked. Does not decide: what follows from an answer (dispatch, topology, causes).
"""

import socket
from collections.abc import Mapping
from typing import Any

import ray

ANSWER_S = 1.0  # in which a node's raylet takes a connection


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


def living_nodes() -> list[dict[str, float]]:
    """What every node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def lives(node_id: str) -> bool:
    """Whether a node lives, asked of itself: Ray takes it for alive until some seconds after its death."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    at = [(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes if _is(node, node_id)]
    return any(_listens(*place) for place in at)


def _is(node: Mapping[str, Any], node_id: str) -> bool:
    """Whether this is the node, and alive as far as Ray knows."""
    return bool(node["NodeID"] == node_id and node["Alive"])


def _listens(address: str, port: int) -> bool:
    """Whether somebody takes a connection there."""
    try:
        socket.create_connection((address, port), ANSWER_S).close()
    except OSError:
        return False
    return True
