"""Nodes of a real Ray cluster on this machine die, with notice and without: `make chaos`, about a minute.

Three raylets, one gang on each of two nodes. Whoever is lost with its node is told so, a film goes on without
it, bit by bit, and no loss counts as poison.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.crew import Setup
from cluster.events import Lost, Predicted
from cluster.nodes import draining_nodes
from cluster.remote import RayCrew
from cluster.tasks import FilmTasks
from tests.conftest import Lent

Living = Callable[[RayCrew], dict[str, int]]
SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 10**8}


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head that computes nothing, and two nodes with room for a gang each."""
    cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(**SMALL)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Striker:
    """Ends the node of gang-1 while it predicts, after notice if it is to have some."""

    def __init__(self, crew: RayCrew, cluster: Cluster, living: Living, notice: bool) -> None:
        self.crew, self.cluster, self.living, self.notice = crew, cluster, living, notice
        self.predicted, self.struck, self.lost = 0, False, dict[str, str | None]()

    def __call__(self, event: Any, state: Any) -> None:
        if isinstance(event, Lost):
            self.lost[event.worker] = event.failure and event.failure.error_class
        self.predicted += isinstance(event, Predicted)
        at_work = any(call.worker == "gang-1" and call.window for call in self.crew.pending.values())
        if self.predicted >= 3 and at_work and not self.struck:
            self.struck = True
            self.strike(self.crew.gangs["gang-1"].node())

    def strike(self, node_id: str) -> None:
        """The rank stops at work, so that it cannot answer before its node has gone, and ends with that."""
        (node,) = [each for each in self.cluster.worker_nodes if each.node_id == node_id]
        rank = self.living(self.crew)["gang-1/0"]
        os.kill(rank, signal.SIGSTOP)
        if self.notice:
            drain(self.cluster.address, node_id)
            self.crew.next_look_s = 0.0
            self.crew._notice()
        self.cluster.remove_node(node, allow_graceful=False)
        os.kill(rank, signal.SIGKILL)


def drain(address: str, node_id: str) -> None:
    """Give a node the notice that a spot instance gets."""
    ray_command = Path(sys.executable).with_name("ray")
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
    told = ["--address", address, "--node-id", node_id, *reason, "--deadline-remaining-seconds", "60"]
    subprocess.run([ray_command, "drain-node", *told], check=True, capture_output=True)
    until = time.monotonic() + 30
    while node_id not in draining_nodes() and time.monotonic() < until:
        time.sleep(0.1)


@pytest.mark.parametrize(("notice", "name"), [(False, "NODE_LOST"), (True, "PREEMPTED")])
def test_a_worker_that_is_lost_with_its_node_is_told_so_and_its_film_has_the_same_bits(
    nodes, one_process, make_film, bits, living, tmp_path, notice, name
):
    def films(what: str) -> list[FilmTasks]:
        """As many as are still at work when a death is noticed."""
        return [make_film(f"{what} {seed}", seed, digest=f"{what} {seed} {name}") for seed in range(41, 45)]

    calm = one_process.render(films("calm"))
    setup = Setup(str(tmp_path / "store"), str(tmp_path / "identity"), device="cpu", gangs=2)
    crew = Lent(RayCrew(setup), setup.store_url)
    striker = Striker(crew.crew, nodes, living, notice)
    struck = crew.render(films("struck"), striker, max_losses=1)
    crew.crew.close()
    assert striker.struck and striker.lost.get("gang-1") == name, striker.lost
    assert set(striker.lost.values()) == {name}, "of whatever else was there too"
    for seed in range(41, 45):
        assert bits(struck[f"struck {seed}"]) == bits(calm[f"calm {seed}"])
