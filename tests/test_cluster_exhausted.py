"""Claims about workers that run out of memory on Ray; more of them, and workers that hang: slow_exhausted.

Errors are torch's own, raised in a rank's process; how they are told is what the crew makes of them.
"""

import ray
import torch

from cluster.events import Hired, Lost, Raised

EVER = 99  # windows
TOLD = "CUDA out of memory. Tried to allocate 20.00 MiB"


def exhaust(rank, times):
    """In a rank's own process: its next windows find no memory left."""
    whole, left = rank._family, [times]

    def family(request):
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError(TOLD)
        return whole(request)

    rank._family = family


class Watch:
    """Strikes a rank of gang-0 whenever the gang is hired, so often, and keeps what was told of it."""

    def __init__(self, crew, rank, often):
        self.crew, self.rank, self.often = crew, rank, often
        self.told = []

    def tell(self, order, *words):
        actor = self.crew.crew.gangs["gang-0"].ranks[self.rank].actor
        ray.get(actor.__ray_call__.remote(order, *words))

    def __call__(self, event, state):
        if isinstance(event, Hired) and event.worker == "gang-0" and self.often:
            self.often -= 1
            self.tell(exhaust, EVER)
        if isinstance(event, (Lost, Raised)) and event.worker == "gang-0":
            self.told.append(event)


def test_a_rank_of_two_that_runs_out_of_memory_is_told_as_such_and_another_try_has_the_same_bits(
    on_ray, make_film, bits
):
    crew = on_ray(1, 2)
    calm = bits(crew.render([make_film("calm", 31)])["calm"])
    watch = Watch(crew, 1, 1)
    film = crew.render([make_film("struck", 31)], watch)["struck"]
    assert bits(film) == calm
    (lost,) = watch.told
    assert isinstance(lost, Lost) and lost.failure.code == "E921_GPU_OOM" and TOLD in lost.failure.message
    assert "picture of" in lost.failure.hint or "window.size" in lost.failure.hint
