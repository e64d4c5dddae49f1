"""What every node of a Ray cluster sees: the store, by the same trial as the driver's, and the time.

Decides: who is asked, and what a node that does not answer comes to. Does not decide what a store must do
(manifests.probe), nor how far clocks may differ.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from manifests.store import open_store

ANSWER_S = 120.0  # a first task on a node starts a process, which loads the code


@dataclass(frozen=True)
class Node:
    """One node: its address, its GPUs, how far its clock is ahead, and what is wrong with the store there."""

    name: str
    gpus: float
    ahead_s: float
    wrong: str


def look_around(url: str | None) -> list[Node]:
    """Every living node, asked at once; with a URL each tries that store."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    asked = {_ask(node, url): node for node in nodes}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    return [_node(node, ref if ref in answered else None) for ref, node in asked.items()]


def _ask(node: Mapping[str, Any], url: str | None) -> Any:
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0)(_look).options(scheduling_strategy=here).remote(url, time.time())


def _look(url: str | None, asked_s: float) -> tuple[float, float, str]:
    """On the node: by how much its clock is behind at least, the time at the end, what is wrong there."""
    behind_s, wrong = max(0.0, asked_s - time.time()), ""
    try:
        if url is not None:
            open_store(url).probe()
    except Exception as error:
        wrong = " ".join(str(error).split())
    return behind_s, time.time(), wrong


def _node(node: Mapping[str, Any], ref: Any) -> Node:
    name, gpus = str(node["NodeManagerAddress"]), float(node["Resources"].get("GPU", 0))
    if ref is None:
        return Node(name, gpus, 0.0, f"no answer for {ANSWER_S:g} s")
    try:
        behind_s, then_s, wrong = ray.get(ref)
    except ray.exceptions.RayError as error:
        return Node(name, gpus, 0.0, " ".join(str(error).split())[:300])
    return Node(name, gpus, max(0.0, then_s - time.time()) - behind_s, wrong)
