"""Guidance that changes from step to step, and its rescaling: stock's own where stock has it."""

import math

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from diffusers.pipelines.ltx.pipeline_ltx import rescale_noise_cfg
from hypothesis import given
from hypothesis import strategies as st

from engine.denoise import denoise_here, denoise_shot
from engine.families.loading import LEFT_OUT
from engine.guidance import SCHEDULES, Guidance, rescaled
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from tests.test_engine_parity_cogvideox import (
    FRAMES,
    LATENT_FRAMES,
    SEED,
    SIZE,
    STEPS,
    make_embeds,
    make_pipeline,
    make_scheduler,
    open_canvas,
    save,
    stock_pipeline,
)


def denoise(canvas, family, guidance, rescale=0.0):
    """A shot under guidance that changes, as a conductor asks for its windows."""
    windows = plan_windows(canvas.n_frames, LATENT_FRAMES, 2)
    loop = denoise_shot(
        canvas, [Part(window, 0) for window in windows], blend_weights(windows, canvas.n_frames), rescale
    )
    prompt, negative = make_embeds()
    requests = next(loop)
    while True:
        answers = [
            family.predict(
                r.latents, r.timestep, prompt, negative, guidance.at(r.step, STEPS, float(r.timestep)),
                prompted=rescale > 0,
            )
            for r in requests
        ]  # fmt: skip
        try:
            requests = loop.send(answers)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("kind", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
@pytest.mark.parametrize("scale", [6.0, 1.5])
def test_a_cosine_schedule_has_the_bits_of_stocks_dynamic_guidance(tmp_path, kind, scale):
    family = save(tmp_path, make_pipeline(make_scheduler(kind)))
    prompt, negative = (text["tokens"] for text in make_embeds())
    stock = stock_pipeline(tmp_path, torch.float32, **dict.fromkeys(LEFT_OUT["transformer"]))(
        prompt_embeds=prompt, negative_prompt_embeds=negative, height=SIZE, width=SIZE, num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, use_dynamic_cfg=True, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip
    canvas = open_canvas(tmp_path, torch.float32)
    assert torch.equal(denoise(canvas, family, Guidance(scale, "cosine")), stock)
    assert not torch.equal(denoise(open_canvas(tmp_path, torch.float32), family, Guidance(scale)), stock)


def test_a_cosine_scale_of_one_still_combines_both_branches_as_stock_does():
    scale = Guidance(6.0, "cosine").at(0, 4, 4.0)  # cos(0): stock's scale is exactly 1
    assert scale > 1.0
    uncond, text = torch.randn(2, 1000)
    assert torch.equal(uncond + scale * (text - uncond), uncond + 1.0 * (text - uncond))


@given(st.floats(1.1, 20), st.integers(1, 100))
def test_a_linear_schedule_rises_and_has_the_scale_as_its_mean(scale, n_steps):
    scales = [Guidance(scale, "linear").at(step, n_steps, 0.0) for step in range(n_steps)]
    assert scales == sorted(scales) and scales[0] > 1
    assert math.isclose(sum(scales) / n_steps, scale)


@given(st.sampled_from(SCHEDULES), st.floats(0, 0.4), st.floats(0.5, 1.0), st.integers(1, 60))
def test_steps_outside_the_interval_have_no_guidance_and_those_inside_are_as_ever(schedule, start, stop, n):
    bounded, whole = Guidance(5.0, schedule, start, stop), Guidance(5.0, schedule)
    for step in range(n):
        inside = start <= step / n < stop
        assert bounded.at(step, n, 7.0) == (whole.at(step, n, 7.0) if inside else 1.0)


def test_a_scale_that_is_no_guidance_stays_none_under_any_schedule():
    assert all(Guidance(scale, kind).at(1, 4, 500.0) == scale for scale in (0.5, 1.0) for kind in SCHEDULES)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rescaling_has_the_bits_of_the_function_that_stock_pipelines_call(share):
    guided, prompted = torch.randn(2, 2, 3, 4, 8, 8)
    assert torch.equal(rescaled(guided, prompted, share), rescale_noise_cfg(guided, prompted, share))


def test_a_rescaled_shot_of_one_window_has_the_bits_of_stocks_arithmetic_at_every_step(tmp_path):
    family = save(tmp_path, make_pipeline(make_scheduler(CogVideoXDDIMScheduler)))
    prompt, negative = make_embeds()

    def predict(request):
        text = torch.cat([negative["tokens"], prompt["tokens"]])
        both = family.forward(torch.cat([request.latents] * 2), request.timestep, {"tokens": text})
        uncond, text = both.chunk(2)
        return rescale_noise_cfg(uncond + 6.0 * (text - uncond), text, 0.7)

    canvas = open_canvas(tmp_path, torch.float32)
    windows = plan_windows(canvas.n_frames, LATENT_FRAMES, 2)
    want = denoise_here(canvas, [Part(windows[0], 0)], blend_weights(windows, canvas.n_frames), predict)
    got = denoise(open_canvas(tmp_path, torch.float32), family, Guidance(6.0), rescale=0.7)
    assert torch.equal(got, want)


def test_a_canvas_of_windows_is_rescaled_as_one():
    """With windows that agree where they overlap, the canvas is what one long window would have given."""

    class Linear:
        """A scheduler that is never asked to step."""

        timesteps = (1,)

    from engine.canvas import Canvas
    from engine.denoise import blended

    guided, prompted = 3 * torch.randn(1, 7, 4, 8, 8), torch.randn(1, 7, 4, 8, 8)
    canvas = Canvas(torch.zeros_like(guided), Linear())
    windows = plan_windows(7, 4, 2)
    answers = [torch.cat([x[:, w.start : w.stop] for x in (guided, prompted)]) for w in windows]
    got = blended(canvas, answers, [Part(w, 0) for w in windows], blend_weights(windows, 7), 0.7)
    assert torch.allclose(got, rescaled(guided, prompted, 0.7), atol=1e-5)
    assert abs(float(got.std()) - (0.7 * float(prompted.std()) + 0.3 * float(guided.std()))) < 1e-4


def test_an_unguided_step_is_left_as_it_is(tmp_path):
    family = save(tmp_path, make_pipeline(make_scheduler(CogVideoXDDIMScheduler)))
    off, rescaling = (
        denoise(open_canvas(tmp_path, torch.float32, 7, "keyed"), family, Guidance(1.0), rescale)
        for rescale in (0.0, 0.7)
    )
    assert torch.equal(off, rescaling)
