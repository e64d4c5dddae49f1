"""The canvas and the blend loop, without a model."""

import io
import random

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, UniPCMultistepScheduler

from engine.blending import NotFinite
from engine.canvas import Canvas
from engine.denoise import WindowRequest, denoise_shot
from engine.noise import StepNoise
from engine.timeline import Part
from engine.windows import Window, blend_weights, plan_windows

N_FRAMES = 11
WINDOWS = plan_windows(N_FRAMES, 5, 2)
WEIGHTS = blend_weights(WINDOWS, N_FRAMES)
PARTS = [Part(window, 0) for window in WINDOWS]
SCHEDULERS = [CogVideoXDDIMScheduler, CogVideoXDPMScheduler, UniPCMultistepScheduler]


def make_canvas(kind=CogVideoXDDIMScheduler, n_steps=6, latents=None):
    scheduler = kind()
    scheduler.set_timesteps(n_steps)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn((1, N_FRAMES, 4, 3, 5), generator=generator)
    return Canvas(noise if latents is None else latents, scheduler, generator)


def denoiser(request: WindowRequest) -> torch.Tensor:
    """A prediction that depends on all of the window, so that windows disagree where they overlap."""
    return torch.tanh(request.latents + request.latents.mean()) + request.timestep / 1000


def drive(canvas, predict=denoiser, stop_at=None, shuffle=None):
    """Run to the end, or up to the requests of step stop_at; compute in a shuffled order if told."""
    shot = denoise_shot(canvas, PARTS, WEIGHTS)
    requests = next(shot)
    while canvas.step_index != stop_at:
        order = list(range(len(requests)))
        if shuffle is not None:
            shuffle.shuffle(order)
        done = {index: predict(requests[index]) for index in order}
        try:
            requests = shot.send([done[index] for index in range(len(requests))])
        except StopIteration as end:
            return end.value
    return canvas.latents


def test_blend_of_the_slices_is_the_canvas():
    canvas = make_canvas()
    assert len(WINDOWS) > 1
    blended = canvas.blend([canvas.slice(window) for window in WINDOWS], WINDOWS, WEIGHTS)
    torch.testing.assert_close(blended, canvas.latents, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_blend_of_a_constant_is_the_constant_in_its_dtype(dtype):
    canvas = make_canvas()
    parts = [torch.full_like(canvas.slice(window), 0.3, dtype=dtype) for window in WINDOWS]
    blended = canvas.blend(parts, WINDOWS, WEIGHTS)
    assert blended.dtype == dtype
    torch.testing.assert_close(blended, torch.full_like(blended, 0.3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("predict", [lambda r: r.latents, lambda r: torch.full_like(r.latents, 0.25)])
def test_a_constant_canvas_stays_constant(predict):
    latents = drive(make_canvas(latents=torch.full((1, N_FRAMES, 4, 3, 5), 0.5)), predict)
    torch.testing.assert_close(latents, latents[:, :1].expand_as(latents), rtol=1e-5, atol=1e-6)


def test_one_window_is_passed_through():
    canvas = make_canvas()
    prediction = torch.randn_like(canvas.latents)
    only = (Window(0, N_FRAMES),)
    assert canvas.blend([prediction], only, np.full((1, N_FRAMES), 1.0)) is prediction


@pytest.mark.parametrize("seed", range(4))
def test_order_of_computation_changes_no_bit(seed):
    stock = drive(make_canvas())
    assert torch.equal(stock, drive(make_canvas(), shuffle=random.Random(seed)))


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_resume_equals_the_undisturbed_run(kind, step):
    whole = drive(make_canvas(kind))
    first = make_canvas(kind)
    drive(first, stop_at=step)
    file = io.BytesIO()
    torch.save(first.checkpoint(), file)
    file.seek(0)
    resumed = make_canvas(kind, latents=torch.zeros_like(first.latents))
    resumed.restore(torch.load(file, weights_only=True))
    assert resumed.step_index == step
    assert torch.equal(drive(resumed), whole)


@pytest.mark.parametrize("step", [1, 3])
def test_a_canvas_of_keyed_noise_resumes_without_generator_state(step):
    def keyed(noise):
        canvas = make_canvas(CogVideoXDPMScheduler)
        return Canvas(canvas.latents, canvas.scheduler, noise)

    whole, first, resumed = (keyed(StepNoise(5, "s")) for _ in range(3))
    drive(first, stop_at=step)
    state = first.checkpoint()
    assert "generator" not in state
    resumed.restore(state)
    assert torch.equal(drive(resumed), drive(whole))
    assert not torch.equal(drive(keyed(StepNoise(5, "t"))), whole.latents)


def test_deterministic_schedulers_have_the_same_bits_under_either_noise():
    keyed = make_canvas()
    keyed = Canvas(keyed.latents, keyed.scheduler, StepNoise(5, "s"))
    assert torch.equal(drive(keyed), drive(make_canvas()))


def test_a_checkpoint_does_not_change_with_the_canvas():
    canvas = make_canvas(CogVideoXDPMScheduler)
    drive(canvas, stop_at=2)
    state = canvas.checkpoint()
    before = state["latents"].clone()
    drive(canvas)
    assert state["step_index"] == 2
    assert torch.equal(state["latents"], before)


def test_misuse_is_refused():
    canvas = make_canvas()
    parts = [canvas.slice(window) for window in WINDOWS]
    with pytest.raises(ValueError, match="predictions for"):
        canvas.blend(parts[1:], WINDOWS, WEIGHTS)
    with pytest.raises(ValueError, match="a prediction of shape"):
        canvas.blend([part[:, :1] for part in parts], WINDOWS, WEIGHTS)
    with pytest.raises(ValueError, match="weights"):
        canvas.blend(parts, WINDOWS, WEIGHTS[:, 1:])
    with pytest.raises(ValueError, match="does not cover"):
        canvas.blend(parts[:1], WINDOWS[:1], WEIGHTS[:1])
    with pytest.raises(ValueError, match="does not lie"):
        canvas.slice(Window(0, N_FRAMES + 1))
    with pytest.raises(ValueError, match="not"):
        Canvas(torch.zeros(3), canvas.scheduler)
    with pytest.raises(ValueError, match="a checkpoint of"):
        make_canvas(latents=torch.zeros(1, 2, 4, 3, 5)).restore(canvas.checkpoint())
    with pytest.raises(ValueError, match="generator"):
        Canvas(canvas.latents, canvas.scheduler).restore(canvas.checkpoint())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("frame", [0, 4])  # of the second window: its lead-in has no weight, yet tells
def test_a_prediction_that_is_no_number_stops_the_shot_with_its_step_and_window(bad, frame):
    def predict(request):
        prediction = denoiser(request)
        if request.step == 3 and request.part.window == WINDOWS[1]:
            prediction[0, frame, 2, 1, 1] = bad
        return prediction

    canvas, second = make_canvas(), WINDOWS[1]
    with pytest.raises(NotFinite) as error:
        drive(canvas, predict)
    where = f"step 3 of 6: NaN or infinite predictions: 1 of 300 values of latent frames {second.start} to"
    assert where in str(error.value) and str(second.stop - 1) in str(error.value)
    assert canvas.step_index == 3 and canvas.latents.isfinite().all()


def test_a_shot_of_one_window_is_checked_too():
    canvas = make_canvas()
    with pytest.raises(NotFinite, match="step 0 of 6"):
        canvas.blend([canvas.latents * float("nan")], [Window(0, N_FRAMES)], np.ones((1, N_FRAMES)))
