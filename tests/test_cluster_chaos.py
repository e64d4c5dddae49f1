"""Workers killed and frozen at moments drawn by seed: every film ends with the bits it would have had.

`LONGTAKE_CHAOS_SEEDS` says how many seeds, 3 if it is not set.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from functools import partial

import pytest
import ray

from cluster.events import Done, Lost, Turned
from cluster.outcomes import Outcome
from engine.phases import Stitch
from engine.tensors import from_bytes

SEEDS = range(int(os.environ.get("LONGTAKE_CHAOS_SEEDS", "3")))
EVENTS = 40  # about as many as a film has


class Killer:
    """Watches a render, and at given events strikes given workers' processes."""

    def __init__(self, crew, living, plan, blow=signal.SIGKILL):
        self.crew, self.living, self.plan, self.blow = crew, living, dict(plan), blow
        self.n_events = 0
        self.struck, self.lost, self.done = [], [], []

    def __call__(self, event, state):
        self.n_events += 1
        if isinstance(event, Lost):
            self.lost.append(event.worker)
        if isinstance(event, Done):
            self.done.append(event)
        for moment, worker in self.plan.items():
            if self.n_events >= moment and worker not in self.struck:
                self.strike(worker)

    def strike(self, worker):
        pid = self.living(self.crew.crew).get(worker)
        if pid is not None:  # else it is being replaced: struck when it is back
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.blow)
            self.struck.append(worker)

    def made(self):
        """How often each task was made anew."""
        return Counter(event.key for event in self.done if not event.outcome.reused)


class Interrupter(Killer):
    """Stops a rank until its peers have waited for it in a collective, and kills it there."""

    struck_at = 0.0

    def strike(self, worker):
        pids, gang = self.living(self.crew.crew), worker.partition("/")[0]
        out = [ref for ref, call in self.crew.crew.pending.items() if call.worker == gang and call.window]
        if worker not in pids or not out:
            return
        os.kill(pids[worker], signal.SIGSTOP)
        time.sleep(1.0)  # a window of this film takes its ranks a tenth of that
        answered, _ = ray.wait(out, num_returns=len(out), timeout=0)
        if answered:  # stopped behind its last collective: another window, then
            os.kill(pids[worker], signal.SIGCONT)
            return
        self.struck_at = time.monotonic()
        os.kill(pids[worker], signal.SIGKILL)
        self.struck.append(worker)


def plan_of(seed, gangs, gang_size):
    """Two workers of different kinds, each with its moment; three seeds strike every kind there is."""
    draw = random.Random(seed)
    rank = f"gang-{draw.randrange(gangs)}/{draw.randrange(gang_size)}"
    kinds = [rank, "conduct-0", "decode-0", "encode-0", "finish-0"]
    victims = [kinds[2 * seed % 5], kinds[(2 * seed + 1) % 5]]
    return list(zip(draw.sample(range(1, EVENTS), 2), victims, strict=True))


def calm_and_struck(crew, make_film, seed, killer):
    """One film rendered in peace and again, under keys of its own, while workers are struck."""
    calm = crew.render([make_film("calm", seed=seed, digest="calm")])["calm"]
    film = make_film("struck", seed=seed, digest=f"struck {seed}")
    # a machine that is busy may lose a gang to its timeout as well: no film is to blame for that
    return calm, crew.render([film], killer, max_losses=20)["struck"]


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


def test_a_rank_killed_in_a_collective_costs_a_gang_of_four_less_than_half_a_minute(
    on_ray, make_film, bits, living
):
    began = time.monotonic()
    crew = on_ray(1, 2, ring=2)
    crew.render([make_film("first")])
    calm_s = time.monotonic() - began  # of forming the gang and rendering a film, which is what comes again
    killer = Interrupter(crew, living, [(20, "gang-0/3")])
    calm, struck = calm_and_struck(crew, make_film, 97, killer)
    took_s = time.monotonic() - killer.struck_at
    assert killer.struck == ["gang-0/3"] and killer.lost == ["gang-0"]
    assert bits(struck) == bits(calm)
    bound_s = max(30.0, 2 * calm_s)  # on a machine so busy that the first forming took longer
    assert took_s < bound_s, f"from the death to the end of the film: {took_s:.1f} s of {bound_s:.1f} s"


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


def test_a_film_in_batches_outlives_a_gang_and_its_conductor_bit_by_bit(on_ray, make_film, bits, living):
    crew, made = on_ray(3, 1), partial(make_film, batch=3)
    crew.render([make_film("first")])
    killer = Killer(crew, living, [(14, "gang-1/0"), (22, "conduct-0")])
    calm, struck = calm_and_struck(crew, made, 96, killer)
    assert set(killer.lost) == {"gang-1", "conduct-0"}
    assert bits(struck) == bits(calm)


EXTEND, SKELETON = Stitch("extend"), Stitch("skeleton", first_step=1)
ALL_STEPS = "LONGTAKE_CHAOS_SEEDS" in os.environ


@pytest.mark.parametrize(
    ("stitch", "steps"),
    [(EXTEND, range(1, 9) if ALL_STEPS else (2, 7)), (SKELETON, range(1, 5) if ALL_STEPS else (3,))],
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


class AtStep(Killer):
    """Kills the conductor once, when a shot first stands before a step."""

    def __init__(self, crew, living, step):
        super().__init__(crew, living, [])
        self.step = step

    def __call__(self, event, state):
        super().__call__(event, state)
        if isinstance(event, Turned) and event.step == self.step and not self.struck:
            self.strike("conduct-0")
