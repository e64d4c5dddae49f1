"""Claims about shots, prompts over time, and the parts that a step asks for."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from engine.canvas import Canvas
from engine.denoise import requests_of_step
from engine.timeline import PromptSpan, Shot, first_pixel, latent_frames, parts_of, prompt_weights
from engine.windows import blend_weights, plan_windows


def make_shot(n_frames, *changes):
    """A shot whose prompts change at (start, blend)."""
    spans = [PromptSpan(f"prompt {k + 1}", start, blend) for k, (start, blend) in enumerate(changes)]
    return Shot("s1", n_frames, (PromptSpan("prompt 0"), *spans), "", 0)


@st.composite
def shots(draw, least_prompts=1):
    """Shots of up to five prompts, with blends of any width that fits between their neighbours."""
    n_frames = draw(st.integers(1, 400))
    n_changes = draw(st.integers(least_prompts - 1, 4))
    edges = sorted(draw(st.lists(st.integers(0, n_frames), min_size=2 * n_changes, max_size=2 * n_changes)))
    changes = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        start = (a + b) // 2
        changes.append((start, draw(st.integers(0, 2 * min(start - a, b - start)))))
    return make_shot(n_frames, *changes)


@st.composite
def window_layouts(draw, n_frames):
    size = draw(st.integers(3, 15))
    overlap = draw(st.integers(2, max(2, size // 2)))
    windows = plan_windows(n_frames, size, overlap)
    return windows, blend_weights(windows, n_frames)


@given(shots(), st.sampled_from([1, 4, 8]))
def test_prompt_weights_are_a_partition_of_unity(shot, c):
    weights = prompt_weights(shot, latent_frames(shot.n_frames, c), c)
    assert weights.shape == (len(shot.prompts), latent_frames(shot.n_frames, c))
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=0, atol=1e-12)
    assert weights.min() >= 0 and weights.max() <= 1


@given(shots(), st.sampled_from([1, 4, 8]))
def test_time_only_ever_hands_weight_on_to_later_prompts(shot, c):
    weights = prompt_weights(shot, latent_frames(shot.n_frames, c), c)
    still_to_come = weights[::-1].cumsum(axis=0)
    assert np.diff(still_to_come, axis=1).min(initial=0.0) >= -1e-12


@given(st.integers(1, 300), st.data())
def test_a_change_without_blend_gives_weights_of_zero_and_one(n_frames, data):
    start = data.draw(st.integers(0, n_frames))
    weights = prompt_weights(make_shot(n_frames, (start, 0)), latent_frames(n_frames))
    times = np.array([0.0, *(4 * i - 1.5 for i in range(1, latent_frames(n_frames)))])
    np.testing.assert_array_equal(weights, [times < start, times >= start])


def test_a_blend_is_even_in_time_around_its_start():
    # with c = 1 latent frame i stands at pixel frame i; frames 16 and 24 are the ends of the blend
    weights = prompt_weights(make_shot(41, (20, 8)), 41, c=1)
    assert weights[1, :17].max() == 0 and weights[1, 24:].min() == 1
    assert weights[1, 20] == pytest.approx(0.5)
    np.testing.assert_allclose(weights[1, 16:25], weights[0, 16:25][::-1], atol=1e-15)
    assert weights[1, 18] == pytest.approx(np.sin(np.pi / 8) ** 2)


@given(st.integers(1, 5000))
def test_latent_frames_of_a_single_pixel_frame_are_as_many_as_those(n_frames):
    assert latent_frames(n_frames, 1) == n_frames


@given(st.integers(1, 5000), st.sampled_from([2, 4, 8]))
def test_latent_frames_is_odd_and_the_least_that_decodes_to_enough(n_frames, c):
    n_latent = latent_frames(n_frames, c)
    assert n_latent % 2 == 1
    assert c * (n_latent - 1) + 1 >= n_frames
    assert n_latent == 1 or c * (n_latent - 3) + 1 < n_frames


@given(st.integers(1, 5000))
def test_with_a_period_latent_frames_are_whole_periods_and_two_and_the_least_that_decodes_to_enough(n_frames):
    n_latent = latent_frames(n_frames, 4, period=5)
    assert n_latent % 5 == 2 and first_pixel(n_latent, 4, 5) == (n_latent // 5) * 17 + 5 >= n_frames
    assert n_latent == 7 or first_pixel(n_latent - 5, 4, 5) < n_frames


def test_with_a_period_prompts_hold_where_their_pixel_frames_are():
    frames = [first_pixel(latent, 4, 5) for latent in range(8)]
    assert frames == [0, 1, 5, 9, 13, 17, 18, 22]
    weights = prompt_weights(make_shot(22, (17, 0)), 7, 4, 5)
    np.testing.assert_array_equal(weights[1], [0, 0, 0, 0, 0, 1, 1])


@given(shots(), st.data())
def test_parts_keep_their_columns_summing_to_one_and_lie_in_their_windows(shot, data):
    n_latent = latent_frames(shot.n_frames)
    windows, weights = data.draw(window_layouts(n_latent))
    parts, rows = parts_of(windows, weights, prompt_weights(shot, n_latent))
    assert rows.shape == (len(parts), n_latent) and len(set(parts)) == len(parts)
    np.testing.assert_allclose(rows.sum(axis=0), 1.0, rtol=0, atol=1e-12)
    for part, row in zip(parts, rows, strict=True):
        assert row.any()
        assert not row[: part.window.start].any() and not row[part.window.stop :].any()


@given(st.integers(1, 200), st.data())
def test_one_prompt_gives_the_windows_and_their_weights_back_bit_for_bit(n_latent, data):
    windows, weights = data.draw(window_layouts(n_latent))
    parts, rows = parts_of(windows, weights, prompt_weights(make_shot(4 * n_latent), n_latent))
    assert tuple(part.window for part in parts) == windows
    assert all(part.prompt == 0 for part in parts)
    assert rows.tobytes() == weights.tobytes()


def test_a_window_asks_only_for_the_prompts_that_it_shows():
    windows = plan_windows(31, 13, 4)
    shot = make_shot(121, (60, 16))
    parts, _ = parts_of(windows, blend_weights(windows, 31), prompt_weights(shot, 31))
    assert [(part.window.start, part.prompt) for part in parts] == [(0, 0), (9, 0), (9, 1), (18, 1)]


def predict(latents, prompt):
    """A model that depends on all of its window and on the prompt."""
    return torch.tanh((prompt + 1) * latents + latents.mean(dim=1, keepdim=True))


@given(shots(least_prompts=2), st.data())
def test_blended_parts_are_the_mix_of_the_prompts_predictions_frame_by_frame(shot, data):
    n_latent = latent_frames(shot.n_frames)
    windows, weights = data.draw(window_layouts(n_latent))
    share = prompt_weights(shot, n_latent)
    noise = torch.randn((1, n_latent, 2, 2, 2), generator=torch.Generator().manual_seed(0)).double()
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2)
    canvas = Canvas(noise, scheduler)
    parts, rows = parts_of(windows, weights, share)
    predictions = [predict(r.latents, r.part.prompt) for r in requests_of_step(canvas, parts)]
    blended = canvas.blend(predictions, [part.window for part in parts], rows)
    want = np.zeros(noise.shape)
    for window, row in zip(windows, weights, strict=True):
        for frame in range(window.start, window.stop):
            for s in range(len(shot.prompts)):
                whole = predict(noise[:, window.start : window.stop], s)
                want[:, frame] += row[frame] * share[s, frame] * whole[:, frame - window.start].numpy()
    np.testing.assert_allclose(blended.numpy(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("n_frames", "changes", "said"),
    [
        (100, [(40, 20), (55, 12)], r"40±10, 55±6 .*100 frames"),  # blends overlap
        (100, [(60, 0), (40, 0)], r"60±0, 40±0 .*100 frames"),  # not in order
        (100, [(95, 12)], r"95±6 .*100 frames"),  # still blending when the shot ends
        (100, [(101, 0)], r"101±0 .*100 frames"),  # after the end
        (100, [(3, 8)], r"3±4 .*100 frames"),  # blending before the shot begins
        (100, [(50, -2)], r"50±-1 .*100 frames"),
        (0, [], r"n_frames=0 frames"),
    ],
)
def test_changes_that_overlap_or_leave_the_shot_are_refused_with_their_numbers(n_frames, changes, said):
    with pytest.raises(ValueError, match=f"shot s1: .*{said}"):
        make_shot(n_frames, *changes)


@pytest.mark.parametrize("prompts", [(), (PromptSpan("late", start=1),)])
def test_frames_without_a_prompt_are_refused(prompts):
    with pytest.raises(ValueError, match="shot s1: the first prompt must start at frame 0"):
        Shot("s1", 10, prompts, "", 0)
