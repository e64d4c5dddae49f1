"""Claims about how many gangs fit: never more than there is room for, and a refusal that has the numbers."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.crew import Setup
from cluster.shortage import Place
from cluster.topology import (
    BESIDE_STAGES,
    TooSmall,
    fit,
    gangs_on,
    machine_of,
    place_of,
    rank_needs,
    stage_needs,
)
from engine.memory import GIB, Free
from engine.parallel.axes import Axes

SETUP = Setup("/store", "/identity")
nodes = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 64).map(float), "GPU": st.integers(0, 8).map(float)}),
    max_size=6,
)
setups = st.builds(
    lambda device, threads, gangs, n: replace(
        SETUP, device=device, threads=threads, gangs=gangs, axes=Axes(n, ulysses=n)
    ),
    st.sampled_from(["cpu", "cuda"]),
    st.integers(1, 8),
    st.integers(0, 12),
    st.integers(1, 9),
)
shares = st.integers(1, 40).map(lambda percent: percent / 100)


def pieces(cluster, unit):
    """What can be taken a share of, node by node: each GPU for itself, all CPUs of a node together."""
    return [[1.0] * int(node["GPU"]) if unit == "GPU" else [node["CPU"]] for node in cluster]


def take(free, amount):
    """Whether a piece has so much left, which is then gone."""
    for n, left in enumerate(free):
        if left >= amount - 1e-6:
            free[n] -= amount
            return True
    return False


def put(setup, cluster):
    """How many gangs can be placed one after another, each on any one node with room, and what is left."""
    ((unit, amount),) = rank_needs(setup).items()
    left, count = pieces(cluster, unit), 0
    for n, free in enumerate(left):
        while True:
            then = list(free)
            if not all(take(then, amount) for _ in range(setup.axes.ranks)):
                break
            free, count = then, count + 1
        left[n] = free
    return count, left


def placed(setup, cluster):
    return put(setup, cluster)[0]


@given(setups, nodes)
def test_fit_takes_all_the_room_there_is_or_what_was_asked_for_and_refuses_more(setup, cluster):
    room = placed(setup, cluster)
    if room == 0 or setup.gangs > room:
        with pytest.raises(TooSmall):
            fit(setup, cluster)
        return
    fitted = fit(setup, cluster)
    assert fitted.gangs == (setup.gangs or room)
    assert replace(fitted, gangs=setup.gangs) == setup


@given(nodes, shares, st.integers(1, 12), st.integers(1, 9))
def test_encoders_and_decoders_find_room_beside_all_gangs_or_are_refused(cluster, share, decoders, ranks):
    axes = Axes(ranks, ulysses=ranks)
    setup = replace(SETUP, device="cuda", stage_gpus=share, decoders=decoders, axes=axes)
    count, left = put(setup, cluster)
    if not count:
        return
    rest = [[min(gpu, 1 - BESIDE_STAGES) for gpu in free] for free in left]  # other gangs may come
    fits = all(any(take(free, share) for free in rest) for _ in range(1 + decoders))
    try:
        fit(setup, cluster)
    except TooSmall as refusal:
        assert not fits and f"cluster.decoders={decoders}" in str(refusal)
    else:
        assert fits


def test_stages_take_no_gpu_where_the_cluster_has_none_or_they_are_told_to_stay_off_it():
    assert stage_needs(replace(SETUP, device="cpu")) == 0
    assert stage_needs(replace(SETUP, device="cuda", stage_gpus=0)) == 0
    assert rank_needs(replace(SETUP, device="cuda", stage_gpus=0)) == {"GPU": 1.0}


@given(setups, nodes)
def test_a_gang_lies_on_one_node(setup, cluster):
    for node in cluster:
        assert gangs_on(node, setup) == placed(setup, [node])


@given(setups, nodes)
def test_a_refusal_names_the_setting_to_lower(setup, cluster):
    if setup.gangs > placed(setup, cluster) or not placed(setup, cluster):
        with pytest.raises(TooSmall, match=r"lower cluster\.(gangs|cfg)"):
            fit(setup, cluster)


def test_a_gang_larger_than_any_node_is_refused_with_both_numbers():
    message = (
        "a gang of cfg 2 × window 1 × ring 1 × ulysses 2 = 4 ranks needs 4 GPU on one node, the largest of "
        "3 nodes has 2; lower cluster.cfg, cluster.ring, cluster.ulysses or cluster.threads"
    )
    setup = replace(SETUP, device="cuda", axes=Axes(4, cfg=2, ulysses=2))
    with pytest.raises(TooSmall, match=re.escape(message)):
        fit(setup, [{"CPU": 8.0}, {"GPU": 2.0}, {"GPU": 1.0}])


def test_more_gangs_than_there_is_room_for_are_refused_with_both_numbers():
    message = "cluster.gangs=5 gangs of 2 do not fit: the 2 nodes have room for 3; lower cluster.gangs"
    with pytest.raises(TooSmall, match=re.escape(message)):
        fit(replace(SETUP, gangs=5, axes=Axes(2, ring=2)), [{"CPU": 5.0}, {"CPU": 2.0}])


def test_a_cluster_without_nodes_has_room_for_nothing():
    with pytest.raises(TooSmall, match="the largest of 0 nodes has 0"):
        fit(SETUP, [])


@given(setups, nodes)
def test_auto_is_the_gpus_where_the_cluster_has_any_and_else_the_cpus(setup, cluster):
    chosen = "cuda" if any(node["GPU"] for node in cluster) else "cpu"
    results = []
    for device in ("auto", chosen):
        try:
            results.append(fit(replace(setup, device=device), cluster))
        except TooSmall as refusal:
            results.append(str(refusal))
    assert results[0] == results[1]


def gpu_node(kind, gpus):
    return {"CPU": 8.0, "GPU": float(gpus), f"accelerator_type:{kind}": 1.0}


def test_a_cluster_is_the_machine_of_its_largest_group_of_equal_nodes():
    nodes = [{"CPU": 4.0}, gpu_node("L4", 8), *[gpu_node("H100", 8)] * 3, gpu_node("H100", 4)]
    farm = machine_of(nodes)
    assert (farm.nodes, farm.gpus, farm.gpu) == (3, 8, "H100")
    assert farm.memory_gib == 79.6 and farm.n_gpus == 24


def test_a_cluster_without_gpus_is_no_machine_and_an_unknown_gpu_is_refused():
    assert machine_of([{"CPU": 4.0}]) is None
    with pytest.raises(
        TooSmall, match=r"nothing is known of the GPU 'T4', so no gang can be chosen: set cluster\.cfg"
    ):
        machine_of([gpu_node("T4", 2)])


def test_ranks_compute_where_most_memory_is_of_what_can_hold_their_gang():
    gpus = [gpu_node("L4", 8), gpu_node("H100", 4), gpu_node("H100", 1)]
    on_gpus = replace(SETUP, device="cuda", axes=Axes(2, ulysses=2))
    assert place_of(on_gpus, gpus) == Place(Free(79.6, "the GPU H100"), 4, None, 2)  # gangs=1
    told = [node | {"memory": 64.0 * GIB} for node in gpus]
    all_gangs = replace(on_gpus, gangs=0)
    assert place_of(all_gangs, told) == Place(Free(79.6, "the GPU H100"), 4, Free(64.0, "its node"), 4)
    on_cpus = replace(SETUP, device="cpu", axes=Axes(4, ulysses=4))
    nodes = [
        {"CPU": 8.0, "memory": 8.0 * GIB},
        {"CPU": 4.0, "memory": 4.0 * GIB},
        {"CPU": 1.0, "memory": 99e9},
    ]
    assert place_of(on_cpus, nodes) == Place(Free(8.0, "the largest node"), sharing=4)
    small, large = {"CPU": 2.0, "memory": 6.0 * GIB}, {"CPU": 8.0, "memory": 8.0 * GIB}
    alone = replace(SETUP, device="cpu", gangs=0)
    assert place_of(alone, [small, large]) == Place(Free(6.0, "the largest node"), sharing=2)  # 3 GiB a rank


def test_where_some_node_does_not_say_what_it_has_nothing_is_known():
    assert place_of(replace(SETUP, device="cuda"), [gpu_node("H100", 1), gpu_node("T4", 1)]) is None
    assert place_of(replace(SETUP, device="cpu"), [{"CPU": 2.0}, {"CPU": 2.0, "memory": 9e9}]) is None
    assert place_of(replace(SETUP, device="cuda"), [{"CPU": 2.0}]) is None
