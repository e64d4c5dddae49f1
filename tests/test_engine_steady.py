"""Claims about holding a shot's colours to its beginning: what is taken back, what is not, and how far.

Cells are c_NPC: n samples, P cells, L*a*b*. Clips are the teacher's, whose colours are steady, and are made
to drift by a known line.
"""

import gc
import weakref

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chalk.scenes import Figure, Landscape
from engine.chalk.teacher import FPS
from engine.quality.steady import (
    MAX_GAIN,
    MAX_SHIFT_DE,
    SLOW,
    Held,
    Swatches,
    alike,
    cells_of,
    held,
    recoloured,
    smoothed,
)
from tests.drifts import drawn, drift_of, drifting

cv2.setNumThreads(1)
WINDOW_S, LIMIT = 49 / FPS, 3.0
STEADY = (Landscape("mountains", "shining"), Landscape("river", "moon"), Figure("pendulum", "red", "swing"))
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(4, 60)


def seen(pictures):
    swatches = Swatches(len(pictures), FPS)
    for _ in swatches.passing(pictures):
        pass
    return swatches


def swatches_of(c_NPC):
    """Swatches that saw these cells, one a second."""
    return Swatches(8 * len(c_NPC), 8.0, [8 * k for k in range(len(c_NPC))], list(c_NPC))


def cells(seed, spread=20.0):
    """A picture's cells (P, 3), and a random number generator."""
    rng = np.random.default_rng(seed)
    return rng.normal((60, 0, 0), spread, (96, 3)), rng


def mean_of(correction, c_NPC):
    """The mean colour (n, 3) of cells after a correction."""
    return (correction.gain[:, None] * c_NPC + correction.bias[:, None]).mean(axis=1)


# The arithmetic.


@settings(deadline=None)
@given(lengths, st.floats(2, 60), st.floats(-50, 50), st.floats(-5, 5))
def test_smoothing_leaves_straight_lines_as_they_are(n, period, start, slope):
    line = start + slope * np.arange(n)
    assert np.allclose(smoothed(line, period), line, atol=1e-5)


@settings(deadline=None)
@given(st.integers(4, 16), st.floats(0, 6.3))
def test_smoothing_halves_a_wave_of_its_period_and_lets_go_one_of_half_of_it(period, phase):
    inside, t = slice(60, -60), np.arange(240)

    def left(wave_period):
        wave = np.cos(2 * np.pi * t / wave_period + phase)
        return np.linalg.norm(smoothed(wave, period)[inside]) / np.linalg.norm(wave[inside])

    assert left(period) == pytest.approx(0.5, abs=0.02)
    assert left(period / 2) < 0.21


@settings(deadline=None)
@given(seeds, lengths, st.floats(0, 30))
def test_an_even_drift_of_all_cells_is_taken_back_whole(seed, n, de_per_min):
    base, rng = cells(seed)
    direction = rng.normal(size=3)
    line = np.arange(n)[:, None] / 60 * min(de_per_min, 540 / n) * direction / np.linalg.norm(direction)
    c_NPC = base + line[:, None]
    correction = held(swatches_of(c_NPC), WINDOW_S)
    assert np.allclose(correction.gain, 1, atol=1e-6)
    first = c_NPC[: int(WINDOW_S) + 1].mean(axis=(0, 1))
    assert np.allclose(mean_of(correction, c_NPC), first, atol=1e-4)


@settings(deadline=None)
@given(seeds, lengths, st.floats(0.92, 1.08))
def test_a_slow_loss_or_gain_of_contrast_is_taken_back(seed, n, last):
    base, _ = cells(seed)
    factor = np.linspace(1, last, n)[:, None, None]
    c_NPC = (base - 50) * factor + 50
    correction = held(swatches_of(c_NPC), WINDOW_S)
    back = correction.gain[:, None] * c_NPC + correction.bias[:, None]
    first = (base - 50) * factor[: int(WINDOW_S) + 1].mean() + 50
    assert np.allclose(back, first, atol=0.01)


@settings(deadline=None)
@given(seeds, lengths, st.floats(0, 100), st.floats(1, 30))
def test_whatever_happens_gains_and_shifts_stay_within_their_bounds(seed, n, wild, window_s):
    base, rng = cells(seed)
    c_NPC = base + rng.normal(0, wild, (n, 96, 3)).cumsum(axis=0)
    correction = held(swatches_of(c_NPC), window_s)
    assert np.all(np.abs(correction.gain - 1) <= MAX_GAIN + 1e-12)
    # A bias moves colours by the shift and, where it is not that of the mean, by what the gain leaves.
    s_NPC = smoothed(c_NPC, max(SLOW * window_s, 2.0))
    first = s_NPC[: max(1, int(np.ceil(window_s)))].mean(axis=0)
    mean = s_NPC[:, alike(s_NPC - first)].mean(axis=1)
    shift = correction.gain * mean + correction.bias - mean
    assert np.all(np.linalg.norm(shift, axis=1) <= MAX_SHIFT_DE + 1e-6)


