"""Joined segments: the same pictures bit for bit, evenly spaced, and no mixing of unlike segments."""

from fractions import Fraction

import av
import numpy as np
import pytest

from engine.film.encode import encode_segment
from engine.film.join import count_frames, join_segments

FPS = Fraction(24)


def pictures(count, seed, width=64, height=48):
    """Noise that drifts, so that B-frames and motion are used."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return [np.roll(noise, index, axis=1) for index in range(count)]


def segments(folder, counts, fps=FPS):
    paths = [folder / f"{index}.mp4" for index in range(len(counts))]
    for seed, (path, count) in enumerate(zip(paths, counts, strict=True)):
        encode_segment(pictures(count, seed), path, fps)
    return paths


def decoded(path):
    with av.open(path) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray()) for frame in container.decode(video=0)]


@pytest.mark.parametrize("fps", [FPS, Fraction(24000, 1001)])
@pytest.mark.parametrize("counts", [[48, 48, 48], [50, 1, 2, 97, 3], [7]])
def test_joined_pictures_are_the_segments_bit_for_bit_and_evenly_spaced(tmp_path, fps, counts):
    paths = segments(tmp_path, counts, fps)
    out = tmp_path / "film.mp4"
    assert join_segments(paths, out) == sum(counts) == count_frames(out)
    film = decoded(out)
    expected = [picture for path in paths for _, picture in decoded(path)]
    assert [time for time, _ in film] == [index / fps for index in range(sum(counts))]
    assert all(np.array_equal(a, b) for (_, a), b in zip(film, expected, strict=True))


def test_the_film_keeps_rate_colours_and_b_frames_and_starts_fast(tmp_path):
    fps = Fraction(24000, 1001)
    join_segments(segments(tmp_path, [48, 20], fps), tmp_path / "film.mp4")
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(tmp_path / "film.mp4") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert stream.average_rate == fps and context.has_b_frames
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("size", "fps", "preset", "words"),
    [
        ((32, 48), FPS, "medium", "size 64x48 against 32x48"),
        ((64, 48), Fraction(25), "medium", "rate 24 against 25"),
        ((64, 48), FPS, "ultrafast", "different settings"),
    ],
)
def test_unlike_segments_are_refused_naming_both_files(tmp_path, size, fps, preset, words):
    (first,) = segments(tmp_path, [10])
    other = tmp_path / "other.mp4"
    encode_segment(pictures(10, 1, *size), other, fps, preset=preset)
    with pytest.raises(ValueError, match=rf"0\.mp4 and .*other\.mp4: .*{words}"):
        join_segments([first, other], tmp_path / "film.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mp4", "other.mp4"]


def test_nothing_to_join_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no segments"):
        join_segments([], tmp_path / "film.mp4")


@pytest.mark.parametrize("kept", [0.02, 0.6, 0.999])
def test_a_cut_off_segment_is_refused_and_leaves_no_film(tmp_path, kept):
    paths = segments(tmp_path, [10, 10])
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises((av.FFmpegError, ValueError), match=r"1\.mp4"):
        join_segments(paths, tmp_path / "film.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mp4", "1.mp4"]
