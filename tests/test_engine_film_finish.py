"""One language version: its title burnt in, its voice in place, all else untouched, and signed last."""

import hashlib
import pickle
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.film.encode import encode_segment
from engine.film.finish import (
    Line,
    LineTooLong,
    Version,
    make_version,
    narrate,
    opacity,
    title_segment,
)
from engine.film.join import count_frames, join_segments
from engine.film.provenance import Claim, make_development_identity, verify
from engine.film.sheet import read_pictures
from engine.film.track import LOUDNESS_LUFS, PEAK, loudness_lufs
from engine.film.voice import NarrationTooLong

FPS = Fraction(8)
CLAIM = Claim("Planets", hashlib.sha256(b"row").hexdigest(), "chalk", 7, ())
HINDI = (
    Line("सौर मंडल में आठ ग्रह हैं।", 0.25, 3.75),
    Line("पृथ्वी तीसरा ग्रह है।", 4.0, 3.0),
)
TAMIL = (Line("சூரிய குடும்பத்தில் எட்டு கோள்கள் உள்ளன.", 0.0, 4.0),)


def drifting_noise(count, seed):
    noise = np.random.default_rng(seed).integers(40, 200, (12, 16, 3), np.uint8)
    picture = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return [np.roll(picture, index, axis=1) for index in range(count)]


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    """Three shots, 128x96, 8 frames a second: 4, 3 and 1 seconds."""
    folder = tmp_path_factory.mktemp("segments")
    paths = [folder / f"s{index}.mp4" for index in range(3)]
    for seed, (path, count) in enumerate(zip(paths, (32, 24, 8), strict=True)):
        encode_segment(drifting_noise(count, seed), path, FPS)
    return paths


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return make_development_identity(tmp_path_factory.mktemp("keys"))


def red_tile(alpha=255):
    """A title: an opaque red box low in a clear picture of 128x96."""
    tile = np.zeros((96, 128, 4), np.uint8)
    tile[64:80, 32:96] = (255, 0, 0, alpha)
    return tile


def redness(pictures):
    """How much redder than green the title's box is, picture by picture."""
    return [float(np.mean(p[66:78, 34:94, 0].astype(int) - p[66:78, 34:94, 1])) for p in pictures]


def yuv(path):
    with av.open(path) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@given(show_s=st.floats(0.1, 10), share=st.floats(0, 1), time_s=st.floats(0, 20))
def test_opacity_is_whole_in_the_middle_nothing_outside_and_symmetric(show_s, share, time_s):
    fade_s = share * show_s / 2
    seen = opacity(time_s, show_s, fade_s)
    assert 0 <= seen <= 1
    assert opacity(show_s / 2, show_s, fade_s) == pytest.approx(1)
    if time_s > show_s:
        assert seen == 0
    elif fade_s > 0.01:
        assert opacity(show_s - time_s, show_s, fade_s) == pytest.approx(seen, abs=1e-6)


def test_the_title_fades_in_holds_fades_out_and_leaves_the_rest_alone(segments, tmp_path):
    target = tmp_path / "title.mp4"
    grey = tmp_path / "grey.mp4"
    encode_segment([np.full((96, 128, 3), 100, np.uint8)] * 32, grey, FPS)
    assert title_segment(grey, target, red_tile(), FPS, show_s=3.0, fade_s=0.5) == 32
    red = redness(read_pictures(target))
    expected = [255 * opacity(index / 8, 3.0, 0.5) for index in range(32)]
    assert np.allclose(red, expected, atol=12)  # 4:2:0 and crf 18
    assert expected[0] == 0 and expected[4:21] == [255] * 17 and expected[24:] == [0] * 8
    outside = np.stack([picture[:60] for picture in read_pictures(target)]).astype(int)
    assert abs(outside - 100).max() <= 4


def test_a_half_clear_tile_lets_half_of_the_picture_through(tmp_path):
    grey, target = tmp_path / "grey.mp4", tmp_path / "title.mp4"
    encode_segment([np.full((96, 128, 3), 100, np.uint8)] * 8, grey, FPS)
    title_segment(grey, target, red_tile(alpha=128), FPS, show_s=1.0, fade_s=0)
    picture = list(read_pictures(target))[4]
    assert np.allclose(picture[72, 64], (178, 50, 50), atol=6)


def test_a_segment_shorter_than_the_title_fades_out_before_its_end(segments, tmp_path):
    assert title_segment(segments[2], tmp_path / "title.mp4", red_tile(), FPS, show_s=3.0, fade_s=2.0) == 8
    plain, titled = (redness(read_pictures(path)) for path in (segments[2], tmp_path / "title.mp4"))
    gained = [b - a for a, b in zip(plain, titled, strict=True)]
    assert gained[4] > 150 and abs(gained[0]) < 12 and gained[7] < gained[4] / 2


