"""The mathematics of stitching: when windows give what one global pass gives, and when they do not.

Tensors are z_BTCHW in float64, so that a difference is a fault of the method and not of rounding.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.canvas import Canvas
from engine.denoise import denoise_here
from engine.noise import keyed_noise
from engine.timeline import Part
from engine.windows import Window, blend_weights, plan_windows

F, STEPS = 61, 12
COGVIDEOX = {
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    "clip_sample": False,
}  # fmt: skip
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
SCHEDULERS = {
    "DDIM": lambda: DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "CogVideoX DDIM": lambda: CogVideoXDDIMScheduler(**COGVIDEOX),
    "CogVideoX DPM": lambda: CogVideoXDPMScheduler(**COGVIDEOX),
    "FlowMatchEuler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "UniPC": lambda: UniPCMultistepScheduler(**FLOW),
    "DPM++ 2M": lambda: DPMSolverMultistepScheduler(**FLOW),
}
DETERMINISTIC = [name for name in SCHEDULERS if name != "CogVideoX DPM"]
LAYOUTS = [(13, 4, 1), (13, 4, 2), (13, 6, 0), (21, 5, 1), (31, 15, 3), (40, 18, 1)]  # size, overlap, lead-in


@dataclass(frozen=True)
class Layout:
    """Windows and their weights (n, F)."""

    windows: tuple[Window, ...]
    weights: np.ndarray


def layout_of(size, overlap, lead_in, n_frames=F):
    windows = plan_windows(n_frames, size, overlap)
    return Layout(windows, blend_weights(windows, n_frames, lead_in))


GLOBAL = layout_of(F, 0, 0)


def moving(step, shifts=(0, 2, -2)):
    """The layout of 13 frames, its inner windows moved together by another distance at every step."""
    first, *inner, last = plan_windows(F, 13, 5)
    shift = shifts[step % len(shifts)]
    windows = (first, *(Window(w.start + shift, w.stop + shift) for w in inner), last)
    return Layout(windows, blend_weights(windows, F))


def new_canvas(name, dtype=torch.float64, latents=None, n_steps=STEPS):
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(n_steps)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, F, 2, 3, 4), generator=generator, dtype=torch.float64)
    return Canvas(noise.to(dtype) if latents is None else latents, scheduler, generator)


def pointwise(z, timestep):
    """Each value by itself, not linearly."""
    return torch.tanh(1.5 * z) - 0.3 * torch.cos(z + timestep / 300)


def reaching(r):
    """A non-linear model in which a frame sees the r frames before and after it."""

    def predict(z, timestep):
        ends = torch.cat([z[:, :1]] * r + [z] + [z[:, -1:]] * r, dim=1)
        near = ends.unfold(1, 2 * r + 1, 1).mean(dim=-1) + 0.5 * ends.unfold(1, 2 * r + 1, 1).amax(dim=-1)
        return torch.tanh(z - near.roll(1, dims=4)) + timestep / 2000

    return predict


def whole_window(z, timestep):
    """Every frame sees all of its window, and its place in it, as a transformer does."""
    place = torch.linspace(-1, 1, z.shape[1], dtype=z.dtype).view(1, -1, 1, 1, 1)
    return torch.tanh(1.5 * z + z.mean(dim=1, keepdim=True) + 0.5 * place) + timestep / 2000


def denoise(canvas, layout, model):
    """The product's own loop."""
    parts = [Part(window, 0) for window in layout.windows]
    return denoise_here(canvas, parts, layout.weights, lambda r: model(r.latents, r.timestep))


def denoise_by(canvas, layout_at, model):
    """One canvas and one scheduler, with a layout for each step."""
    while canvas.step_index < canvas.n_steps:
        now = layout_at(canvas.step_index)
        predictions = [model(canvas.slice(window), canvas.timestep) for window in now.windows]
        canvas.step(canvas.blend(predictions, now.windows, now.weights))
    return canvas.latents


