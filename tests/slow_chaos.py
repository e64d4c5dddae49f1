"""Workers on Ray killed and frozen at moments drawn by seed, a conductor in every phase of a shot; slow.

`LONGTAKE_CHAOS_SEEDS` says how many seeds, 20 if it is not set.
"""

import os
import random
import signal
from functools import partial

import pytest

from cluster.events import Turned
from cluster.outcomes import Outcome
from engine.phases import Stitch
from engine.tensors import from_bytes
from tests.test_cluster_chaos import Killer, calm_and_struck

SEEDS = range(int(os.environ.get("LONGTAKE_CHAOS_SEEDS", "20")))
EVENTS = 40  # about as many as a film has
EXTEND, SKELETON = Stitch("extend"), Stitch("skeleton", first_step=1)


def plan_of(seed, gangs, gang_size):
    """Two workers of different kinds, each with its moment; three seeds strike every kind there is."""
    draw = random.Random(seed)
    rank = f"gang-{draw.randrange(gangs)}/{draw.randrange(gang_size)}"
    kinds = [rank, "conduct-0", "decode-0", "encode-0", "finish-0"]
    victims = [kinds[2 * seed % 5], kinds[(2 * seed + 1) % 5]]
    return list(zip(draw.sample(range(1, EVENTS), 2), victims, strict=True))


class AtStep(Killer):
    """Kills the conductor once, when a shot first stands before a step."""

    def __init__(self, crew, living, step):
        super().__init__(crew, living, [])
        self.step = step

    def __call__(self, event, state):
        super().__call__(event, state)
        if isinstance(event, Turned) and event.step == self.step and not self.struck:
            self.strike("conduct-0")


def test_a_gang_of_two_ulysses_ranks_predicts_what_one_rank_does(one_process, on_ray, make_film):
    film = make_film("pair", seed=99)
    crew = on_ray(1, 2)
    ours, theirs = crew.render([film])["pair"].results, one_process.render([film])["pair"].results
    for segment in film.master.segments:
        of_two, of_one = (
            from_bytes(lent.store.read_artefact(results[segment.source.key].files["latents"]))["latents"]
            for lent, results in ((crew, ours), (one_process, theirs))
        )
        assert of_two.shape == of_one.shape
        assert (of_two - of_one).abs().max() < 1e-5
        assert of_one.abs().max() > 0.1


def test_a_frozen_rank_is_found_by_the_timeout_and_its_gang_replaced(on_ray, make_film, bits, living):
    crew = on_ray(1, 2)
    frozen = living(crew.crew)["gang-0/1"]
    killer = Killer(crew, living, [(20, "gang-0/1")], signal.SIGSTOP)
    calm, struck = calm_and_struck(crew, make_film, 98, killer)
    assert killer.struck == ["gang-0/1"]
    assert set(killer.lost) == {"gang-0"}
    assert bits(struck) == bits(calm)
    assert not os.path.exists(f"/proc/{frozen}")


@pytest.mark.parametrize("gangs, gang_size", [(1, 2), (3, 1)], ids=["gang of two", "gangs of one"])
def test_a_film_outlives_any_killed_worker_bit_by_bit(gangs, gang_size, on_ray, make_film, bits, living):
    crew = on_ray(gangs, gang_size)
    crew.render([make_film("first")])  # so that all workers live
    for seed in SEEDS[gang_size % 2 :: 2]:
        killer = Killer(crew, living, plan_of(seed, gangs, gang_size))
        calm, struck = calm_and_struck(crew, make_film, 100 + seed, killer)
        told = f"seed {seed}: plan {killer.plan}, struck {killer.struck}, lost {killer.lost}"
        print(told)
        assert killer.struck, told
        assert bits(struck) == bits(calm), told
        assert all(isinstance(struck.results[task.key], Outcome) for task in struck.film.wanted), told
        assert max(killer.made().values()) == 1, told


@pytest.mark.parametrize(
    ("stitch", "steps"),
    [(EXTEND, range(1, 9)), (SKELETON, range(1, 5))],
    ids=["extend", "skeleton"],
)
def test_a_shot_outlives_its_conductor_in_any_phase_bit_by_bit(
    stitch, steps, one_process, on_ray, make_film, bits, living
):
    made = partial(make_film, seed=97, stitch=stitch)
    calm = bits(one_process.render([made("calm", digest=f"calm {stitch.mode}")])["calm"])
    crew = on_ray(3, 1)
    crew.render([make_film("first")])
    for step in steps:
        killer = AtStep(crew, living, step)
        film = made("struck", digest=f"{stitch.mode} {step}")
        assert film.master.segments[-1].source.course.n_steps > step
        struck = crew.render([film], killer, max_losses=20)["struck"]
        assert killer.lost == ["conduct-0"], f"before step {step}"
        assert bits(struck) == calm, f"killed before step {step}"


def test_a_film_in_batches_outlives_a_gang_and_its_conductor_bit_by_bit(on_ray, make_film, bits, living):
    crew, made = on_ray(3, 1), partial(make_film, batch=3)
    crew.render([make_film("first")])
    killer = Killer(crew, living, [(14, "gang-1/0"), (22, "conduct-0")])
    calm, struck = calm_and_struck(crew, made, 96, killer)
    assert set(killer.lost) == {"gang-1", "conduct-0"}
    assert bits(struck) == bits(calm)
