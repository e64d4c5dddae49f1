"""Every actor's `ray.remote` line, and handles that hide `.remote`. The classes themselves are plain.

No actor is restarted by Ray: a restarted rank has lost its gang, and a restarted conductor its canvases. The
crew puts a new one in its place, under the same name, and dispatch decides what that one does.
"""

from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from cluster.conductor import Conductor
from cluster.crew import Setup
from cluster.events import Window
from cluster.export import equip
from cluster.finisher import Finisher
from cluster.identity import Task
from cluster.nodes import node_address, node_of
from cluster.rank import Rank
from cluster.shots import ShotTask
from cluster.stages import Decoder, Encoder
from cluster.topology import stage_needs
from engine.parallel.axes import Axes
from engine.parallel.gang import serve_rendezvous

Ref = Any  # Ray types a reference by what it refers to, and a handle's calls not at all
STAGES = {"encode": Encoder, "decode": Decoder, "finish": Finisher, "conduct": Conductor}
RankActor: Any = ray.remote(max_restarts=0)(Rank)
StageActors: dict[str, Any] = {
    role: ray.remote(max_restarts=0, num_cpus=0)(stage) for role, stage in STAGES.items()
}


class Rendezvous:
    """Where the ranks of all gangs find each other; it outlives every rank."""

    def __init__(self) -> None:
        self.host = node_address()
        self.store = serve_rendezvous(self.host)

    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.store.port


RendezvousActor: Any = ray.remote(max_restarts=0, num_cpus=0)(Rendezvous)


def start_rendezvous() -> Any:
    """A rendezvous on the driver's own node, so that no other node's loss ends it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return RendezvousActor.options(scheduling_strategy=here).remote()


class StageHandle:
    """An encoder, decoder, finisher or conductor."""

    def __init__(self, worker: str, setup: Setup) -> None:
        role = worker.rpartition("-")[0]
        arguments: dict[str, Any] = {"store_url": setup.store_url, "threads": setup.threads}
        gpus = 0.0
        if role != "finish":
            arguments["cache"] = setup.cache
        if role == "conduct":
            arguments["checkpoint_every"] = setup.checkpoint_every
            arguments["checkpoint_s"] = setup.checkpoint_s
        elif role == "finish":
            arguments["identity_folder"] = setup.identity_folder
        else:
            arguments["check_memory"] = setup.check_memory
            gpus = stage_needs(setup)
            arguments["device"] = "cuda" if gpus else "cpu"
        self.actor = StageActors[role].options(num_gpus=gpus).remote(**arguments)
        self.actor.__ray_call__.remote(equip, worker, setup.job_id, setup.log)

    def ready(self) -> Ref:
        """The node on which the actor lives, once it does."""
        return self.actor.__ray_call__.remote(node_of)

    def run(self, task: Task) -> Ref:
        """An Outcome."""
        return self.actor.run.remote(task)

    def open(self, task: ShotTask, opening: int) -> list[Ref]:
        """A Turn, then a Request or None for every part that any step may have."""
        answer = self.actor.open.options(num_returns=1 + task.course.n_slots)
        return _listed(answer.remote(task, opening))

    def advance(self, task: ShotTask, opening: int, predictions: list[Ref], gpu_s: float) -> list[Ref]:
        """A Turn, then as in `open`, of the next step; gpu_s is what the predictions took."""
        answer = self.actor.advance.options(num_returns=1 + task.course.n_slots)
        return _listed(answer.remote(task.key, opening, *predictions, gpu_s=gpu_s))

    def drop(self, key: str, opening: int, save: bool) -> None:
        """Nobody waits for this."""
        self.actor.drop.remote(key, opening, save)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        ray.kill(self.actor, no_restart=True)


class RankHandle:
    """One rank of a gang, in its bundle of the gang's placement group."""

    def __init__(
        self, gang: str, setup: Setup, needs: dict[str, float], group: PlacementGroup, bundle: int
    ) -> None:
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
        options = {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0)}
        self.actor = RankActor.options(**options, scheduling_strategy=place).remote(
            store_url=setup.store_url,
            device=setup.device,
            threads=setup.threads,
            exchange=setup.exchange,
            cache=setup.cache,
            check_memory=setup.check_memory,
            loading_s=setup.step_timeout_s,
        )
        name = f"{gang}/{bundle}" if setup.axes.ranks > 1 else gang
        self.actor.__ray_call__.remote(equip, name, setup.job_id, setup.log)

    def ready(self) -> Ref:
        """The node on which the actor lives, once it does."""
        return self.actor.__ray_call__.remote(node_of)

    def form(
        self, host: str, port: int, prefix: str, rank: int, axes: Axes, timeout_s: float, living: list[Ref]
    ) -> Ref:
        """The gang's node, once all have come together; begins when all of `living` have resolved."""
        return self.actor.form.remote(host, port, prefix, rank, axes, timeout_s, *living)

    def predict(self, request: Ref, window: Window) -> list[Ref]:
        """How it went, and the prediction: the driver looks at the first alone."""
        return _listed(self.actor.predict.options(num_returns=2, name=_label(window)).remote(request))

    def kill(self) -> None:
        """End the process, even a stopped one."""
        ray.kill(self.actor, no_restart=True)


def _listed(refs: Any) -> list[Ref]:
    return list(refs) if isinstance(refs, (list, tuple)) else [refs]


def _label(window: Window) -> str:
    """What Ray's own dashboard shows of a call."""
    return f"{window.shot[:8]} step {window.step} part {window.part}"