def denoise_after_steps(name, canvas, layout_at, model):
    """What longtake does not do: a scheduler for each window, and blending of what they stepped to."""
    own = [new_canvas(name, latents=canvas.slice(w), n_steps=canvas.n_steps) for w in layout_at(0).windows]
    for k, private in enumerate(own):
        private.generator.manual_seed(k)
    for step in range(canvas.n_steps):
        now = layout_at(step)
        for private, window in zip(own, now.windows, strict=True):
            private.latents = canvas.slice(window)
            private.step(model(private.latents, private.timestep))
        canvas.latents = canvas.blend([private.latents for private in own], now.windows, now.weights)
    return canvas.latents


def gap(a, b):
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    return (a - b).abs().max().item()


@pytest.mark.parametrize("size", [7, 13, 21, 49])
def test_every_layout_up_to_400_frames_is_a_partition_of_unity(size):
    choices = [(o, d) for o in sorted({0, 2, 5, size // 2}) for d in range(3) if 2 * d <= o < size]
    for n_frames, (overlap, lead_in) in itertools.product(range(size + 1, 401), choices):
        layout = layout_of(size, overlap, lead_in, n_frames)
        starts = [window.start for window in layout.windows]
        assert all(len(window) == size for window in layout.windows)
        assert all(a < b for a, b in itertools.pairwise(starts))
        assert abs(layout.weights.sum(axis=0) - 1).max() <= 1e-12
        assert layout.weights.min() >= 0
        inside = np.zeros(layout.weights.shape, dtype=bool)
        for row, window in zip(inside, layout.windows, strict=True):
            row[window.start : window.stop] = True
        assert not layout.weights[~inside].any()


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("model", [lambda z, t: z, lambda z, t: torch.full_like(z, 0.25)])
def test_a_constant_canvas_stays_constant_in_float32(name, model):
    canvas = new_canvas(name, latents=torch.full((1, F, 2, 3, 4), 0.5))
    latents = denoise(canvas, layout_of(13, 4, 1), model)
    assert gap(latents, latents[:, :1]) <= 1e-6


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pointwise_model_is_rendered_in_windows_as_in_one_pass(name, layout):
    want = denoise(new_canvas(name), GLOBAL, pointwise)
    assert gap(denoise(new_canvas(name), layout_of(*layout), pointwise), want) < 1e-12


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_pointwise_model_does_not_see_that_windows_move(name):
    want = denoise(new_canvas(name), GLOBAL, pointwise)
    assert gap(denoise_by(new_canvas(name), moving, pointwise), want) < 1e-12


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float16, 0), (torch.bfloat16, 0)])
def test_where_windows_agree_half_precision_is_exact_and_float32_rounds(name, dtype, most):
    want = denoise(new_canvas(name, dtype), GLOBAL, pointwise)
    got = denoise(new_canvas(name, dtype), layout_of(13, 4, 1), pointwise)
    assert got.dtype == want.dtype == dtype
    assert gap(got, want) <= most


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("r", "overlap"), [(1, 2), (1, 5), (2, 4), (2, 5), (2, 7), (3, 6), (3, 9)])
def test_a_model_of_reach_r_is_recovered_exactly_with_a_lead_in_of_r_and_not_of_one_less(name, r, overlap):
    model = reaching(r)
    want = denoise(new_canvas(name), GLOBAL, model)
    assert gap(denoise(new_canvas(name), layout_of(21, overlap, r), model), want) < 1e-12
    assert gap(denoise(new_canvas(name), layout_of(21, overlap, r - 1), model), want) > 1e-2


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_static_windows_blend_alike_before_and_after_a_deterministic_step(name, dtype, most):
    static = layout_of(13, 5, 1)
    before = denoise(new_canvas(name, dtype), static, whole_window)
    after = denoise_after_steps(name, new_canvas(name, dtype), lambda step: static, whole_window)
    assert gap(before, after) < most


@pytest.mark.parametrize("name", ["UniPC", "DPM++ 2M"])
def test_moving_windows_need_one_history_of_the_canvas(name):
    before = denoise_by(new_canvas(name), moving, whole_window)
    after = denoise_after_steps(name, new_canvas(name), moving, whole_window)
    assert gap(before, after) > 0.01