@settings(deadline=None)
@given(seeds, lengths, st.floats(0, 0.45), st.floats(-60, 60))
def test_what_changes_in_less_than_half_of_the_picture_moves_nothing(seed, n, share, by):
    base, rng = cells(seed)
    c_NPC = np.repeat(base[None], n, axis=0)
    changing = rng.permutation(96)[: int(share * 96)]
    c_NPC[n // 2 :, changing] += by
    correction = held(swatches_of(c_NPC), WINDOW_S)
    assert np.allclose(correction.gain, 1, atol=1e-6) and np.allclose(correction.bias, 0, atol=1e-4)


@settings(deadline=None)
@given(seeds, st.floats(1, 10), st.floats(0, 6.3), st.integers(20, 60))
def test_what_comes_round_within_a_window_moves_little(seed, by, phase, n):
    base, _ = cells(seed)
    wave = by * np.cos(2 * np.pi * np.arange(n) / WINDOW_S + phase)
    c_NPC = base + wave[:, None, None]
    moved = (mean_of(held(swatches_of(c_NPC), WINDOW_S), c_NPC) - c_NPC.mean(axis=1)) / by
    assert np.abs(moved).max() < 0.6  # at an end, where a crest may be the beginning of a drift
    assert np.abs(moved[6:-6]).max() < 0.3


def test_a_picture_without_contrast_in_a_channel_is_given_none():
    c_NPC = np.full((10, 96, 3), (50.0, 0.0, 0.0)) + np.linspace(0, 3, 10)[:, None, None]
    assert np.all(held(swatches_of(c_NPC), WINDOW_S).gain == 1)


# Pictures.


def test_cells_have_the_mean_colour_of_their_picture():
    for height, width in ((64, 96), (64, 64), (112, 64), (480, 854)):
        noise = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        picture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        assert np.allclose(cells_of(picture).mean(axis=0), lab.mean(axis=(0, 1)), atol=0.2)


def test_no_correction_leaves_a_picture_of_all_kinds_of_colours_within_a_level():
    picture = np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    same = recoloured(picture, np.ones(3), np.zeros(3))
    assert np.abs(same.astype(int) - picture).max() <= 1


def test_between_samples_a_correction_follows_straight_lines():
    gain = np.ones((2, 3))
    curve = Held(np.array([0.0, 8.0]), gain, np.array([[0.0, 0.0, 0.0], [8.0, 0.0, 0.0]]))
    grey = np.full((16, 16, 3), 100, np.uint8)
    levels = [cells_of(picture)[:, 0].mean() for picture in curve.over([grey] * 10)]
    assert np.allclose(np.diff(levels[:9]), 1, atol=0.3) and levels[9] == levels[8]


def test_pictures_pass_unchanged_one_by_one_and_none_is_kept():
    born = []

    def pictures():
        for t in range(80):
            picture = np.full((64, 96, 3), t, np.uint8)
            born.append(weakref.ref(picture))
            yield picture

    swatches, most = Swatches(80, 8.0), 0
    correction = Held(np.array([0.0]), np.ones((1, 3)), np.zeros((1, 3)))
    for t, picture in enumerate(swatches.passing(correction.over(pictures()))):
        assert abs(int(picture[0, 0, 0]) - t) <= 1
        del picture
        gc.collect(0)
        most = max(most, sum(ref() is not None for ref in born))
    assert most <= 3 and swatches.indices == list(range(0, 80, 8))


@pytest.mark.parametrize("scene", STEADY)
def test_an_injected_drift_comes_back_under_the_limit_and_near_the_clip_that_it_was(scene):
    clip = drawn(scene)
    bent = drifting(clip, 12.0)
    before = drift_of(bent)
    assert before > 3 * LIMIT and drift_of(clip) < LIMIT
    swatches = seen(bent)
    assert swatches.de_per_min == pytest.approx(before, abs=0.05)
    back = np.stack(list(held(swatches, WINDOW_S).over(bent)))
    assert drift_of(back) < LIMIT
    off = np.abs(back.astype(int) - clip).mean(axis=(1, 2, 3))
    assert off.max() < 4 and off.mean() < np.abs(bent.astype(int) - clip).mean() / 2


def test_no_frame_is_moved_much_further_than_the_one_before():
    bent = drifting(drawn(STEADY[0]), 18.0)
    bias = held(seen(bent), WINDOW_S).bias
    assert np.abs(np.diff(bias, axis=0)).max() < 0.7  # a second
