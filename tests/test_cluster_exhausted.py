"""Claims about workers that run out of memory or hang on Ray, and about weights that a gang shares out there.

Errors are torch's own, raised in a rank's process; how they are told is what the crew makes of them.
"""

import os
import signal
from dataclasses import replace

import pytest
import ray
import torch

from cluster.events import Hired, Lost, Predicted, Raised
from cluster.outcomes import Failure, Outcome

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


def heal(rank):
    """In a rank's own process: there is memory again."""
    rank.__dict__.pop("_family", None)


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


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_film_that_runs_out_of_memory_at_every_try_fails_alone_with_what_needs_less(
    on_ray, make_film, ranks
):
    crew = on_ray(1, ranks)
    crew.render([make_film("first")])
    watch = Watch(crew, ranks - 1, EVER)
    bad = crew.render([make_film("bad", 32)], watch)["bad"]
    watch.tell(heal)
    for task in bad.film.wanted:
        failure = bad.results[task.key]
        assert isinstance(failure, Failure) and failure.code == "E921_GPU_OOM", failure
        assert "GPU memory ran out" in failure.message and failure.hint.startswith("use ")
    kinds = {type(event) for event in watch.told}
    assert kinds == ({Raised} if ranks == 1 else {Lost}) and len(watch.told) >= 3
    assert {event.failure.code for event in watch.told} == {"E921_GPU_OOM"}
    sound = crew.render([make_film("sound", 32)])["sound"]
    assert all(isinstance(result, Outcome) for result in sound.results.values())


def test_a_lone_rank_that_hangs_is_found_by_the_step_timeout_and_replaced(on_ray, make_film, bits, living):
    crew = on_ray(1, 1)
    calm = bits(crew.render([make_film("calm", 33)])["calm"])
    usual, told, frozen = crew.crew.setup, [], []

    def watch(event, state):
        if isinstance(event, Predicted) and not frozen:
            frozen.append(living(crew.crew)["gang-0/0"])
            os.kill(frozen[0], signal.SIGSTOP)
            crew.crew.setup = replace(usual, step_timeout_s=2.0)
        if isinstance(event, Lost):
            told.append(event)
            crew.crew.setup = usual

    assert bits(crew.render([make_film("struck", 33)], watch)["struck"]) == calm
    assert [(event.worker, event.failure.code) for event in told] == [("gang-0", "E911_HUNG")]
    assert "for 2 s" in told[0].failure.message and "cluster.step_timeout_s" in told[0].failure.hint
    assert not os.path.exists(f"/proc/{frozen[0]}")


def test_a_gang_on_ray_that_shares_its_weights_out_renders_the_bits_of_one_that_does_not(
    on_ray, make_film, bits
):
    crew, told = on_ray(1, 2, timeout_s=60.0), []
    whole = bits(crew.render([make_film("whole", 34)])["whole"])

    def watch(event, state):
        if isinstance(event, (Lost, Raised)):
            told.append(event)

    shared = crew.render([make_film("shared", 34, zero=True)], watch)["shared"]
    again = crew.render([make_film("again", 34, digest="whole again")], watch)["again"]
    assert len(set(whole.values())) == 4 and told == []
    assert bits(shared) == bits(again) == whole
