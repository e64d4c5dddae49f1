"""A voice is as loud and as long in a file as it would be in memory, and nothing but its loudness changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.film.track import LOUDNESS_LUFS, PEAK, Track, audio_frames, level, loudness_lufs, place

RATE = 16_000


def bursts(length_s, seed=0):
    """Noise in bursts with rare high peaks, as speech has them, between silences."""
    noise = np.random.default_rng(seed)
    samples = 0.02 * noise.standard_normal(length_s * RATE)
    samples[noise.integers(0, len(samples), 40 * length_s)] *= 12
    samples[(np.arange(len(samples)) // (RATE // 2)) % 3 == 2] = 0
    return samples.astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    """Puts samples on file."""

    def store(samples):
        (tmp_path / "stored.f32").write_bytes(samples.tobytes())
        return Track(tmp_path / "stored.f32")

    return store


@given(start=st.integers(-30, 30), stop=st.integers(-30, 30) | st.none())
def test_a_slice_of_a_track_is_that_of_the_array(start, stop, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "slices.f32"
    samples = np.arange(20, dtype=np.float32)
    path.write_bytes(samples.tobytes())
    assert len(Track(path)) == 20
    assert np.array_equal(Track(path)[start:stop], samples[start:stop])


def test_what_is_placed_sounds_there_and_all_before_it_is_silent(tmp_path):
    track = Track(tmp_path / "t.f32")
    with track.path.open("wb") as file:
        place(np.ones(3, np.float32), 5, file)
        place(np.full(2, 2, np.float32), 10, file)
    assert track[:].tolist() == [0] * 5 + [1] * 3 + [0] * 2 + [2] * 2


@given(count=st.integers(1, 50), spare=st.integers(0, 30), rate=st.integers(1, 20))
def test_frames_are_the_samples_and_then_silence_without_a_gap(count, spare, rate):
    samples = np.arange(1, count + 1, dtype=np.float32)
    frames = list(audio_frames(samples, rate, count + spare))
    assert [frame.pts for frame in frames] == list(range(0, count + spare, rate))
    joined = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert joined.tolist() == [*samples.tolist(), *[0.0] * spare]


def test_levelling_reaches_the_loudness_below_the_peak(stored, tmp_path):
    track = stored(bursts(7))
    loud = level(track, RATE, tmp_path / "loud.f32")
    assert abs(loudness_lufs(track, RATE) - LOUDNESS_LUFS) > 5
    assert abs(loudness_lufs(loud, RATE) - LOUDNESS_LUFS) < 1
    assert len(loud) == len(track) and abs(loud[:]).max() <= PEAK + 1e-6
    assert abs(loud[:]).max() > 0.99 * PEAK  # the limiter had to work


def test_a_second_at_a_time_sounds_like_all_at_once(tmp_path, monkeypatch):
    samples = bursts(5, seed=1)[:-777]
    pieces = level(samples, RATE, tmp_path / "pieces.f32")[:]

    def whole(samples, rate, total):
        (frame,) = audio_frames(samples, total, total)
        frame.sample_rate = rate
        return [frame]

    monkeypatch.setattr("engine.film.track.audio_frames", whole)
    assert np.array_equal(level(samples, RATE, tmp_path / "whole.f32")[:], pieces)


def test_levelling_moves_nothing_in_time(tmp_path):
    quiet = np.zeros(48_000, np.float32)
    quiet[20_000:40_000] = 0.02 * np.sin(np.arange(20_000) * 0.1)
    loud = level(quiet, RATE, tmp_path / "loud.f32")[:]
    assert loud.shape == quiet.shape
    heard = np.flatnonzero(abs(loud) > 0.1 * abs(loud).max())
    assert abs(heard[0] - 20_000) < 10 and abs(heard[-1] - 40_000) < 40


@pytest.mark.parametrize("samples", [np.zeros(48_000, np.float32), np.full(100, 0.1, np.float32)])
def test_silence_and_clips_too_short_to_measure_stay_as_they_are(samples, tmp_path):
    assert np.array_equal(level(samples, RATE, tmp_path / "loud.f32")[:], samples)
    assert list(tmp_path.iterdir()) == []
