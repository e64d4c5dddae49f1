"""Claims about choosing axes: only legal gangs, none better left out, one model a GPU where that is best."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cluster.choose import (
    NEAR,
    OBJECTIVES,
    Asked,
    NoFit,
    choose,
    forecast,
    open_shots_for,
    placeable,
    smallest,
)
from cluster.cost import Shape, Step
from cluster.decoding import Pixels
from cluster.machine import Machine
from cluster.sharing import gangs_of, named, ranks_of
from cluster.strand import Strand, span
from engine.families.denoiser import Blocks, Denoiser, denoiser_of
from engine.families.published import TABLE
from engine.parallel.axes import ALONE, Axes
from engine.phases import Course

CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in TABLE}
ONE_24 = Machine(1, 1, 24.0, 165.0, 0.65, 8.0, 1.25, 1e-4)
EIGHT_80 = Machine(1, 8, 79.6, 989.0, 0.335, 300.0, 12.5, 1e-4)
EIGHT_64 = replace(EIGHT_80, memory_gib=64.0)
FOUR_NODES = replace(EIGHT_80, nodes=4)
PCIE = replace(EIGHT_80, inside_gb_s=8.0)


def shape_of(name, frames=0, dtype="bfloat16", guided=True):
    one, facts = CHECKPOINTS[name], CHECKPOINTS[name].facts
    scale = facts.spatial_compression
    return Shape(
        name, name, denoiser_of(dict(one.denoiser)), one.parameters, dtype, frames or facts.window_frames,
        one.height_px // scale, one.width_px // scale, facts.latent_channels, scale, facts.max_text_tokens,
        guided,
    )  # fmt: skip


def blended(n_windows, n_steps):
    return Course(((n_steps, n_windows),))


def of(name, n_windows=1, n_shots=1, n_steps=50, **more):
    return {Strand(shape_of(name, **more), blended(n_windows, n_steps)): n_shots}


def best(work, machine, open_shots=64, **more):
    return choose(work, work, machine, open_shots=open_shots, **more).best


denoisers = st.builds(
    lambda heads, count, shared: Denoiser(
        heads,
        heads * 64,
        (1, 2, 2),
        (Blocks(count, 12 * (heads * 64) ** 2, joint=True),),
        True,
        shared=shared,
    ),
    st.integers(1, 48),
    st.integers(1, 40),
    st.booleans(),
)
shapes = st.builds(
    lambda denoiser, frames, side, guided, parameters: Shape(
        "m", "d", denoiser, parameters, "bfloat16", frames, side, side, 16, 8, 64, guided
    ),
    denoisers,
    st.integers(1, 20),
    st.integers(2, 60),
    st.booleans(),
    st.integers(10**6, 10**10),
)
decoded = st.builds(
    lambda operations: Pixels("m", 0.0, "bfloat16", (64, 64), operations=operations), st.floats(0, 1e17)
)
works = st.dictionaries(
    st.builds(
        Strand, shapes, st.builds(blended, st.integers(1, 20), st.integers(1, 50)), st.none() | decoded
    ),
    st.integers(1, 100),
    min_size=1,
    max_size=3,
)
machines = st.builds(
    lambda nodes, gpus, link: replace(EIGHT_80, nodes=nodes, gpus=gpus, inside_gb_s=link),
    st.integers(1, 4),
    st.integers(1, 9),
    st.floats(1, 600),
)


@given(works, machines)
def test_every_gang_is_legal_and_all_legal_ones_are_candidates(work, machine):
    found = gangs_of(machine.gpus, [strand.shape for strand in work])
    assert ALONE in found and len(set(found)) == len(found)
    for axes in found:
        assert axes.ranks == math.prod(axes.sizes) <= machine.gpus and axes.window == 1
        for strand in work:
            shape = strand.shape
            assert axes.cfg <= shape.branches and axes.ulysses <= shape.denoiser.heads
            assert axes.sequence <= shape.tokens and (shape.denoiser.shared or axes.sequence == 1)
    if all(s.shape.denoiser.shared and s.shape.denoiser.heads >= 9 and s.shape.tokens >= 9 for s in work):
        pairs = [(r, u) for r in range(1, 10) for u in range(1, 10) if r * u <= machine.gpus]
        assert len([axes for axes in found if axes.cfg == 1]) == len(pairs)


@given(works, machines, st.integers(1, 40), st.sampled_from(OBJECTIVES))
@settings(deadline=None)
def test_no_candidate_is_better_than_the_best_by_more_than_what_counts_as_near(
    work, machine, open_shots, objective
):
    choice = choose(work, work, machine, open_shots=open_shots, objective=objective)
    least = min(one.film_s if objective == "latency" else one.seconds for one in choice.candidates)
    chosen = choice.best.film_s if objective == "latency" else choice.best.seconds
    assert chosen <= least * NEAR and choice.candidates[0] is choice.best
    assert choice.best.gangs * choice.best.axes.ranks <= machine.n_gpus


@given(works, machines, st.integers(1, 40))
@settings(deadline=None)
def test_a_faster_link_or_another_node_never_makes_the_best_job_longer(work, machine, open_shots):
    assume(machine.n_gpus > 1)  # else windows do not travel, and then they do
    before = min(one.seconds for one in choose(work, work, machine, open_shots=open_shots).candidates)
    for better in (
        replace(machine, inside_gb_s=machine.inside_gb_s * 2),
        replace(machine, nodes=machine.nodes * 2, between_gb_s=1e9),
    ):
        after = min(one.seconds for one in choose(work, work, better, open_shots=open_shots).candidates)
        assert after <= before * (1 + 1e-9)


@given(works, machines, st.integers(1, 40))
@settings(deadline=None)
def test_gpus_are_never_at_work_for_longer_than_the_job_lasts(work, machine, open_shots):
    for one in choose(work, work, machine, open_shots=open_shots).candidates:
        assert 0 <= one.idle <= 1 and one.gpu_s <= one.seconds * one.gpus * (1 + 1e-9)


@given(works, machines, st.integers(1, 40), st.integers(1, 20))
@settings(deadline=None)
def test_pixels_are_one_gpus_work_that_no_axis_shares_and_come_after_the_windows(
    work, machine, open_shots, decoders
):
    alone = {strand: strand.decoding_s(machine) for strand in work}
    in_all = sum(n * alone[strand] for strand, n in work.items())
    bare = {replace(strand, pixels=None): 1 for strand in work}
    for one in choose(work, work, machine, open_shots=open_shots, decoders=decoders).candidates:
        without = forecast(bare, bare, one.axes, machine, open_shots)
        assert one.decoding_s == pytest.approx(in_all) and without.decoding_s == 0
        assert one.seconds >= in_all / decoders * (1 - 1e-9)
        more = forecast(work, work, one.axes, machine, open_shots, decoders=decoders + 1)
        assert more.seconds <= one.seconds * (1 + 1e-9) and more.gpu_s == one.gpu_s
        for strand in work:
            shot = {strand: 1}
            film = forecast(shot, shot, one.axes, machine, 1)
            windows = span(shot, film.steps, film.gangs, 1)
            assert film.film_s == pytest.approx(windows + alone[strand])


@given(st.integers(0, 50), st.integers(1, 9), st.sampled_from([1, 8]))
def test_steps_without_guidance_take_one_branch_and_gain_nothing_by_ranks_for_two(plain, n_windows, n_shots):
    course = blended(n_windows, 50)
    guided, none = (shape_of("Wan2.1-1.3B", guided=flag) for flag in (True, False))
    ranks = [ALONE, Axes(2, cfg=2)]
    some, both, one = (
        [forecast(work, work, axes, EIGHT_80, 1) for axes in ranks]
        for work in ({strand: n_shots} for strand in (
            Strand(guided, course, plain=(plain,)), Strand(guided, course), Strand(none, course)
        ))
    )  # fmt: skip
    for got, two, single in zip(some, both, one, strict=True):
        assert got.gpu_s == pytest.approx((two.gpu_s * (50 - plain) + single.gpu_s * plain) / 50)
        assert got.seconds == pytest.approx((two.seconds * (50 - plain) + single.seconds * plain) / 50)
    assert both[1].gpu_s < 1.02 * both[0].gpu_s and one[1].gpu_s > 1.99 * one[0].gpu_s


@given(st.integers(1, 13), st.integers(1, 20), st.integers(1, 9))
def test_one_shot_at_a_time_ends_every_step_with_its_last_window(n_windows, n_steps, gangs):
    """engines.md §2.4: n windows on g gangs run at n / (g ceil(n / g))."""
    strand = Strand(shape_of("CogVideoX-2B"), blended(n_windows, n_steps))
    steps = {strand.shape: Step(2.0)}
    assert span({strand: 3}, steps, gangs, 1) == 3 * n_steps * math.ceil(n_windows / gangs) * 2.0
    assert span({strand: 1}, steps, gangs, 8) == n_steps * math.ceil(n_windows / gangs) * 2.0


def test_a_shot_that_is_drafted_first_leaves_gangs_idle_for_its_draft_alone():
    strand = Strand(shape_of("CogVideoX-2B"), Course(((10, 1), (6, 8))))
    steps = {strand.shape: Step(1.0)}
    assert span({strand: 1}, steps, 8, 8) == 10 + 6
    assert span({strand: 1}, steps, 1, 8) == 10 + 6 * 8


def test_windows_of_many_shots_fill_a_pool_that_one_shot_leaves_idle():
    strand = Strand(shape_of("CogVideoX-2B"), blended(9, 10))
    steps = {strand.shape: Step(1.0)}
    alone, many = (span({strand: 64}, steps, 8, n) for n in (1, 8))
    assert alone / many == pytest.approx(2 / (9 / 8))  # 56 % against all of them


@given(works, st.integers(1, 40))
def test_as_many_open_shots_as_are_named_keep_the_gangs_at_work(work, gangs):
    steps = {strand.shape: Step(1.0) for strand in work}
    n_open = open_shots_for(work, gangs)
    assert 1 <= n_open <= sum(work.values())
    assert span(work, steps, gangs, max(2, n_open)) <= span(work, steps, gangs, 10**6) * 1.001


# Golden: what is chosen on the three example farms.
GOLDEN = [
    ("CogVideoX-5B", ONE_24, 64, "one model a GPU"),
    ("Wan2.1-1.3B", ONE_24, 64, "one model a GPU"),
    ("CogVideoX-5B", EIGHT_80, 64, "one model a GPU"),
    ("Wan2.1-14B", EIGHT_80, 64, "one model a GPU"),
    ("HunyuanVideo", EIGHT_80, 64, "one model a GPU"),
    ("HunyuanVideo", EIGHT_80, 1, "ulysses 8"),
    ("Wan2.1-14B", EIGHT_80, 1, "cfg 2 × ulysses 4"),
    ("Wan2.1-14B", EIGHT_80, 4, "cfg 2"),
    ("Wan2.2-A14B", EIGHT_80, 64, "one model a GPU"),
    ("Wan2.2-A14B", EIGHT_64, 64, "ulysses 2"),  # 71 GiB do not fit alone
    ("Wan2.1-14B", FOUR_NODES, 64, "one model a GPU"),
    ("Wan2.1-14B", FOUR_NODES, 16, "cfg 2"),
    ("CogVideoX-5B", PCIE, 1, "cfg 2 × ulysses 4"),
]


@pytest.mark.parametrize(("name", "machine", "n_shots", "gang"), GOLDEN)
def test_the_gang_that_is_chosen(name, machine, n_shots, gang):
    assert named(best(of(name, n_shots=n_shots), machine).axes) == gang


def test_one_film_sooner_and_more_films_an_hour_are_different_choices():
    work, film = of("Wan2.1-14B", n_shots=64), of("Wan2.1-14B")
    films, latency = (
        choose(work, film, EIGHT_80, open_shots=64, objective=objective).best for objective in OBJECTIVES
    )
    assert films.axes.ranks == 1 and latency.axes.ranks == 8
    assert latency.film_s < films.film_s / 5 and films.seconds < latency.seconds


def test_a_model_that_is_told_its_guidance_is_never_shared_by_branches():
    assert all(axes.cfg == 1 for axes in gangs_of(8, [shape_of("HunyuanVideo")]))
    assert any(axes.cfg == 2 for axes in gangs_of(8, [shape_of("Wan2.1-14B")]))
    assert all(axes.cfg == 1 for axes in gangs_of(8, [shape_of("Wan2.1-14B", guided=False)]))


def test_what_is_asked_for_is_kept():
    assert best(of("Wan2.1-14B", n_shots=64), EIGHT_80, asked=Asked(ulysses=2)).axes == Axes.of_gang(1, 1, 2)
    message = r"cluster\.cfg=2 × ring=1 × ulysses=8 = 16 ranks: no node of 8 GPUs holds such a gang"
    with pytest.raises(NoFit, match=message):
        best(of("Wan2.1-14B"), EIGHT_80, asked=Asked(2, 1, 8))


def kept(name, n_shots=1, **how):
    """Work whose windows are kept or computed in a way of their own."""
    return {Strand(replace(shape_of(name), **how), blended(1, 50)): n_shots}


def test_weights_that_are_shared_out_are_never_chosen_a_gang_of_one():
    shared, alone = kept("CogVideoX-5B", 64, zero=True), kept("CogVideoX-5B", 64)
    assert best(alone, EIGHT_80).axes.ranks == 1 and best(shared, EIGHT_80).axes.ranks == 2
    choice = choose({**shared, **kept("CogVideoX-2B", 64)}, {}, EIGHT_80, open_shots=64)
    assert min(one.axes.ranks for one in choice.candidates) == 2
    assert choice.reason.endswith(
        "one rank alone is not what was asked for; of the gangs that are this ends the job first"
    )
    for gpus, asked in ((ONE_24, Asked()), (EIGHT_80, Asked(1, 1, 1))):
        with pytest.raises(NoFit, match=r"two ranks or more, and no node has|no window can be shared by it"):
            best(shared, gpus, asked=asked)
    assert not placeable(shared, ONE_24) and placeable(shared, EIGHT_80) == shared


@pytest.mark.parametrize("how", ["compile", "first_block"])
def test_what_one_rank_alone_can_do_is_never_chosen_a_gang_of_several(how):
    plain, alone = kept("Wan2.1-14B"), kept("Wan2.1-14B", **{how: True})
    assert best(plain, EIGHT_80).axes.ranks == 8 and best(alone, EIGHT_80).axes == ALONE
    assert best({**plain, **alone}, EIGHT_80).axes == ALONE
    with pytest.raises(NoFit, match=r"needs 44\.0 GiB") as error:
        best(alone, replace(EIGHT_80, memory_gib=24.0))
    assert "cluster." not in str(error.value) and "zero" not in str(error.value)
    with pytest.raises(NoFit, match=r"render the films of either by a job of their own"):
        best({**alone, **kept("CogVideoX-5B", zero=True)}, EIGHT_80)


def test_all_of_a_jobs_windows_bound_its_ranks_also_those_that_no_gang_holds():
    asked = Asked(ranks=ranks_of([shape_of("CogVideoX-2B"), replace(shape_of("Wan2.1-14B"), zero=True)]))
    assert best(of("CogVideoX-2B", n_shots=64), EIGHT_80, asked=asked).axes.ranks == 2


def test_on_cpus_weights_are_shared_out_over_as_few_ranks_as_will_do():
    shape = replace(shape_of("Wan2.1-14B"), zero=True)
    assert smallest([shape], Asked()) == Axes.of_gang(1, 1, 2)
    assert smallest([shape], Asked(ulysses=1, ring=1)) == Axes.of_gang(2, 1, 1)
    assert smallest([shape], Asked(ring=3)) == Axes.of_gang(1, 3, 1)
    with pytest.raises(NoFit):
        smallest([shape], Asked(1, 1, 1))


def test_weights_that_do_not_fit_are_refused_with_the_numbers_and_what_would_fit():
    with pytest.raises(
        NoFit,
        match=r"Wan2\.1-14B needs 44\.0 GiB on each GPU .*, the GPU has 24\.0 GiB: 20\.0 GiB short: use "
        r"model\.offload=memory \(18\.0 GiB\)$",
    ):
        best(of("Wan2.1-14B"), ONE_24)
    with pytest.raises(NoFit, match=r"use model\.dtype=bfloat16 \(16\.4 GiB\) or model\.offload=memory"):
        best(of("CogVideoX-5B", dtype="float32"), ONE_24)
    eight = replace(EIGHT_80, memory_gib=24.0)
    named = (
        r"use model\.offload=memory \(18\.0 GiB\) or cluster\.ulysses=2 with model\.zero=true \(23\.4 GiB\)$"
    )
    with pytest.raises(NoFit, match=named):
        best(of("Wan2.1-14B"), eight, asked=Asked(1, 1, 1))


@given(works, machines, st.floats(1, 60))
def test_what_some_gang_can_hold_is_chosen_for_and_only_the_rest_is_left_out(work, machine, memory_gib):
    machine = replace(machine, memory_gib=memory_gib)
    kept = placeable(work, machine)
    for strand in work:
        try:
            choose({strand: 1}, {}, machine, open_shots=1)
        except NoFit:
            assert strand not in kept
        else:
            assert strand in kept


def test_activations_that_do_not_fit_alone_are_shared_and_that_is_why():
    choice = choose(of("Wan2.2-A14B", n_shots=64), {}, EIGHT_64, open_shots=64)
    assert choice.reason.startswith("ulysses 2: one GPU alone does not hold it")


def test_reasons_say_what_the_alternative_costs():
    many = choose(of("Wan2.1-14B", n_shots=64), {}, EIGHT_80, open_shots=64).reason
    assert many.startswith("one model a GPU: it fits, and 100% of the GPUs are at work; ")
    few = choose(of("Wan2.1-14B", n_shots=4), {}, EIGHT_80, open_shots=4).reason
    assert few == "cfg 2: the job is 2.00 times as fast as one model a GPU, which leaves 50% of the GPUs idle"
    assert choose(of("CogVideoX-5B"), {}, ONE_24, open_shots=4).reason.endswith(
        "no other gang is possible here"
    )


def test_measured_seconds_decide_where_there_are_any():
    from cluster.cost import measure_key

    machine, work = replace(EIGHT_80, gpu="H100"), of("Wan2.1-14B", n_shots=64)
    (shape,) = (strand.shape for strand in work)
    size = (shape.frames, shape.height * 8, shape.width * 8)
    known = {ALONE: 1000.0, Axes(2, cfg=2): 100.0}
    slow = {measure_key(shape.digest, shape.dtype, size, True, axes, "H100"): s for axes, s in known.items()}
    assert best(work, machine, measured=slow).axes != ALONE
    assert forecast(work, work, ALONE, machine, 64, slow).steps[shape] == Step(1000.0, measured=True)
