"""A real Ray cluster on this machine grows, loses its first node and grows again: `make chaos`.

A job that took all there was takes what comes besides, in gangs of one rank and of two, and its films have
the bits of a calm run of such gangs.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.crew import Setup
from cluster.dispatch import Limits
from cluster.events import FilmDone, Predicted
from cluster.loop import Watch, render
from cluster.remote import RayCrew
from cluster.tasks import FilmTasks
from engine.parallel.axes import Axes
from manifests.store import open_store

SMALL: dict[str, Any] = {"object_store_memory": 10**8}
# Where the new node is there before the driver knows that the first is dead, there is room for one gang more,
# and either of the two has the new place.
INSTEAD = {"gang-3": "gang-0"}
BOUND_S = 600.0  # in which all of it must have happened, on two cores


@pytest.fixture(params=[1, 2])
def nodes(request) -> Iterator[Cluster]:
    """A head that computes nothing, and a node with room for one gang of so many ranks."""
    cluster = Cluster(
        initialize_head=True, head_node_args=SMALL | {"num_cpus": 0, "include_dashboard": False}
    )
    cluster.ranks = request.param
    cluster.add_node(num_cpus=cluster.ranks, **SMALL)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Farm:
    """What befalls the cluster: each time when the gangs that were waited for have predicted."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.awaited = cluster, {"gang-0"}
        (self.first,) = cluster.worker_nodes
        self.acts = iter(
            [(self.grow, {"gang-1", "gang-2"}), (self.shrink, {"gang-1"}), (self.back, {"gang-0"})]
        )

    def grow(self) -> None:
        self.cluster.add_node(num_cpus=2 * self.cluster.ranks, **SMALL)

    def shrink(self) -> None:
        self.cluster.remove_node(self.first, allow_graceful=False)

    def back(self) -> None:
        self.cluster.add_node(num_cpus=self.cluster.ranks, **SMALL)

    def __call__(self, event: Any, state: Any) -> None:
        if isinstance(event, Predicted) and event.fared is not None:
            self.awaited.discard(INSTEAD.get(event.gang, event.gang))
        if not self.awaited and self.acts is not None:
            act, self.awaited = next(self.acts, (None, set[str]()))
            if act is None:
                self.acts = None
            else:
                act()


def test_a_job_takes_nodes_that_come_and_outlives_the_one_it_began_on_with_the_same_bits(
    nodes, make_film, bits, tmp_path
):
    farm = Farm(nodes)
    asked: dict[str, Any] = {"gangs": 0, "axes": Axes.of_gang(1, 1, nodes.ranks), "checkpoint_every": 2}
    setup = Setup(str(tmp_path / "store"), str(tmp_path / "identity"), device="cpu", **asked)

    def rendered(films: Iterable[FilmTasks], setup: Setup, watch: Watch) -> list[FilmDone]:
        store, limits = open_store(setup.store_url), Limits(max_losses=1)
        return list(render(films, lambda: RayCrew(setup), store, limits, watch))

    def films() -> Iterator[FilmTasks]:
        """As many as it takes."""
        until, number = time.monotonic() + BOUND_S, 0
        while farm.acts is not None and time.monotonic() < until:
            number += 1
            yield make_film(f"film {number}", 50, digest=f"film {number} {nodes.ranks}")

    done = rendered(films(), setup, farm)
    assert farm.acts is None, f"of {farm.awaited} not all have come to work"
    elsewhere = replace(setup, store_url=str(tmp_path / "calm"))
    (calm,) = rendered([make_film("calm", 50)], elsewhere, lambda event, state: None)
    assert all(bits(film) == bits(calm) for film in done)
