"""Claims about the cost model: its arithmetic, and the times and speed-ups that others have published."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.choose import forecast
from cluster.cost import (
    BLOCK_S,
    RESERVE_GIB,
    Shape,
    estimate,
    measure_key,
    memory,
    window_step,
)
from cluster.decoding import Pixels
from cluster.machine import GPUS, Machine, kind_of
from cluster.strand import Strand
from engine.families.denoiser import Blocks, Denoiser, denoiser_of
from engine.families.known import FAMILIES
from engine.families.published import TABLE
from engine.families.published_parts import HUNYUAN, OPENSORA
from engine.parallel.axes import ALONE, Axes
from engine.phases import Course

CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in TABLE}


def machine(gpu, gpus=8, **changes):
    kind = GPUS[gpu]
    whole = Machine(1, gpus, kind.memory_gib, kind.tflops, kind.efficiency, kind.link_gb_s, 12.5, 1e-4, gpu)
    return replace(whole, **changes)


def shape(denoiser, frames, height, width, text=226, guided=True, **changes):
    """Latents."""
    whole = Shape(
        "a model", "digest", denoiser, 10**9, "bfloat16", frames, height, width, 16, 8, text, guided
    )
    return replace(whole, **changes)


HUNYUAN_720P = shape(denoiser_of(HUNYUAN["transformer"]), 33, 90, 160, text=256)
COGVIDEOX = shape(denoiser_of(CHECKPOINTS["CogVideoX-5B"].parts["transformer"]), 13, 60, 90)
# ConsisID: at every second block video tokens attend to a face's, by 16 heads x 128 (diffusers' class)
CONSISID = replace(
    COGVIDEOX,
    denoiser=replace(
        COGVIDEOX.denoiser,
        blocks=tuple(replace(b, video=b.video + 3072 * 2048) for b in COGVIDEOX.denoiser.blocks),
    ),
)
COGVIDEOX_15 = shape(denoiser_of(CHECKPOINTS["CogVideoX1.5-5B"].parts["transformer"]), 41, 96, 170)
OPENSORA_768 = shape(denoiser_of(OPENSORA["transformer"]), 33, 96, 96, text=512)
WAN_480P = shape(denoiser_of(CHECKPOINTS["Wan2.1-14B"].parts["transformer"]), 21, 60, 104, text=512)
WAN_720P = replace(WAN_480P, height=90, width=160)
# Step-Video-T2V's report: 48 blocks of 48 heads x 128, an autoencoder of 8 x 16 x 16, one latent a token
_STEP = Denoiser(48, 6144, (1, 1, 1), (Blocks(48, 14 * 6144**2, 2 * 6144**2, crossed=True),), False)
STEP_VIDEO = shape(_STEP, 36, 34, 62, text=320)


def pixels(family, n_frames, width, height, tiled=False):
    """What a published autoencoder of this family decodes."""
    made = FAMILIES[family].making({"vae": {}})
    operations = n_frames * made.of((width, height), tiled)
    return Pixels("a model", 0.0, "bfloat16", (width, height), operations=operations)


# The first by the authors' own code and Open-Sora's, which decode in tiles, as 768 x 1360 px must on 48 GB.
HUNYUAN_PX = pixels("HunyuanVideoPipeline", 129, 1280, 720, tiled=True)
OPENSORA_PX = pixels("OpenSoraPipeline", 129, 768, 768, tiled=True)
COGVIDEOX_15_PX = pixels("CogVideoXPipeline", 161, 1360, 768, tiled=True)
CONSISID_PX = pixels("CogVideoXPipeline", 49, 720, 480)


def film_s(window, axes, gpu, n_steps, decoded):
    """A film of one window, until its pixels are there, as `plan --explain` foretells it."""
    work = {Strand(window, Course(((n_steps, 1),)), decoded): 1}
    return forecast(work, work, axes, machine(gpu), open_shots=1).film_s


# By xDiT, Open-Sora and LightX2V. Left out, since axes or GPUs are not stated: CogVideoX-5B and 2B on up
# to 12 L40 (7.75x, 4.29x), Wan 2.2 I2V (no one-GPU time), Wan 2.1 by SGLang, xDiT and FastVideo. Open-Sora
# 1 has no full attention. HunyuanVideo with a step cache on L20 is below, apart.
ROWS = [
    ("HunyuanVideo H100", HUNYUAN_720P, Axes(8, ulysses=8), "H100", 50, HUNYUAN_PX, 5.64),
    ("HunyuanVideo H20", HUNYUAN_720P, Axes(8, ulysses=8), "H20", 50, HUNYUAN_PX, 7.06),
    ("HunyuanVideo L20", HUNYUAN_720P, Axes(4, ulysses=4), "L20", 50, HUNYUAN_PX, 2.91),
    ("CogVideoX1.5 L40", COGVIDEOX_15, Axes(8, 2, 1, 2, 2), "L40", 50, COGVIDEOX_15_PX, 6.12),
    ("ConsisID cfg 2", CONSISID, Axes(2, 2), "H100", 50, CONSISID_PX, 1.92),
    ("Step-Video, a step", STEP_VIDEO, Axes(8, ulysses=8), "H20", 1, None, 7.10),
    ("Open-Sora 2", OPENSORA_768, Axes(8, ring=8), "H100", 50, OPENSORA_PX, 6.0),
    ("Wan 2.1 by LightX2V, a step", WAN_480P, Axes(8, cfg=2, ulysses=4), "H100", 1, None, 6.9),
]


@pytest.mark.parametrize(
    ("window", "axes", "gpu", "n_steps", "decoded", "published"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_eight_of_nine_published_speed_ups_are_met_within_a_fifth(
    window, axes, gpu, n_steps, decoded, published
):
    alone, together = (film_s(window, each, gpu, n_steps, decoded) for each in (ALONE, axes))
    assert alone / together == pytest.approx(published, rel=0.2)


def test_the_ninth_is_overrated_by_half():
    """ConsisID by ring 3 and cfg 2 on six H100 is 3.21 times as fast (xDiT), where 4.9 are foretold.

    Its ranks lose what links do not explain: by ulysses 2 alone it is 1.50 times as fast and by ring 2 1.64,
    over NVLink, while cfg 2, which sends hardly anything, is 1.92 times.
    """
    one, six, ulysses, ring = (
        film_s(CONSISID, axes, "H100", 50, CONSISID_PX)
        for axes in (ALONE, Axes(6, 2, 1, 3), Axes(2, ulysses=2), Axes(2, ring=2))
    )
    assert 1.4 < one / six / 3.21 < 1.6
    assert one / ulysses > 1.2 * 1.50 and one / ring > 1.1 * 1.64


ONE_GPU = [
    ("HunyuanVideo H100", HUNYUAN_720P, "H100", 50, HUNYUAN_PX, 1904.0),
    ("HunyuanVideo H20", HUNYUAN_720P, "H20", 50, HUNYUAN_PX, 6639.0),
    ("HunyuanVideo L20", HUNYUAN_720P, "L20", 50, HUNYUAN_PX, 6044.0),
    ("ConsisID", CONSISID, "H100", 50, CONSISID_PX, 114.9),
    ("Step-Video, a step", STEP_VIDEO, "H20", 1, None, 213.6),
    ("Open-Sora 2", OPENSORA_768, "H100", 50, OPENSORA_PX, 1656.0),
    ("Wan 2.1 by diffusers, a step", WAN_480P, "H100", 1, None, 9.77),
]


@pytest.mark.parametrize(
    ("window", "gpu", "n_steps", "decoded", "published_s"),
    [row[1:] for row in ONE_GPU],
    ids=[r[0] for r in ONE_GPU],
)
def test_published_times_of_one_gpu_are_met_within_a_tenth(window, gpu, n_steps, decoded, published_s):
    # one efficiency a kind of GPU meets all of its models: what they compute is counted, not fitted
    assert film_s(window, ALONE, gpu, n_steps, decoded) == pytest.approx(published_s, rel=0.1)


@pytest.mark.parametrize(
    ("family", "width", "height", "frame_s"),
    [("CogVideoXPipeline", 720, 480, 0.06), ("WanPipeline", 832, 480, 0.03)],
)
def test_what_an_h100_took_to_decode_a_frame_is_foretold_within_a_tenth(family, width, height, frame_s):
    # by one share of its speed, which no published row above was asked for
    assert pixels(family, 1, width, height).seconds(machine("H100")) == pytest.approx(frame_s, rel=0.1)


def test_a_step_cache_is_outside_the_model():
    """HunyuanVideo with FBCache on 2, 4, 8 L20 is 2.0, 3.2 and 3.5 times as fast (ParaAttention).

    Not met: cached steps cost no computing, but all that is sent beside it, on links that eight GPUs share.
    """
    one = film_s(HUNYUAN_720P, ALONE, "L20", 50, HUNYUAN_PX)
    eight = film_s(HUNYUAN_720P, Axes(8, ulysses=8), "L20", 50, HUNYUAN_PX)
    assert one / eight > 1.2 * 3.5


denoisers = st.builds(
    lambda heads, size, patch, count, joint, one_batch: Denoiser(
        heads,
        heads * size,
        (1, patch, patch),
        (Blocks(count, 12 * (heads * size) ** 2, 12 * (heads * size) ** 2, joint=joint),),
        one_batch,
    ),
    st.integers(1, 48),
    st.sampled_from([32, 64, 128]),
    st.integers(1, 2),
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
)
shapes = st.builds(shape, denoisers, *[st.integers(2, 40)] * 3, st.integers(0, 512), st.booleans())
machines = st.builds(
    Machine,
    st.integers(1, 4),
    st.just(8),
    st.just(80.0),
    st.floats(1, 2000),
    st.floats(0.1, 1),
    st.floats(0.1, 900),
    st.floats(0.01, 100),
    st.floats(0, 1e-3),
)
gangs = st.builds(
    lambda cfg, ring, ulysses: Axes.of_gang(cfg, ring, ulysses),
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 8),
)


@given(shapes, gangs, machines, st.floats(1, 100))
def test_faster_links_and_gpus_and_shorter_waits_never_make_a_step_slower(window, axes, farm, factor):
    before = window_step(window, axes, farm).seconds
    for name in ("inside_gb_s", "between_gb_s", "tflops"):
        better = replace(farm, **{name: getattr(farm, name) * factor})
        assert window_step(window, axes, better).seconds <= before * (1 + 1e-12)
    assert window_step(window, axes, replace(farm, latency_s=farm.latency_s / factor)).seconds <= before


@given(shapes, machines)
def test_one_gpu_sends_nothing_and_waits_for_nobody(window, farm):
    step = window_step(window, ALONE, replace(farm, nodes=1, gpus=1))
    assert (step.exchange_s, step.wait_s) == (0.0, 0.0)
    assert step.compute_s > 0


@given(shapes, gangs, machines)
def test_a_gang_computes_no_less_than_its_fair_share(window, axes, farm):
    alone, shared = (window_step(window, each, farm).compute_s for each in (ALONE, axes))
    assert alone / axes.ranks <= shared * (1 + 1e-9) and shared <= alone * (1 + 1e-9)


@given(shapes, gangs, machines, st.integers(2, 8))
def test_a_batch_takes_no_longer_than_its_windows_in_turn_and_no_less_than_what_it_computes(
    window, axes, farm, batch
):
    one, all_of_them = (estimate(window, axes, farm, n).seconds for n in (1, batch))
    assert one * (1 - 1e-9) <= all_of_them <= batch * one * (1 + 1e-9)
    alone, held = (memory(window, axes, n) for n in (1, batch))
    assert held.activations_gib == pytest.approx(batch * alone.activations_gib)
    assert held.weights_gib == alone.weights_gib


def test_windows_that_fill_a_gpu_gain_nothing_in_a_batch_and_tiny_ones_all_but_a_forward_each():
    tiny = shape(
        Denoiser(6, 192, (1, 4, 4), (Blocks(6, 12 * 192**2, joint=True),), True), 13, 16, 24, text=32
    )
    h100 = machine("H100", 1)
    large, small = (
        estimate(window, ALONE, h100, 4).seconds / estimate(window, ALONE, h100).seconds
        for window in (HUNYUAN_720P, tiny)
    )
    assert large == pytest.approx(4) and small == 1.0
    assert estimate(tiny, ALONE, h100, 4).seconds == pytest.approx(6 * BLOCK_S)


@given(shapes, gangs)
def test_axes_share_activations_and_no_weights(window, axes):
    alone, shared = memory(window, ALONE), memory(window, axes)
    assert shared.weights_gib == alone.weights_gib and shared.activations_gib <= alone.activations_gib
    assert shared.gib == shared.weights_gib + shared.activations_gib + RESERVE_GIB


@given(shapes, machines)
def test_guidance_costs_two_forwards_or_one_of_twice_the_batch_and_a_model_that_is_told_it_one(window, farm):
    farm = replace(farm, nodes=1, gpus=1)
    unguided, guided = (
        window_step(replace(window, guided=flag), ALONE, farm).seconds for flag in (False, True)
    )
    told = replace(window, guided=True, denoiser=replace(window.denoiser, told=True))
    apart = replace(window, guided=True, denoiser=replace(window.denoiser, one_batch=False))
    assert window_step(apart, ALONE, farm).seconds == pytest.approx(2 * unguided)
    if window.denoiser.one_batch:
        assert guided == pytest.approx(estimate(replace(window, guided=False), ALONE, farm, batch=2).seconds)
    assert window_step(told, ALONE, farm).seconds == unguided


# What tests/bench/bench_gpu.py measured on an H100 in bfloat16 under guidance: seconds of a step, GiB held.
ON_AN_H100 = [
    ("CogVideoX-2B", (13, 60, 90), 226, 0.653, 5.02),
    ("CogVideoX-5B", (13, 60, 90), 226, 1.867, 13.06),
    ("Wan2.1-1.3B", (21, 60, 104), 512, 1.334, 4.20),
    ("Wan2.1-14B", (21, 60, 104), 512, 6.888, 30.22),
    ("LTX-Video-2B", (21, 15, 22), 128, 0.223, 4.48),
    ("HunyuanVideo", (33, 68, 120), 256, 11.42, 30.95),
]


@pytest.mark.parametrize(("name", "sides", "text", "seconds", "gib"), ON_AN_H100)
def test_what_an_h100_took_is_foretold_the_memory_always_enough(name, sides, text, seconds, gib):
    """No step takes more than a tenth longer than told, nor less than two thirds of it."""
    checkpoint = CHECKPOINTS[name]
    denoiser, parameters = denoiser_of(dict(checkpoint.denoiser)), checkpoint.parameters
    window = replace(shape(denoiser, *sides, text, parameters=parameters), guided=True)
    told = memory(window, ALONE)
    assert gib <= told.weights_gib + told.activations_gib <= 1.3 * gib
    gpu = GPUS["H100"]
    farm = Machine(1, 1, gpu.memory_gib, gpu.tflops, gpu.efficiency, gpu.link_gb_s, 1.25, 1e-4, "H100")
    assert 0.66 < seconds / window_step(window, ALONE, farm).seconds < 1.1


@given(shapes, st.integers(0, 10**9), st.integers(0, 10**6), st.sampled_from(["int8", "float8"]))
def test_8_bits_make_matrices_a_byte_each_and_leave_the_rest(window, linear, rows, how):
    whole = replace(window, linear=min(linear, window.parameters), rows=rows)
    saved = whole.weights_bytes - replace(whole, quantise=how).weights_bytes
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[window.dtype]
    assert whole.weights_bytes == size * window.parameters
    assert saved == (size - 1) * whole.linear - {"int8": 5, "float8": 4}[how] * rows


@given(shapes, gangs, machines, st.floats(0.001, 1000))
def test_what_was_measured_counts_for_that_window_on_that_gang_and_machine_alone(window, axes, farm, seconds):
    farm = replace(farm, gpu="H100")
    size = (window.frames, window.height * window.scale, window.width * window.scale)
    known = {measure_key(window.digest, window.dtype, size, window.guided, axes, "H100"): seconds}
    assert window_step(window, axes, farm, known).seconds == seconds
    estimate = window_step(window, axes, farm)
    others = [
        (replace(window, digest="other"), axes, farm),
        (replace(window, frames=window.frames + 1), axes, farm),
        (replace(window, dtype="float32"), axes, farm),
        (replace(window, quantise="int8"), axes, farm),
        (replace(window, compile=True), axes, farm),
        (window, axes, replace(farm, gpu="A100")),
        (window, Axes.of_gang(3 - axes.cfg, axes.ring, axes.ulysses), farm),
    ]
    assert not estimate.measured and not any(window_step(*other, known).measured for other in others)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("cpu", "cpu"),
        ("Tesla T4", "Tesla T4"),
    ],
)
def test_a_device_is_known_by_the_kind_in_its_name(name, kind):
    assert kind_of(name) == kind