def test_a_titled_segment_joins_the_others(segments, tmp_path):
    title_segment(segments[0], tmp_path / "title.mp4", red_tile(), FPS)
    assert join_segments([tmp_path / "title.mp4", *segments[1:]], tmp_path / "film.mp4") == 64


def test_under_a_clear_tile_colours_do_not_shift_against_the_segments_that_are_copied(segments, tmp_path):
    title_segment(segments[0], tmp_path / "title.mp4", red_tile(alpha=0), FPS, crf=6)
    before, after = (np.stack(yuv(path)).astype(int) for path in (segments[0], tmp_path / "title.mp4"))
    assert abs((before - after).mean()) < 0.15  # FFmpeg's fast conversion would darken by a whole level


@pytest.mark.parametrize(
    ("tile", "fps", "words"),
    [
        (np.zeros((48, 64, 4), np.uint8), FPS, r"title is 64x48 px and .*s0\.mp4 is 128x96 px"),
        (red_tile(), Fraction(24), r"s0\.mp4 has 8 frames a second, not 24"),
    ],
)
def test_a_tile_or_rate_that_is_not_the_segments_is_refused(segments, tmp_path, tile, fps, words):
    with pytest.raises(ValueError, match=words):
        title_segment(segments[0], tmp_path / "title.mp4", tile, fps)
    assert list(tmp_path.iterdir()) == []


def test_each_line_is_spoken_in_its_shot_and_its_captions_end_with_its_words(tmp_path):
    track, rate, cues = narrate(HINDI, "hi", 8.0, tmp_path)
    samples = track[:]
    assert samples.dtype == np.float32 and samples.shape == (8 * rate,)
    loud = np.flatnonzero(abs(samples) > 0.02) / rate
    assert 0.25 <= loud[0] < 0.5
    first, second = (
        max(c.stop_s for c in cues if line.start_s <= c.start_s < line.start_s + line.max_s) for line in HINDI
    )
    assert 1 < first < 4 and 5 < second < 7  # shorter than their shots
    for start, stop in ((0, 0.25), (first, 4), (second, 8)):
        assert not np.any((loud > start + 0.02) & (loud < stop))
    spoken = " ".join(cue.text.replace("\n", " ") for cue in cues)
    assert spoken == " ".join(line.text for line in HINDI)


@pytest.mark.parametrize("lang", ["hi", "ta", "en"])
def test_a_voice_is_about_as_loud_as_players_expect_and_never_clips(lang, tmp_path):
    text = {"hi": HINDI[0].text, "ta": TAMIL[0].text, "en": "There are eight planets."}[lang]
    samples, rate, _ = narrate([Line(text, 1.0, 6.0)], lang, 8.0, tmp_path)
    assert abs(loudness_lufs(samples, rate) - LOUDNESS_LUFS) < 1
    assert abs(samples[:]).max() <= PEAK + 1e-6


def test_the_same_lines_make_the_same_track_to_the_bit_exactly_as_long_as_the_film(tmp_path):
    total_s = 251 / 24  # frames and samples have no common tick
    tracks = []
    for name in "ab":
        (tmp_path / name).mkdir()
        tracks.append(narrate(HINDI, "hi", total_s, tmp_path / name))
    (first, rate, _), (second, _, _) = tracks
    assert len(first) == len(second) == round(total_s * rate)
    assert np.array_equal(first[:], second[:])


