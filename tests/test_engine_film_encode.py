"""One segment: exact counts and rates, colours that mean what their tags say, nothing half-written."""

from fractions import Fraction

import av
import numpy as np
import pytest

from engine.film.encode import encode_segment
from engine.film.join import count_frames

RATES = [Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(8)]


def pictures(count, width=64, height=48):
    """A square that moves over a gradient."""
    base = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    for index in range(count):
        picture = base.copy()
        picture[8:24, index % 40 : index % 40 + 16] = (255, index % 256, 0)
        yield picture


def boxes(path):
    """The names of an MP4 file's top-level boxes in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("count", [1, 2, 3, 49, 100])
def test_frame_count_rate_and_times_are_exact(tmp_path, fps, count):
    path = tmp_path / "a.mp4"
    assert encode_segment(pictures(count), path, fps) == count == count_frames(path)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps and stream.frames == count
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
    assert times == [index / fps for index in range(count)]


def test_index_comes_before_the_pictures(tmp_path):
    encode_segment(pictures(10), tmp_path / "a.mp4", RATES[0])
    names = boxes(tmp_path / "a.mp4")
    assert names.index("moov") < names.index("mdat")


def test_a_gop_is_closed_and_48_frames_long(tmp_path):
    encode_segment(pictures(100), tmp_path / "a.mp4", RATES[0])
    with av.open(tmp_path / "a.mp4") as container:
        keys = [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 48, 96]


def test_colours_are_bt709_in_tags_and_in_fact(tmp_path):
    red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    encode_segment([red] * 3, tmp_path / "a.mp4", RATES[0])
    with av.open(tmp_path / "a.mp4") as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        luma = next(container.decode(video=0)).to_ndarray()[:48].mean()
    assert tags == (1, 1, 1, 1)
    assert abs(luma - 63) <= 1  # BT.601 would make red 81


def test_a_failing_source_leaves_no_file(tmp_path):
    def failing():
        yield from pictures(70)
        raise RuntimeError("the renderer died")

    with pytest.raises(RuntimeError, match="renderer died"):
        encode_segment(failing(), tmp_path / "a.mp4", RATES[0])
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_keeps_the_file_that_was_there(tmp_path):
    encode_segment(pictures(5), tmp_path / "a.mp4", RATES[0])
    with pytest.raises(ValueError):
        encode_segment([*pictures(2), *pictures(1, 32, 32)], tmp_path / "a.mp4", RATES[0])
    assert count_frames(tmp_path / "a.mp4") == 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_file_is_not_visible_before_it_is_complete(tmp_path):
    path = tmp_path / "a.mp4"

    def watching():
        for picture in pictures(80):
            assert not path.exists()
            yield picture

    encode_segment(watching(), path, RATES[0])
    assert path.exists()


def test_frames_are_pulled_one_by_one_and_not_kept(tmp_path):
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= self.base is not None

    def counted():
        nonlocal alive, most
        for picture in pictures(300):
            alive += 1
            most = max(most, alive)
            yield picture.view(Counted)
            del picture

    encode_segment(counted(), tmp_path / "a.mp4", RATES[0])
    assert most < 120  # the encoder's look-ahead, not the film


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([np.zeros((48, 63, 3), np.uint8)], "63x48"),
        ([np.zeros((47, 64, 3), np.uint8)], "64x47"),
        ([np.zeros((48, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)], "frame 1 is 64x32.*64x48"),
        ([np.zeros((48, 64, 3), np.float32)], "float32"),
        ([np.zeros((48, 64), np.uint8)], r"\(48, 64\)"),
        ([], "no frames"),
    ],
)
def test_unusable_frames_are_refused_by_name(tmp_path, frames, words):
    with pytest.raises(ValueError, match=words):
        encode_segment(frames, tmp_path / "a.mp4", RATES[0])
    assert list(tmp_path.iterdir()) == []
