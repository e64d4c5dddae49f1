"""Claims about workers on Ray that run out of memory or hang, and of a gang that shares its weights out."""

import os
import signal
from dataclasses import replace

import pytest

from cluster.events import Lost, Predicted, Raised
from cluster.outcomes import Failure, Outcome
from tests.test_cluster_exhausted import EVER, Watch


def heal(rank):
    """In a rank's own process: there is memory again."""
    rank.__dict__.pop("_family", None)


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
