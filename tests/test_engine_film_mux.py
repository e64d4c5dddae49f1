"""A language version plays on any phone: copied pictures, tagged tracks, equal lengths, index first."""

import math
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.film.captions import Cue, iso_639_2
from engine.film.encode import encode_segment
from engine.film.join import join_segments, video_packets
from engine.film.languages import NATIVE_NAMES
from engine.film.mux import AUDIO_RATE_HZ, film_options, mux_film
from engine.film.voice import LANGUAGES

FPS = Fraction(8)
HINDI = [
    Cue(0.5, 1.75, "सौर मंडल में आठ ग्रह हैं।\nपृथ्वी {तीसरा} ग्रह है।"),
    Cue(1.75, 2.5, "क्षत्रिय & <i>त्रिकोण</i> \\N"),
    Cue(3.0, 5.999, "श्री"),
]
TAMIL = [Cue(0.0, 2.0, "சூரிய குடும்பத்தில்\nஎட்டு கோள்கள் உள்ளன.")]


def drifting_noise(count, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (96, 128, 3), np.uint8)
    return [np.roll(noise, index, axis=1) for index in range(count)]


def make_pictures(folder, fps=FPS, counts=(24, 3, 21)):
    """A film joined of segments, one of them shorter than the encoder's reorder depth."""
    parts = [folder / f"part{index}.mp4" for index in range(len(counts))]
    for seed, (part, count) in enumerate(zip(parts, counts, strict=True)):
        encode_segment(drifting_noise(count, seed), part, fps, preset="veryfast")
    join_segments(parts, folder / "pictures.mp4")
    return folder / "pictures.mp4"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """48 frames at 8 frames a second: 6 seconds."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def tone(length_s, rate=22_050):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(length_s * rate)) / rate)).astype(np.float32), rate


def mux(pictures, out, **changes):
    given = {"lang": "hi", "title": "सौर मंडल", "audio": tone(6), "cues": HINDI, "fps": FPS} | changes
    return mux_film(pictures, out, **given)


def captions(path):
    """The caption track as a player reads it: start, stop and text of every sample that is not empty."""
    with av.open(path) as film:
        stream = film.streams.subtitles[0]
        packets = [(p.pts, p.duration, bytes(p)) for p in film.demux(stream) if p.size > 2]
        clock = stream.time_base
    return [
        Cue(float(pts * clock), float((pts + lasts) * clock), data[2 : 2 + int.from_bytes(data[:2])].decode())
        for pts, lasts, data in packets
    ]


def voice(path):
    """All samples of the voice track as a player plays them."""
    with av.open(path) as film:
        return np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])


@pytest.mark.parametrize(("lang", "code", "cues"), [("hi", "hin", HINDI), ("ta-IN", "tam", TAMIL)])
def test_tracks_are_tagged_named_and_captions_are_read_back_intact(pictures, tmp_path, lang, code, cues):
    assert mux(pictures, tmp_path / "film.mp4", lang=lang, cues=cues) == 48
    with av.open(tmp_path / "film.mp4") as film:
        kinds = [stream.type for stream in film.streams]
        tags = [stream.metadata["language"] for stream in film.streams]
        names = {stream.metadata["handler_name"] for stream in list(film.streams)[1:]}
        assert film.metadata["title"] == "सौर मंडल"
    assert kinds == ["video", "audio", "subtitle"] and tags == ["und", code, code]
    assert names == {NATIVE_NAMES[lang[:2]]}
    assert captions(tmp_path / "film.mp4") == cues


def test_ffmpeg_decodes_the_captions_as_plain_text(pictures, tmp_path):
    mux(pictures, tmp_path / "film.mp4", lang="ta", cues=TAMIL)
    with av.open(tmp_path / "film.mp4") as film:
        texts = [
            subtitle.dialogue or subtitle.ass
            for packet in film.demux(film.streams.subtitles[0])
            if packet.size > 2
            for subtitle in packet.decode()
        ]
    (text,) = texts
    assert TAMIL[0].text.split("\n")[0].encode() in text and TAMIL[0].text.split("\n")[1].encode() in text


@pytest.mark.parametrize("fps", [FPS, Fraction(24000, 1001)])
def test_picture_packets_are_copied_bit_for_bit_with_their_times(tmp_path, fps):
    pictures = make_pictures(tmp_path, fps)
    assert mux(pictures, tmp_path / "film.mp4", audio=tone(1), cues=HINDI[:1], fps=fps) == 48
    before, after = (
        [(bytes(p), p.pts * p.time_base, p.dts * p.time_base) for p in video_packets(path)]
        for path in (pictures, tmp_path / "film.mp4")
    )
    assert before == after and len(after) == 48
    with av.open(tmp_path / "film.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", fps, 48)


@pytest.mark.parametrize("fps", [FPS, Fraction(24000, 1001)])
@pytest.mark.parametrize("spoken_s", [None, 0.3, 2.0])
def test_voice_and_pictures_have_the_same_length_to_the_sample(tmp_path, fps, spoken_s):
    pictures = make_pictures(tmp_path, fps)
    film_s = 48 / fps
    audio = tone(spoken_s) if spoken_s else tone(float(film_s))
    mux(pictures, tmp_path / "film.mp4", audio=audio, cues=[], fps=fps)
    with av.open(tmp_path / "film.mp4") as film:
        video, sound = film.streams.video[0], film.streams.audio[0]
        assert video.duration * video.time_base == film_s
        assert 0 <= film_s - sound.duration * sound.time_base < Fraction(1, AUDIO_RATE_HZ)
        assert abs(film.duration / 1e6 - film_s) < 1e-3


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_a_click_sounds_where_it_was_put_and_silence_follows_it(pictures, tmp_path, rate):
    samples = np.zeros(3 * rate, np.float32)
    samples[2 * rate : 2 * rate + rate // 100] = 0.8
    mux(pictures, tmp_path / "film.mp4", audio=(samples, rate))
    heard = np.flatnonzero(np.abs(voice(tmp_path / "film.mp4")) > 0.4)
    assert abs(heard[0] / AUDIO_RATE_HZ - 2) < 0.002  # AAC smears an edge by tens of samples
    assert abs(heard[-1] / AUDIO_RATE_HZ - 2.01) < 0.002


def test_the_index_comes_first_and_tracks_are_interleaved(pictures, tmp_path):
    mux(pictures, tmp_path / "film.mp4")
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(tmp_path / "film.mp4") as film:
        order = sorted((p.pos, p.stream.type, p.dts * p.time_base) for p in film.demux() if p.pos)
    times = {"video": -1.0, "audio": -1.0, "subtitle": 0.0}
    for _, kind, time_s in order:
        times[kind] = time_s
        assert abs(times["video"] - times["audio"]) < 1.5


@pytest.mark.parametrize("lang", ["und", "hi"])
def test_without_voice_and_captions_a_film_has_pictures_only(pictures, tmp_path, lang):
    assert mux(pictures, tmp_path / "film.mp4", lang=lang, audio=None, cues=[]) == 48
    with av.open(tmp_path / "film.mp4") as film:
        assert [stream.type for stream in film.streams] == ["video"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio": tone(6.1)}, r"voice outlasts the film of 6\.000 s by 0\.100 s"),
        ({"audio": (np.zeros((2, 9), np.float32), 8000)}, r"mono float32 samples, got shape \(2, 9\)"),
        ({"cues": [Cue(1, 2, "a"), Cue(1.9, 3, "b")]}, r"caption 'b' at 1\.900 to 3\.000 s"),
        ({"cues": [Cue(6.5, 7, "late")]}, r"caption 'late' .* film of 6\.000 s"),
        ({"fps": Fraction(24)}, "has 8 frames a second, not 24"),
        ({"lang": "und"}, "no MP4 code for language 'und'"),
    ],
)
def test_what_does_not_fit_the_film_is_refused_and_leaves_no_file(pictures, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        mux(pictures, tmp_path / "film.mp4", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_cut_off_video_is_refused_and_leaves_no_film(pictures, tmp_path, kept):
    whole = pictures.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises((av.FFmpegError, ValueError), match=r"cut\.mp4"):
        mux(tmp_path / "cut.mp4", tmp_path / "film.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


def test_every_voice_has_a_code_and_a_name_that_players_show():
    assert set(NATIVE_NAMES) == set(LANGUAGES)
    assert len({iso_639_2(lang) for lang in NATIVE_NAMES}) == len(NATIVE_NAMES)


@given(
    fps=st.sampled_from([Fraction(n) for n in (1, 8, 24, 25, 30, 60)])
    | st.sampled_from([Fraction(n, 1001) for n in (24000, 30000, 60000)]),
    index=st.integers(0, 10**6),
)
def test_frames_samples_and_milliseconds_are_whole_ticks_of_the_movie_clock(fps, index):
    clock = int(film_options(fps)["movie_timescale"])
    for time_s in (index / fps, Fraction(index, AUDIO_RATE_HZ), Fraction(index, 1000)):
        assert (time_s * clock).denominator == 1
    assert clock < math.pow(2, 31)