def test_narrating_a_long_film_takes_no_more_memory_than_a_short_one(tmp_path):
    peaks = []
    for minutes in (1, 10):
        tracemalloc.start()
        samples, rate, _ = narrate([Line("एक।", 60 * minutes - 2, 2)], "hi", 60 * minutes, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(samples) == 60 * minutes * rate and samples[-2 * rate :].any()
    track_bytes = 4 * len(samples)
    assert max(peaks) < 1.5 * min(peaks) and max(peaks) < track_bytes / 20


def test_a_film_without_lines_is_silent_for_its_whole_length(tmp_path):
    samples, rate, cues = narrate([], "hi", 1.5, tmp_path)
    assert len(samples) == round(1.5 * rate) and not samples[:].any() and cues == []


def test_a_narration_too_long_for_its_shot_says_which_line_and_travels_between_processes(tmp_path):
    lines = [Line("एक।", 0, 2), Line(HINDI[0].text * 3, 2, 1)]
    with pytest.raises(
        NarrationTooLong, match=r"^line 1, at 2\.00 s: the narration takes .* cut about"
    ) as caught:
        narrate(lines, "hi", 8.0, tmp_path)
    assert isinstance(caught.value, LineTooLong) and caught.value.line is lines[1]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.index, str(again)) == (1, str(caught.value))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([Line("a", 0, 3), Line("b", 2, 3)], r"line 1 spans 2\.000 to 5\.000 s, but .* ends at 3\.000 s"),
        ([Line("a", 6, 3)], r"line 0 spans 6\.000 to 9\.000 s, but the film ends at 8\.000 s"),
        ([Line("a", -1, 3)], r"line 0 spans -1\.000"),
    ],
)
def test_lines_that_overlap_or_leave_the_film_are_refused(lines, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        narrate(lines, "en", 8.0, tmp_path)


@pytest.fixture(scope="module")
def versions(segments, identity, tmp_path_factory):
    """Hindi, Tamil and the visual master, made from the same segments."""
    folder, work = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work")
    wanted = {
        "hi": Version("hi", "सौर मंडल", HINDI, CLAIM, FPS),
        "ta": Version("ta", "சூரிய குடும்பம்", TAMIL, CLAIM, FPS),
        "und": Version("und", "", (), CLAIM, FPS),
    }
    facts = {
        lang: make_version(segments, folder / f"{lang}.mp4", version, identity, work)
        for lang, version in wanted.items()
    }
    assert list(work.iterdir()) == []
    return folder, facts


def test_every_version_is_signed_and_trusted(versions, identity):
    folder, facts = versions
    for lang in facts:
        assert verify(folder / f"{lang}.mp4", identity.root.read_text()).state == "Trusted"


def test_pictures_of_the_other_segments_are_the_same_in_every_language(versions, segments):
    folder, facts = versions
    shared = [picture for path in segments[1:] for picture in yuv(path)]
    for lang in facts:
        film = yuv(folder / f"{lang}.mp4")
        assert len(film) == 64
        assert all(np.array_equal(a, b) for a, b in zip(film[32:], shared, strict=True))


def test_languages_differ_where_the_title_is_and_the_master_is_the_segments(versions, segments):
    folder, _ = versions
    hindi, tamil, master = (list(read_pictures(folder / f"{lang}.mp4")) for lang in ("hi", "ta", "und"))
    inside = [
        np.mean(abs(a[12].astype(int) - b[12])) for a, b in ((hindi, tamil), (hindi, master), (tamil, master))
    ]
    assert min(inside) > 2
    assert all(np.array_equal(a, b) for a, b in zip(yuv(folder / "und.mp4"), yuv(segments[0]), strict=False))


def test_facts_are_those_of_the_files(versions):
    folder, facts = versions
    for lang, fact in facts.items():
        path = folder / f"{lang}.mp4"
        assert (fact.frame_count, fact.duration_s) == (count_frames(path), 8.0)
        assert (fact.width_px, fact.height_px, fact.size_bytes) == (128, 96, path.stat().st_size)
    assert facts["und"].captions is None
    captions = facts["hi"].captions
    assert captions == folder / "hi.vtt" and captions.read_text().startswith("WEBVTT\n\n00:00:00.250 --> ")
    assert "सौर मंडल में आठ ग्रह हैं।" in captions.read_text()
    assert sorted(p.name for p in folder.iterdir()) == ["hi.mp4", "hi.vtt", "ta.mp4", "ta.vtt", "und.mp4"]


def test_each_language_has_its_own_tracks_in_its_own_tongue(versions):
    folder, _ = versions
    for lang, code in (("hi", "hin"), ("ta", "tam")):
        with av.open(folder / f"{lang}.mp4") as film:
            tags = [(s.type, s.metadata["language"]) for s in film.streams]
            assert tags == [("video", "und"), ("audio", code), ("subtitle", code)]
            ends = [float(s.duration * s.time_base) for s in list(film.streams)[:2]]
            assert abs(ends[0] - ends[1]) < float(1 / FPS)


def test_a_version_that_fails_leaves_neither_film_nor_scraps(segments, identity, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    version = Version("hi", "सौर मंडल", (Line(HINDI[0].text * 3, 0, 1),), CLAIM, FPS)
    with pytest.raises(LineTooLong, match="line 0"):
        make_version(segments, out / "hi.mp4", version, identity, work)
    with pytest.raises(ValueError, match="no segments"):
        make_version([], out / "hi.mp4", version, identity, work)
    assert list(work.iterdir()) == list(out.iterdir()) == []