@pytest.mark.parametrize("name", ["DDIM", "CogVideoX DDIM", "FlowMatchEuler"])
def test_schedulers_without_history_do_not_mind_that_windows_move(name):
    before = denoise_by(new_canvas(name), moving, whole_window)
    after = denoise_after_steps(name, new_canvas(name), moving, whole_window)
    assert gap(before, after) < 1e-12


def test_a_stochastic_step_must_draw_once_for_the_canvas():
    static = layout_of(13, 5, 1)
    before = denoise(new_canvas("CogVideoX DPM"), static, whole_window)
    after = denoise_after_steps(
        "CogVideoX DPM", new_canvas("CogVideoX DPM"), lambda step: static, whole_window
    )
    assert gap(before, after) > 0.01


def predicting(kind):
    """A DDIM canvas in float64 throughout, and a model of x0 that answers as eps, v or x0."""
    canvas = new_canvas("DDIM")
    canvas.scheduler = scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)

    def model(z, timestep):
        alpha = scheduler.alphas_cumprod[timestep] ** 0.5
        sigma = (1 - alpha**2) ** 0.5
        x0 = whole_window(z, timestep)
        eps = (z - alpha * x0) / sigma
        return {"sample": x0, "epsilon": eps, "v_prediction": alpha * eps - sigma * x0}[kind]

    return canvas, model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blending_eps_v_or_x0_is_the_same_for_a_shared_sigma(layout):
    results = []
    for kind in ("sample", "epsilon", "v_prediction"):
        canvas, model = predicting(kind)
        results.append(denoise(canvas, layout_of(*layout), model))
    assert gap(results[0], results[1]) < 1e-12
    assert gap(results[0], results[2]) < 1e-12


NOISE_FRAMES, FRAME = 24, (2, 3, 4)
WHOLE_NOISE = keyed_noise(9, "s", 3, range(NOISE_FRAMES), FRAME, torch.float32)


@settings(deadline=None, max_examples=100)
@given(st.permutations(range(NOISE_FRAMES)), st.sets(st.integers(1, NOISE_FRAMES - 1)), st.integers(0, 999))
def test_keyed_noise_has_the_same_bits_in_any_order_any_split_and_after_a_retry(order, cuts, other_seed):
    torch.manual_seed(other_seed)  # what else a worker did must not matter
    for frame in order:
        alone = keyed_noise(9, "s", 3, range(frame, frame + 1), FRAME, torch.float32)
        assert torch.equal(alone[:, 0], WHOLE_NOISE[:, frame])
    edges = [0, *sorted(cuts), NOISE_FRAMES]
    pieces = [range(a, b) for a, b in itertools.pairwise(edges)]
    for _attempt in range(2):
        drawn = [keyed_noise(9, "s", 3, piece, FRAME, torch.float32) for piece in pieces]
        assert torch.equal(torch.cat(drawn, dim=1), WHOLE_NOISE)


def test_keyed_noise_has_the_same_bits_in_threads_that_draw_at_once():
    ranges = [range(a, a + 6) for a in range(NOISE_FRAMES - 5)] * 3
    with ThreadPoolExecutor(4) as pool:
        drawn = pool.map(lambda frames: keyed_noise(9, "s", 3, frames, FRAME, torch.float32), ranges)
        for frames, noise in zip(ranges, drawn, strict=True):
            assert torch.equal(noise, WHOLE_NOISE[:, frames.start : frames.stop])


def test_blended_keyed_noise_keeps_its_variance_in_the_overlap_and_private_noise_does_not():
    shape, windows = (16, 64, 64), (Window(0, 13), Window(5, 18))
    weights = blend_weights(windows, 18)
    canvas = Canvas(torch.zeros((1, 18, *shape)), FlowMatchEulerDiscreteScheduler())

    def variance(shots):
        draws = [
            keyed_noise(1, shot, 0, range(w.start, w.stop), shape, torch.float32)
            for shot, w in zip(shots, windows, strict=True)
        ]
        return canvas.blend(draws, windows, weights)[:, 6:12].var().item()

    assert abs(variance(["s", "s"]) - 1) < 0.01
    assert variance(["s", "another"]) < 0.8
