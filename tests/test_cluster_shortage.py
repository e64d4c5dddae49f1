"""Claims about too little memory: numbers that add up, and settings that would fit by the same arithmetic."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.classes import CLASSES
from cluster.cost import BYTES, GIB, main_memory, memory
from cluster.crew import judge
from cluster.shortage import CODE, Place, Shortage, cheaper, fits, part_shortage, remedy, shortage
from engine.memory import Free
from engine.parallel.axes import ALONE, Axes
from tests.test_cluster_choose import shape_of, shapes

ON_GPU = Place(Free(24.0, "the GPU L4"), 8)
ranks = st.integers(1, 8)
gpu_places = st.builds(
    lambda gib, gpus, main, n: Place(Free(gib, "the GPU"), gpus, main and Free(main, "this machine"), n),
    st.floats(0.5, 90),
    ranks,
    st.none() | st.floats(1, 90),
    ranks,
)
places = gpu_places | st.builds(
    lambda gib, n: Place(Free(gib, "this machine"), sharing=n), st.floats(0.01, 90), ranks
)
NUMBERS = re.compile(r"needs ([\d.e-]+) GiB .* has ([\d.e-]+) GiB: ([\d.e-]+) GiB short")


def applied(words, shape, axes):
    """The window and the gang once the settings and sizes that a hint names are taken."""
    for word in re.sub(r" \([\d.]+ GiB\)", "", words).split(" with "):
        key, _, value = word.partition("=")
        if key.startswith("cluster."):
            sizes = {"cfg": axes.cfg, "ring": axes.ring, "ulysses": axes.ulysses}
            axes = Axes.of_gang(**sizes | {key.removeprefix("cluster."): int(value)})
        elif key == "window.size":
            shape = replace(shape, frames=int(value))
        elif word.startswith("a picture of "):
            width, height = map(int, word.removeprefix("a picture of ").removesuffix(" px").split("x"))
            shape = replace(shape, width=width // shape.scale, height=height // shape.scale)
        else:
            name = key.removeprefix("model.")
            shape = replace(shape, **{name: value == "true" if name == "zero" else value})
    return shape, axes


@given(shapes, st.sampled_from(["float32", "bfloat16"]), places)
def test_a_window_is_refused_exactly_where_it_does_not_fit_and_every_setting_named_would(shape, dtype, place):
    shape = replace(shape, dtype=dtype)
    short = shortage(shape, ALONE, place)
    assert (short is None) == fits(shape, ALONE, place)
    if short is None or not short.hint.startswith("use "):
        return
    for words in short.hint.removeprefix("use ").split(" or "):
        if words.startswith("cluster.gangs="):
            fewer = int(words.removeprefix("cluster.gangs="))
            assert fewer < place.sharing and fits(shape, ALONE, replace(place, sharing=fewer))
            assert not fits(shape, ALONE, replace(place, sharing=fewer + 1))
            continue
        changed, axes = applied(words, shape, ALONE)
        assert (changed, axes) != (shape, ALONE)
        assert axes.ranks <= max(1, place.gpus) and not (changed.zero and axes.ranks == 1)
        assert fits(changed, axes, place)


@given(shapes, places)
def test_a_message_has_what_is_needed_what_there_is_and_the_difference(shape, place):
    if short := shortage(shape, ALONE, place):
        needs, has, missing = map(float, NUMBERS.search(short.message).groups())
        assert short.code == CODE and missing == pytest.approx(needs - has, abs=0.11 + 0.02 * has)
        assert "weights" in short.message and (
            "activations" in short.message or "main memory" in short.message
        )


def test_weights_that_wait_elsewhere_or_are_shared_out_leave_a_gpu_all_but_a_block_of_them():
    whole, block = shape_of("Wan2.1-14B"), 2 * 0.5  # GiB, of 40 blocks
    zero, waits = replace(whole, zero=True), replace(whole, offload="memory")
    all_gib = whole.parameters * BYTES["bfloat16"] / GIB
    assert memory(whole, ALONE).weights_gib == pytest.approx(all_gib)
    assert 0 < memory(waits, ALONE).weights_gib < block
    for ranks in (2, 4, 8):
        held = memory(zero, Axes.of_gang(1, 1, ranks)).weights_gib
        assert all_gib / ranks < held < all_gib / ranks + block
        assert memory(whole, Axes.of_gang(1, 1, ranks)).weights_gib == pytest.approx(all_gib)


@given(shapes, st.integers(1, 4))
def test_main_memory_holds_the_whole_weights_once_wherever_they_go_then(shape, ulysses):
    axes = Axes.of_gang(1, 1, min(ulysses, shape.denoiser.heads))
    whole = shape.parameters * BYTES[shape.dtype] / GIB
    for one in (shape, replace(shape, zero=True), replace(shape, offload="disk")):
        assert main_memory(one, axes, on_gpu=True).gib == pytest.approx(whole)
        assert main_memory(one, axes, on_gpu=False).gib >= whole * (1 - 1e-12)
        assert main_memory(one, axes, on_gpu=False).activations_gib == memory(one, axes).activations_gib


def test_a_process_that_lives_needs_no_context_and_one_with_weights_no_weights():
    shape = shape_of("Wan2.1-14B")
    planned = memory(shape, ALONE)
    for stage, needed in (
        ("planned", planned.gib),
        ("started", planned.gib - planned.reserve_gib),
        ("loaded", planned.activations_gib),
    ):
        assert shortage(shape, ALONE, Place(Free(needed + 0.01, "the GPU"), 1), stage) is None
        assert shortage(shape, ALONE, Place(Free(needed - 0.01, "the GPU"), 1), stage) is not None


def test_weights_that_wait_in_memory_are_those_of_all_ranks_of_a_node():
    waits = replace(shape_of("Wan2.1-14B"), offload="memory")
    place = Place(Free(80.0, "the GPU H100"), 8, Free(160.0, "its node"), sharing=8)
    short = shortage(waits, ALONE, place)
    assert "needs 212.9 GiB of main memory for the 8 ranks of a node (weights 212.9;" in short.message
    assert "its node has 160.0 GiB: 52.9 GiB short" in short.message
    assert short.hint == "use model.offload=disk (36.0 GiB) or cluster.gangs=6"
    assert shortage(waits, ALONE, replace(place, sharing=6)) is None
    assert shortage(shape_of("Wan2.1-14B"), ALONE, place) is None  # they only pass through main memory


@given(shapes, st.integers(1, 64), st.floats(0.01, 900))
def test_ranks_that_compute_on_cpus_share_their_nodes_memory(shape, n, free):
    alone = main_memory(shape, ALONE, on_gpu=False).gib
    place = Place(Free(free, "the largest node"), sharing=n)
    assert (shortage(shape, ALONE, place) is None) == (n * alone <= free)


def test_main_memory_that_cannot_take_the_weights_is_told_though_the_gpu_would_hold_them():
    place = Place(Free(80.0, "the GPU H100"), 1, Free(16.0, "this machine"))
    short = shortage(shape_of("Wan2.1-14B"), ALONE, place)
    assert (
        "needs 26.6 GiB of main memory (weights 26.6; one model a GPU), this machine has 16.0"
        in short.message
    )
    assert short.hint == "no setting would fit: use a machine with more memory or a smaller model"


def test_what_ran_out_although_it_should_have_fitted_is_told_what_needs_clearly_less():
    shape = shape_of("CogVideoX-5B")
    needs, hint = memory(shape, ALONE).gib, cheaper(shape, ALONE, replace(ON_GPU, free=Free(80.0, "the GPU")))
    for words in hint.removeprefix("use ").split(" or "):
        assert memory(*applied(words, shape, ALONE)).gib <= 0.9 * needs
    assert "model.offload=memory" in hint


def test_another_parts_weights_are_refused_by_the_same_code_with_what_would_fit():
    lone = Place(Free(12.0, "this machine"))
    assert part_shortage("text_encoder of m", 4_762_310_656, "bfloat16", lone) is None
    short = part_shortage("text_encoder of m", 4_762_310_656, "float32", lone)
    assert short.code == CODE and short.hint == "use model.dtype=bfloat16 (8.9 GiB)"
    assert short.message == (
        "text_encoder of m in float32 needs 17.7 GiB of main memory for its weights, this machine has 12.0 "
        "GiB: 5.7 GiB short"
    )
    on_gpu = part_shortage("vae of m", 4_762_310_656, "bfloat16", Place(Free(4.0, "the GPU L4"), 1))
    assert "of its GPU" in on_gpu.message and on_gpu.hint == "use cluster.stage_gpus=0"


def test_a_refusal_that_is_raised_keeps_its_code_and_its_hint_and_may_pass_elsewhere():
    failure = judge(Shortage(shortage(shape_of("Wan2.1-14B"), ALONE, ON_GPU)))
    assert failure.code == CODE and "model.offload=memory" in failure.hint
    assert failure.error_class == "HOST_OOM" and CLASSES["HOST_OOM"].limit > 1
    assert remedy(shape_of("Wan2.1-14B"), ALONE, ON_GPU) == failure.hint
