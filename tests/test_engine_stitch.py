"""Claims about a shot on its way through phases: what is handed on and resumed, and what each mode keeps.

The models are exact denoisers of worlds written down here (research/stitching.md, 2.5): no network, no error
but the method's. Tensors are z_BTCHW; B are films.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache import EVERY_STEP
from engine.canvas import Canvas
from engine.levels import noise_share, noised, step_below
from engine.noise import INITIAL, REDRAW, StepNoise, keyed_noise, shuffled_source
from engine.phases import MODES, Stitch, phases_of
from engine.stitch import Stitcher, in_between
from engine.takes import BEGINNING, WHOLE
from engine.tensors import from_bytes, to_bytes
from engine.timeline import PromptSpan, Shot, prompt_weights
from engine.windows import Layout
from jobs.denoising import WindowSpec
from tests.worlds import Identities, Motion

COGVIDEOX = {
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    "clip_sample": False,
}  # fmt: skip
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
SCHEDULERS = {
    "ddim": lambda: CogVideoXDDIMScheduler(**COGVIDEOX),
    "dpm": lambda: CogVideoXDPMScheduler(**COGVIDEOX),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "unipc": lambda: UniPCMultistepScheduler(**FLOW),
}
F, SIZE, OVERLAP, N_STEPS, FIRST_STEP = 17, 7, 2, 4, 2
FRAME = (2, 3, 4)


def scheduler_of(name, n_steps=N_STEPS):
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(n_steps)
    return scheduler


def phases(mode, n_frames=F, size=SIZE, overlap=OVERLAP, n_steps=N_STEPS, first_step=FIRST_STEP):
    shot = Shot("s", 4 * (n_frames - 1) + 1, (PromptSpan("a"),), "", 1)
    stitch = Stitch(mode, first_step=0 if mode == "blend" else first_step)
    return phases_of(Layout(size, overlap, 1), prompt_weights(shot, n_frames), n_steps, stitch)


def stitcher(mode, name="ddim", given=None, n_frames=F, n_steps=N_STEPS, cache=EVERY_STEP):
    """A shot under keyed noise, as production has it."""

    def new_canvas(phase, steps_before):
        drawn = REDRAW if phase.first_step else INITIAL
        latents = keyed_noise(5, "s", drawn, phase.frames, FRAME, torch.float32)
        return Canvas(latents, scheduler_of(name, n_steps), StepNoise(5, "s", phase.frames, steps_before))

    found = [replace(phase, cache=cache) for phase in phases(mode, n_frames, n_steps=n_steps)]
    return Stitcher(found, new_canvas, n_frames, given)


def whole_window(request):
    """Every frame sees all of its window and its place in it, as in a transformer."""
    z = request.latents
    place = torch.linspace(-1, 1, z.shape[1]).view(1, -1, 1, 1, 1)
    return torch.tanh(1.5 * z + z.mean(dim=1, keepdim=True) + 0.5 * place) + request.timestep / 2000


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_shot_killed_before_any_step_of_any_phase_goes_on_with_the_same_bits(mode, name):
    whole = stitcher(mode, name).here(whole_window)
    n_steps = sum(phase.n_steps for phase in phases(mode))
    for step in range(n_steps):
        killed, resumed = stitcher(mode, name), stitcher(mode, name)
        assert killed.here(whole_window, until=step) is None and killed.step == step
        resumed.restore(from_bytes(to_bytes(killed.checkpoint())))
        assert (resumed.step, resumed.index) == (step, killed.index)
        assert torch.equal(resumed.here(whole_window), whole)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(MODES), st.sampled_from(list(SCHEDULERS)), st.lists(st.integers(0, 11), max_size=4))
def test_a_shot_killed_any_number_of_times_has_the_same_bits(mode, name, deaths):
    shot = stitcher(mode, name)
    for step in sorted(deaths):
        if shot.here(whole_window, until=step) is not None:
            return  # that mode has fewer steps
        saved = to_bytes(shot.checkpoint())
        shot = stitcher(mode, name)
        shot.restore(from_bytes(saved))
    assert torch.equal(shot.here(whole_window), stitcher(mode, name).here(whole_window))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_one_window_has_the_same_bits_in_every_mode(name):
    shots = [stitcher(mode, name, n_frames=SIZE).here(whole_window) for mode in MODES]
    assert all(torch.equal(shot, shots[0]) for shot in shots)


def test_modes_of_a_longer_shot_differ():
    blend, skeleton, extend = (stitcher(mode).here(whole_window) for mode in MODES)
    assert not torch.equal(blend, skeleton) and not torch.equal(blend, extend)
    assert torch.equal(blend[:, :1], stitcher("blend").here(whole_window)[:, :1])


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_world_of_one_constant_is_drawn_constant_whatever_noise_covers_it(mode, name):
    def constant(request):
        """The prediction that says x0 = 0.25."""
        level = scheduler_of(name)
        x0 = torch.full_like(request.latents, 0.25)
        a, s = (float(noised(level, *pair, request.step)) for pair in UNIT)
        eps = (request.latents - a * x0) / s
        return a * eps - s * x0 if name in ("ddim", "dpm") else eps - x0

    latents = stitcher(mode, name).here(constant)
    assert latents.shape == (1, F, *FRAME)
    torch.testing.assert_close(latents, torch.full_like(latents, 0.25), rtol=0, atol=2e-5)


UNIT = ((torch.ones(1, 1), torch.zeros(1, 1)), (torch.zeros(1, 1), torch.ones(1, 1)))


@pytest.mark.parametrize("mode", MODES)
def test_given_latents_stand_unchanged_at_the_beginning_in_every_mode(mode):
    given = torch.randn((1, 2, *FRAME), generator=torch.Generator().manual_seed(3))
    latents = stitcher(mode, given={BEGINNING: given}).here(whole_window)
    assert torch.equal(latents[:, :2], given)
    assert not torch.equal(latents, stitcher(mode).here(whole_window))


def test_an_extended_shot_keeps_every_window_as_it_was_handed_over():
    shot, before = stitcher("extend"), []

    def watched(request):
        if shot.phase.held:
            before.append((request.latents[:, :OVERLAP], shot.left[:, -OVERLAP:]))
        return whole_window(request)

    shot.here(watched)
    assert len(before) == 2 * N_STEPS, "two windows go on from another"
    assert all(torch.equal(held, left) for held, left in before)


def test_in_between_is_straight_in_time_and_exact_at_what_is_known():
    z = torch.randn((1, 3, *FRAME), generator=torch.Generator().manual_seed(4))
    drawn = in_between(z, (0, 4, 6), range(7))
    assert torch.equal(drawn[:, [0, 4, 6]], z)
    torch.testing.assert_close(drawn[:, 1], 0.75 * z[:, 0] + 0.25 * z[:, 1])
    torch.testing.assert_close(drawn[:, 5], 0.5 * z[:, 1] + 0.5 * z[:, 2])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_noise_is_added_by_the_formula_of_the_schedule(name):
    generator = torch.Generator().manual_seed(6)
    x0, eps = torch.randn((2, 1, F, *FRAME), generator=generator)
    for step in range(N_STEPS):
        scheduler = scheduler_of(name)
        if name in ("ddim", "dpm"):
            abar = float(scheduler.alphas_cumprod[scheduler.timesteps[step]])
            a, s = abar**0.5, (1 - abar) ** 0.5
        else:
            a, s = 1 - float(scheduler.sigmas[step]), float(scheduler.sigmas[step])
        torch.testing.assert_close(noised(scheduler, x0, eps, step), a * x0 + s * eps)
        assert noise_share(scheduler, step) == pytest.approx(s / (a + s), abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_windows_take_over_at_the_first_step_with_no_more_noise_than_asked(name):
    for share in (0.9, 0.65, 0.4):
        step = step_below(scheduler_of(name, 20), share)
        before, at = (noise_share(scheduler_of(name, 20), k) for k in (step - 1, step))
        assert at <= share < before
    assert step_below(scheduler_of(name, 3), 0.001) == 2, "the last step, where none is so low"
    with pytest.raises(ValueError, match="one step"):
        step_below(scheduler_of(name, 1), 0.65)


def test_a_scheduler_of_exploding_noise_is_measured_on_the_same_scale():
    scheduler = EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction")
    scheduler.set_timesteps(10)
    shares = [noise_share(scheduler, step) for step in range(10)]
    sigmas = [float(sigma) for sigma in scheduler.sigmas[:10]]
    assert shares == pytest.approx([sigma / (1 + sigma) for sigma in sigmas], abs=1e-6)
    assert shares == sorted(shares, reverse=True)


def test_a_scheduler_whose_sigmas_are_shares_of_the_signal_is_measured_on_the_same_scale():
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)  # Mochi's
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, 11)[:-1])
    shares = [noise_share(scheduler, step) for step in range(10)]
    assert shares == pytest.approx(np.linspace(1, 0, 11)[:-1], abs=1e-6)
    x0, eps = torch.randn((2, 1, F, *FRAME), generator=torch.Generator().manual_seed(7))
    x = noised(scheduler, x0, eps, 4)
    for step in range(4, 10):  # it steps along x0 - eps, from the noise at sigma 0 to the signal at 1
        x = scheduler.step(x0 - eps, scheduler.timesteps[step], x, return_dict=False)[0]
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-5)


def test_a_clip_that_is_redrawn_goes_on_with_the_same_bits_from_any_step():
    clip = torch.randn((1, F, *FRAME), generator=torch.Generator().manual_seed(8))

    def shot():
        def new_canvas(phase, steps_before):
            latents = keyed_noise(5, "s", REDRAW, phase.frames, FRAME, torch.float32)
            return Canvas(latents, scheduler_of("ddim"), StepNoise(5, "s", phase.frames, steps_before))

        redrawn = phases_of(Layout(SIZE, OVERLAP, 1), np.ones((1, F)), N_STEPS, Stitch(first_step=FIRST_STEP))
        return Stitcher(redrawn, new_canvas, F, {WHOLE: clip})

    whole = shot().here(whole_window)
    assert not torch.equal(whole, stitcher("blend").here(whole_window))
    for step in range(N_STEPS - FIRST_STEP):
        killed, resumed = shot(), shot()
        assert killed.here(whole_window, until=step) is None
        resumed.restore(from_bytes(to_bytes(killed.checkpoint())))
        assert resumed.step == step
        assert torch.equal(resumed.here(whole_window), whole)


def test_steps_of_different_phases_draw_different_noise():
    first, second = StepNoise(5, "s", (3,)), StepNoise(5, "s", (3,), steps_before=N_STEPS)
    draws = [torch.randn(8, generator=noise.generators(1, 1)[0]) for noise in (first, second)]
    assert not torch.equal(*draws)


# Shuffled noise.


@given(st.integers(0, 2**40), st.integers(2, 21), st.data())
def test_shuffled_noise_is_that_of_the_first_window_again_and_in_a_block_none_comes_twice(seed, size, data):
    stride = data.draw(st.integers(1, size))
    sources = [shuffled_source(seed, "s", frame, size, stride) for frame in range(4 * size)]
    assert sources[:size] == list(range(size))
    assert set(sources) <= set(range(size))
    for start in range(size, 4 * size - stride, stride):
        block = sources[start : start + stride]
        assert sorted(block) == sorted(sources[start - size : start - size + stride]), "the block L before"


def test_shuffled_noise_depends_on_seed_and_shot_and_on_nothing_else():
    def order(seed, shot):
        return [shuffled_source(seed, shot, frame, 21, 16) for frame in range(121)]

    assert order(1, "s") == order(1, "s")
    assert order(1, "s") != order(2, "s") and order(1, "s") != order(1, "t")
    assert [shuffled_source(1, "s", 100, 21, 16)] == order(1, "s")[100:101], "alone as in a row"


# What a mode keeps. 121 latent frames in windows of 21: more than a minute at 8 frames a second.

LONG, WINDOW, LONG_STEPS, FILMS = 121, 21, 30, 192


def films(mode, world, seed=0):
    """FILMS shots of an exact model: z_BTCHW, and the world's share of noise is flow matching's."""
    first_step = step_below(scheduler_of("euler", LONG_STEPS), WindowSpec().sigma)
    generator = torch.Generator().manual_seed(seed)

    def new_canvas(phase, _):
        shape = (FILMS, len(phase.frames), world.channels, 1, 1)
        noise = torch.randn(shape, generator=generator)
        return Canvas(noise, scheduler_of("euler", LONG_STEPS), generator)

    shot = Stitcher(phases(mode, LONG, WINDOW, 5, LONG_STEPS, first_step), new_canvas, LONG)
    return shot.here(lambda r: world.velocity(r.latents, float(r.timestep) / 1000, shot.phase.held))


@pytest.fixture(scope="module")
def long_films():
    torch.set_num_threads(1)  # such small matrices are slower on several
    return {mode: films(mode, Identities()) for mode in MODES}


def test_skeleton_and_extend_keep_who_is_in_the_shot_and_blend_forgets(long_films):
    kept = {mode: Identities().kept(z) for mode, z in long_films.items()}
    print(kept)
    assert kept["skeleton"] >= 0.95 and kept["extend"] >= 0.95
    assert kept["blend"] <= 0.3, "near chance, 1 in 8: blending removes seams, not drift"


def test_all_modes_draw_all_identities_alike(long_films):
    for mode, z in long_films.items():
        counts = np.bincount(Identities().seen(z[:, :13]), minlength=8)
        assert counts.min() >= FILMS / 8 / 3, mode


def test_in_a_gaussian_world_a_draft_keeps_half_of_what_lasts_and_blending_nothing():
    world = Motion()
    lasting = {mode: world.correlation(films(mode, world), lag=30) for mode in MODES}
    print(lasting)
    assert lasting["skeleton"] > 0.3 > 0.15 > lasting["blend"]
    assert lasting["extend"] > 0.15
