"""How many gangs of which size fit on the nodes there are. Pure arithmetic.

A gang lies on one node: its ranks exchange gigabytes a step, where windows exchange megabytes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.crew import Setup
from cluster.machine import BETWEEN_GB_S, GPUS, LATENCY_S, Machine
from cluster.shortage import Place
from engine.memory import GIB, Free

Resources = Mapping[str, float]
KIND = "accelerator_type:"  # what Ray calls a node's kind of GPU begins so


class TooSmall(Exception):
    """The cluster cannot hold what the job asks for."""


# Of a GPU, as Ray counts, where encoders and decoders share it: more than half, so that it has one rank only.
BESIDE_STAGES = 0.6


def rank_needs(setup: Setup) -> dict[str, float]:
    """What one rank takes of its node, as Ray counts."""
    unit, amount = _whole(setup)
    return {unit: BESIDE_STAGES if unit == "GPU" and setup.stage_gpus else amount}


def stage_needs(setup: Setup) -> float:
    """The share of a GPU that an encoder or a decoder takes, 0 where it computes on the CPU."""
    return setup.stage_gpus if setup.device == "cuda" else 0.0


def stages_beside(share: float, gpus: int) -> int:
    """How many encoders and decoders have room beside the ranks of so many GPUs, each by its share."""
    return gpus * int((1 - BESIDE_STAGES) / share + 1e-6)


def gangs_on(node: Resources, setup: Setup) -> int:
    """How many gangs fit on a node."""
    unit, amount = _whole(setup)
    return int(node.get(unit, 0.0) // amount) // setup.axes.ranks


def room(setup: Setup, nodes: Sequence[Resources]) -> int:
    """How many gangs fit on the nodes."""
    return sum(gangs_on(node, setup) for node in nodes)


def _whole(setup: Setup) -> tuple[str, float]:
    """What a rank has for itself among ranks, and how much."""
    return ("GPU", 1.0) if setup.device == "cuda" else ("CPU", float(setup.threads))


def machine_of(nodes: Sequence[Resources]) -> Machine | None:
    """The cluster as the cost model sees it, by its largest group of equal nodes; None without GPUs.

    Ray names the kind of a node's GPUs. Raises TooSmall for a kind of which nothing is known.
    """
    groups: Counter[tuple[str, int]] = Counter()
    for node in nodes:
        kind, gpus = _gpu_of(node)
        if gpus:
            groups[kind, gpus] += 1
    if not groups:
        return None
    (kind, gpus), n_nodes = max(groups.items(), key=lambda group: group[0][1] * group[1])
    if kind not in GPUS:
        raise TooSmall(
            f"nothing is known of the GPU {kind!r}, so no gang can be chosen: set cluster.cfg, cluster.ring, "
            "cluster.ulysses and cluster.batch to what longtake plan --explain says with --farm FILE that "
            "describes it"
        )
    gpu = GPUS[kind]
    speeds = gpu.memory_gib, gpu.tflops, gpu.efficiency, gpu.link_gb_s
    return Machine(n_nodes, gpus, *speeds, BETWEEN_GB_S, LATENCY_S, kind)


def place_of(setup: Setup, nodes: Sequence[Resources]) -> Place | None:
    """Where the ranks of a fitted setup compute at best: what its largest node has, None where nobody says.

    A node's own memory is what Ray found free when it started, less its object store; as many of the setup's
    ranks share it as may lie there.
    """
    nodes = [node for node in nodes if gangs_on(node, setup)]
    if setup.device == "cuda":
        known = [
            (GPUS[kind].memory_gib, gpus, kind, node)
            for node in nodes
            for kind, gpus in [_gpu_of(node)]
            if kind in GPUS
        ]
        if len(known) < len(nodes) or not known:
            return None
        memory_gib, gpus, kind, node = max(known, key=lambda each: each[:2])
        main = Free(node["memory"] / GIB, "its node") if "memory" in node else None
        return Place(Free(memory_gib, f"the GPU {kind}"), gpus, main, _ranks_on(node, setup))
    if not nodes or not all("memory" in node for node in nodes):
        return None
    node = max(nodes, key=lambda node: node["memory"] / _ranks_on(node, setup))
    return Place(Free(node["memory"] / GIB, "the largest node"), sharing=_ranks_on(node, setup))


def _ranks_on(node: Resources, setup: Setup) -> int:
    """How many ranks of a fitted setup a node may have."""
    return min(gangs_on(node, setup), setup.gangs or gangs_on(node, setup)) * setup.axes.ranks


def _gpu_of(node: Resources) -> tuple[str, int]:
    """The kind of a node's GPUs, as Ray names it, and how many there are."""
    kind = next((name.removeprefix(KIND) for name in node if name.startswith(KIND)), "")
    return kind, int(node.get("GPU", 0.0))


def fit(setup: Setup, nodes: Sequence[Resources]) -> Setup:
    """The setup with its device and number of gangs: as many as fit where it says 0. Raises TooSmall."""
    if setup.device == "auto":
        gpus = sum(node.get("GPU", 0.0) for node in nodes)
        setup = replace(setup, device="cuda" if gpus else "cpu")
    most = room(setup, nodes)
    axes, (unit, amount) = setup.axes, _whole(setup)
    largest = max((node.get(unit, 0.0) for node in nodes), default=0.0)
    if most == 0:
        raise TooSmall(
            f"a gang of {axes.equation} ranks needs {axes.ranks * amount:g} {unit} on one node, the largest "
            f"of {len(nodes)} nodes has {largest:g}; lower cluster.cfg, cluster.ring, cluster.ulysses or "
            "cluster.threads"
        )
    if setup.gangs > most:
        raise TooSmall(
            f"cluster.gangs={setup.gangs} gangs of {axes.ranks} do not fit: the {len(nodes)} nodes have room "
            f"for {most}; lower cluster.gangs, or 0 for as many as fit"
        )
    _check_stages(setup, nodes)
    return replace(setup, gangs=setup.gangs or most)


def _check_stages(setup: Setup, nodes: Sequence[Resources]) -> None:
    """Raise TooSmall where an encoder or a decoder would wait for ever for room beside ranks."""
    share, n_stages = stage_needs(setup), 1 + setup.decoders
    gpus = sum(int(node.get("GPU", 0.0)) for node in nodes)
    if share and stages_beside(share, gpus) < n_stages:
        raise TooSmall(
            f"an encoder and cluster.decoders={setup.decoders} with cluster.stage_gpus={share:g} of a GPU "
            f"each do not fit beside gangs on {gpus} GPUs, of each of which they may take "
            f"{1 - BESIDE_STAGES:g}; lower either, or cluster.stage_gpus=0 to decode on CPUs"
        )
