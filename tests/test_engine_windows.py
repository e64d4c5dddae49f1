"""Claims about window layouts and blend weights (every shape, no torch)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.windows import Window, blend_weights, plan_windows


@st.composite
def layouts(draw):
    size = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, size // 2))
    lead_in = draw(st.integers(0, overlap // 2))
    return draw(st.integers(1, 400)), size, overlap, lead_in


@settings(max_examples=600)
@given(layouts())
def test_windows_have_one_length_cover_every_frame_and_share_the_overlap(layout):
    n_frames, size, overlap, _ = layout
    windows = plan_windows(n_frames, size, overlap)
    assert {len(w) for w in windows} == {min(n_frames, size)}
    assert windows[0].start == 0 and windows[-1].stop == n_frames
    shared = [a.stop - b.start for a, b in itertools.pairwise(windows)]
    assert all(s >= overlap for s in shared)
    assert max(shared, default=0) - min(shared, default=0) <= 1
    assert all(a.start < b.start for a, b in itertools.pairwise(windows))


@settings(max_examples=300)
@given(layouts(), st.integers(2, 15), st.integers(0, 30))
def test_windows_of_a_unit_begin_at_its_multiples_and_share_the_overlap(layout, unit, more):
    _, size, overlap, _ = layout
    size += unit
    windows = plan_windows(size + unit * more, size, overlap, unit)
    assert {len(w) for w in windows} == {size} and windows[-1].stop == size + unit * more
    assert not any(w.start % unit for w in windows)
    shared = [a.stop - b.start for a, b in itertools.pairwise(windows)]
    assert all(overlap <= s < size for s in shared)
    assert max(shared, default=0) - min(shared, default=0) <= unit


@pytest.mark.parametrize("n_frames, overlap", [(38, 7), (52, 8)])
def test_windows_of_a_unit_that_cannot_cover_a_shot_are_refused(n_frames, overlap):
    with pytest.raises(ValueError, match=r"multiples of 15 do not cover n_frames=.*size \+ 15 k"):
        plan_windows(n_frames, 22, overlap, 15)


@settings(max_examples=600)
@given(layouts())
def test_weights_are_a_partition_of_unity_inside_their_windows(layout):
    n_frames, size, overlap, lead_in = layout
    windows = plan_windows(n_frames, size, overlap)
    weights = blend_weights(windows, n_frames, lead_in)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-12)
    assert weights.min() >= -1e-15
    for window, row in zip(windows, weights, strict=True):
        assert not row[: window.start].any() and not row[window.stop :].any()


@settings(max_examples=300)
@given(layouts())
def test_lead_in_frames_at_interior_edges_have_no_weight(layout):
    n_frames, size, overlap, lead_in = layout
    windows = plan_windows(n_frames, size, overlap)
    weights = blend_weights(windows, n_frames, lead_in)
    for k, window in enumerate(windows[1:], start=1):
        np.testing.assert_allclose(weights[k, window.start : window.start + lead_in], 0.0, atol=1e-15)
        stop = windows[k - 1].stop
        np.testing.assert_allclose(weights[k - 1, stop - lead_in : stop], 0.0, atol=1e-15)


def test_a_pointwise_denoiser_gives_the_same_field_windowed_as_whole():
    x = np.linspace(-3, 3, 121)
    windows = plan_windows(121, 13, 4)
    weights = blend_weights(windows, 121)
    blended = np.zeros(121)
    for window, row in zip(windows, weights, strict=True):
        part = slice(window.start, window.stop)
        blended[part] += row[part] * np.tanh(x[part])
    np.testing.assert_allclose(blended, np.tanh(x), atol=1e-15)


@pytest.mark.parametrize("overlap", [4, 5, 7])
def test_a_denoiser_of_reach_2_is_recovered_exactly_with_lead_in_2_and_not_with_1(overlap):
    def denoise(x):
        return np.tanh(sum(np.roll(np.pad(x, 2, mode="edge"), s) for s in (-2, -1, 0, 1, 2))[2:-2])

    x = np.random.default_rng(0).normal(size=121)
    windows = plan_windows(121, 21, overlap)
    errors = {}
    for lead_in in (1, 2):
        z = np.zeros(121)
        for window, row in zip(windows, blend_weights(windows, 121, lead_in), strict=True):
            part = slice(window.start, window.stop)
            z[part] += row[part] * denoise(x[part])
        errors[lead_in] = np.abs(z - denoise(x)).max()
    assert errors[2] < 1e-14
    assert errors[1] > 1e-3


@pytest.mark.parametrize(("n", "size", "overlap"), [(0, 13, 4), (-1, 13, 4), (50, 13, 13), (50, 13, -1)])
def test_impossible_layouts_are_refused_with_their_numbers(n, size, overlap):
    with pytest.raises(ValueError, match=str(n if n < 1 else overlap)):
        plan_windows(n, size, overlap)


def test_too_little_overlap_for_the_lead_in_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        blend_weights((Window(0, 10), Window(9, 19)), 19, lead_in=1)
