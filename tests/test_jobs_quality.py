"""Claims about `longtake quality`: any video is measured, with a layout from a plan or the command line."""

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from cluster.identity import Asset
from cluster.once import claim
from cluster.outcomes import Outcome
from cluster.shots import GivenTask
from engine.film.encode import encode_segment
from engine.quality.plot import draw_quality
from engine.takes import CLIP
from jobs.cli import main
from jobs.job import prepare
from jobs.quality import spans_of
from jobs.spec import load_spec
from manifests.store import open_store

cv2.setNumThreads(1)
FPS, SIZE = Fraction(8), (64, 96)
ROW = """
- row_id: {row}
  profile: chalk
  shots:
    - {{shot_id: sea, prompt: the blue sea, duration_frames: 100}}
    - {{shot_id: hills, prompt: green hills, duration_frames: 44}}
"""
TITLED = "  languages:\n    - {lang: hi-IN, title: बारिश}\n"
WINDOWS = ["profiles.chalk.window.size=7", "profiles.chalk.window.overlap=4"]


@cache
def noise_of(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((120, 240, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    return 255 * (noise - noise.min()) / np.ptp(noise)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch) -> None:
    """Drawing takes longer than measuring, and only one test looks at the picture."""
    monkeypatch.setattr("engine.quality.plot.draw_quality", lambda film, out: None)


def pictures(n_frames: int, jumps: tuple[int, ...] = (), cuts: tuple[int, ...] = ()) -> list[np.ndarray]:
    """A camera that sways over noise; it jumps aside at some frames, and sees another picture after cuts."""
    frames = []
    for t in range(n_frames):
        noise = noise_of(sum(t >= cut for cut in cuts))
        x = 30 + 12 * np.sin(t / 15) + 20 * (sum(t >= jump for jump in jumps) % 2)
        move = np.array([[1, 0, -x], [0, 1, -10.0]])
        frames.append(cv2.warpAffine(noise, move, SIZE[::-1]).astype(np.uint8))
    return frames


def encode(path: Path, frames: list[np.ndarray]) -> Path:
    encode_segment(frames, path, FPS, crf=12, preset="veryfast")
    return path


@pytest.fixture(scope="module")
def smooth(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("films") / "smooth.mp4", pictures(144))


@pytest.fixture(scope="module")
def jumpy(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("films") / "jumpy.mp4", pictures(144, jumps=(36, 72, 108)))


@pytest.fixture(scope="module")
def two_shots(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("films") / "rain.hi-IN.mp4", pictures(144, cuts=(100,)))


@pytest.fixture
def settings(tiny_folder) -> list[str]:
    return [f"profiles.chalk.model.folder={tiny_folder}", *WINDOWS]


def measured(capsys, *words: object) -> dict:
    assert main(["quality", *map(str, words), "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: object) -> str:
    """The one message of a command that is refused."""
    assert main(["quality", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("longtake: ") and printed.err.count("\n") == 1
    return printed.err


def test_a_film_of_unknown_layout_is_measured_and_it_is_said_what_is_not(smooth, tmp_path, capsys):
    found = measured(capsys, smooth, "--plot", tmp_path / "p.png")
    assert (found["frames"], found["fps"], found["width_px"], found["height_px"]) == (144, "8", 96, 64)
    assert found["figures"]["seam_warp_error"]["value"] is None
    assert "give --manifest, --stride or --seams" in found["notes"][0]
    assert found["figures"]["drift_de_per_min"]["verdict"] == "ok"
    assert found["figures"]["dynamic_degree"]["value"] > 1
    assert found["shots"][0]["seams"] is None and len(found["shots"][0]["identity"]) == 17


def test_seams_told_by_frame_or_by_stride_are_the_same_and_a_jump_at_them_is_over(jumpy, tmp_path, capsys):
    plot = ("--plot", tmp_path / "p.png")
    by_frame = measured(capsys, jumpy, "--seams", "36,72,108", *plot)
    by_stride = measured(capsys, jumpy, "--stride", 36, *plot)
    assert by_frame["shots"] == by_stride["shots"]
    assert by_frame["shots"][0]["seams"] == [[36, 36], [72, 72], [108, 108]]
    assert by_frame["figures"]["seam_difference"]["verdict"] == "over"
    wrong = measured(capsys, jumpy, "--stride", 30, "--overlap", 2, *plot)
    assert wrong["figures"]["seam_difference"]["verdict"] != "over"


def test_a_table_for_people_names_every_figure_its_gate_and_where_the_picture_is(jumpy, tmp_path, capsys):
    assert main(["quality", str(jumpy), "--stride", "36", "--plot", str(tmp_path / "p.png")]) == 0
    out = capsys.readouterr().out
    assert "jumpy.mp4, 144 frames, 18.0 s, 3 seams in 1 shot, 36 frames apart" in out
    (line,) = (line for line in out.splitlines() if "frame difference" in line)
    assert "≤ 1.15" in line and "over" in line and "inside reach it" in line
    assert f"plot: {tmp_path / 'p.png'}" in out and max(map(len, out.splitlines())) <= 100


def test_the_picture_is_beside_the_film_and_is_drawn_in_full(jumpy, monkeypatch, capsys):
    monkeypatch.setattr("engine.quality.plot.draw_quality", draw_quality)
    measured(capsys, jumpy, "--stride", 36)
    with Image.open(jumpy.with_name("jumpy.quality.png")) as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert drawn.shape[0] > 900 and drawn.shape[1] > 1200
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1000  # stills, not only lines
    for fifth in np.array_split(drawn, 5):
        assert (fifth < 200).all(axis=2).mean() > 0.002  # ink everywhere


def test_a_cut_between_shots_is_no_seam_and_no_change(two_shots, tmp_path, capsys):
    plot = ("--plot", tmp_path / "p.png")
    whole, cut = (measured(capsys, two_shots, *words, *plot) for words in ((), ("--cuts", 100)))
    assert [(shot["start"], shot["stop"]) for shot in cut["shots"]] == [(0, 100), (100, 144)]
    assert cut["figures"]["flicker"]["value"] > whole["figures"]["flicker"]["value"]
    assert cut["figures"]["identity_far"]["value"] < whole["figures"]["identity_far"]["value"]


def test_the_plan_tells_cuts_and_seams_of_the_film_that_it_rendered(two_shots, settings, tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text(ROW.format(row="rain"))
    plot, blend = ("--plot", tmp_path / "p.png"), "profiles.chalk.window.mode=blend"
    found = measured(capsys, two_shots, "--manifest", manifest, *settings, blend, *plot)
    sea, hills = found["shots"]
    assert (sea["shot"], sea["start"], sea["stop"]) == ("sea", 0, 100)
    assert (hills["shot"], hills["start"], hills["stop"]) == ("hills", 100, 144)
    # 27 and 13 latent frames in windows of 7 that share at least 4, of which 1 and 1 are discarded
    assert len(sea["seams"]) == 7 and len(hills["seams"]) == 2
    assert all((start - 1) % 4 == 0 for start, _ in sea["seams"] + hills["seams"])
    assert found["notes"] == []
    other = [*settings[:1], "profiles.chalk.window.size=13"]
    found = measured(capsys, two_shots, "--manifest", manifest, *other, blend, *plot)
    assert len(found["shots"][0]["seams"]) == 2
    extend = "profiles.chalk.window.mode=extend"  # by 3 frames, as chalk was taught: windows begin every 4
    found = measured(capsys, two_shots, "--manifest", manifest, *settings, extend, *plot)
    assert found["shots"][0]["seams"] == [[start, start] for start in range(25, 100, 16)]


def test_seams_of_a_shot_that_extends_a_clip_are_counted_from_what_it_shows(make_film):
    (_, segment) = make_film("row").master.segments
    plain = segment.source
    asset = Asset(CLIP, "a" * 64, "/clips/a.mp4")
    clip = GivenTask(plain.model, (asset,), 9, Fraction(8), plain.height_px, plain.width_px)
    longer = replace(segment, source=replace(plain, given=(clip,)))
    whole = replace(
        segment, source=replace(plain, shot=replace(plain.shot, n_frames=9 + plain.shot.n_frames))
    )
    (shown,), (all_of_it,) = spans_of([longer]), spans_of([whole])
    assert len(shown) == plain.shot.n_frames and shown.seams
    assert [one.start + 9 for one in shown.seams] == [one.start for one in all_of_it.seams if one.start > 9]


def test_the_seconds_that_carry_a_title_are_left_out(two_shots, settings, tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text(ROW.format(row="rain") + TITLED)
    found = measured(capsys, two_shots, "--manifest", manifest, *settings, "--plot", tmp_path / "p.png")
    assert [(shot["start"], shot["stop"]) for shot in found["shots"]] == [(24, 100), (100, 144)]
    assert found["notes"] == ["the first 3 s are left out: they carry the title"]
    skipped = measured(capsys, two_shots, "--cuts", 100, "--skip", 3, "--plot", tmp_path / "p.png")
    assert [shot["start"] for shot in skipped["shots"]] == [24, 100] and "as asked" in skipped["notes"][1]


def test_a_film_is_found_among_rows_by_its_name_or_by_row(two_shots, settings, tmp_path, capsys):
    manifest, plot = tmp_path / "films.yaml", ("--plot", tmp_path / "p.png")
    manifest.write_text(ROW.format(row="snow") + ROW.format(row="rain"))
    assert len(measured(capsys, two_shots, "--manifest", manifest, *settings, *plot)["shots"]) == 2
    words = (two_shots, "--manifest", manifest, *settings, *plot)
    assert len(measured(capsys, *words, "--row", "snow")["shots"]) == 2
    assert "none of them 'hail': no such row" in refused(capsys, *words, "--row", "hail")
    manifest.write_text(ROW.format(row="snow") + ROW.format(row="hail"))
    assert "2 films, none of them 'rain': name its row with --row" in refused(capsys, *words)


def test_a_manifest_that_did_not_render_the_film_is_refused(smooth, settings, tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text(ROW.format(row="rain").replace("44", "45"))
    message = refused(capsys, smooth, "--manifest", manifest, *settings)
    assert "144 frames" in message and "plans 145" in message
    manifest.write_text(ROW.format(row="rain").replace("prompt: green hills, ", ""))
    assert main(["quality", str(smooth), "--manifest", str(manifest), *settings]) == 3


def test_shots_that_are_meant_to_change_and_those_that_were_held_are_told(settings, tmp_path, capsys):
    manifest, plot = tmp_path / "film.yaml", ("--plot", tmp_path / "p.png")
    manifest.write_text(ROW.format(row="rain").replace("the blue sea", "sunset over the blue sea"))
    (tmp_path / "films").mkdir()
    film = encode(tmp_path / "films" / "rain.und.mp4", pictures(144, cuts=(100,)))
    meant = "sea is meant to change, so its drift is no fault: its prompt says 'sunset'"
    assert measured(capsys, film, "--manifest", manifest, *settings, *plot)["notes"] == [meant]

    (planned,) = prepare(str(manifest), load_spec(None, settings)).films
    sea, hills = planned.master.segments
    assert not sea.hold.max_drift and hills.hold.max_drift
    facts = {"frame_count": 44, "drift_de_per_min": 7.25, "held_de_per_min": 1.0}
    claim(open_store(str(tmp_path)), hills, Outcome(hills.key, hills.kind, {}, facts))
    held = (
        "hills drifted by 7.2 dE a minute as it was drawn; its colours were held to its beginning, and "
        "drift by 1.0"
    )
    assert measured(capsys, film, "--manifest", manifest, *settings, *plot)["notes"] == [meant, held]


def test_shots_too_short_to_measure_are_left_out_and_named(smooth, tmp_path, capsys):
    found = measured(capsys, smooth, "--cuts", "10", "--plot", tmp_path / "p.png")
    assert found["notes"][-1] == "shot 1 is left out: 10 frames are too few"
    assert [shot["shot"] for shot in found["shots"]] == ["shot 2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seams", "200"], "frames 200 to 200 does not lie inside the film, which has 144 frames"),
        (["--seams", "0"], "frames 0 to 0"),
        (["--seams", "140", "--overlap", "8"], "140 to 148"),
        (["--stride", "500"], "--stride 500: no seam lies inside the film's 144 frames"),
        (["--stride", "8", "--overlap", "8"], "overlap=8 frames must lie in [0, stride=8)"),
        (["--stride", "0"], "overlap=0 frames must lie in [0, stride=0)"),
        (["--seams", "10,12", "--overlap", "6"], "10 and 12 are 2 frames apart, less than the overlap of 6"),
        (["--seams", "72,36"], "the seam at frame 36 follows the one at frame 72: name them in order"),
        (["--seams", "36,36"], "the seam at frame 36 follows the one at frame 36: name them in order"),
        (["--cuts", "100,40"], "cuts at frames 100, 40 do not rise: name them in order, each once"),
        (["--compression", "0"], "--compression 0: a latent frame holds at least 1 pixel frame"),
        (["--overlap", "8"], "--overlap alone tells no layout"),
        (["--cuts", "144"], "144 do not lie inside 144 frames"),
        (["--skip", "17"], "8 frames are too few, at least 16"),
        (["--skip", "60"], "0 frames are too few"),
        (["--row", "rain"], "give --manifest as well"),
        (["--manifest", "m.yaml", "--cuts", "8"], "--manifest tells the layout, and so does --cuts"),
        (["--plot", "p.jpg"], "name it .png"),
        (["--plot", "nowhere/p.png"], "there is no folder nowhere"),
    ],
)
def test_what_does_not_fit_the_film_is_one_message_with_numbers(smooth, words, said, capsys):
    assert said in refused(capsys, smooth, *words)


def test_files_that_are_no_film_are_one_message(smooth, tmp_path, capsys):
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 100)
    assert "as a video" in refused(capsys, tmp_path / "noise.mp4")
    assert "No such file" in refused(capsys, tmp_path / "absent.mp4")
    assert "as a video" in refused(capsys, tmp_path)
    data = smooth.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])  # its index is at the front
    assert "damaged" in refused(capsys, tmp_path / "cut.mp4")
    with av.open(tmp_path / "sound.mp4", "w") as film:
        stream = film.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        film.mux([*stream.encode(frame), *stream.encode(None)])
    assert "holds no readable video" in refused(capsys, tmp_path / "sound.mp4")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(("width", "height"), [(2, 2), (8, 8), (8, 200), (96, 14)])
def test_a_film_too_small_for_optical_flow_is_one_message_with_its_size(width, height, tmp_path, capsys):
    film = encode(tmp_path / "small.mp4", [np.zeros((height, width, 3), np.uint8)] * 20)
    said = f"{film}: {width}x{height} px are too small, at least 16x16 px can be measured"
    assert said in refused(capsys, film)


@pytest.mark.parametrize(("width", "height"), [(48, 16), (16, 1000), (1000, 16)])
def test_the_smallest_and_the_narrowest_film_that_can_be_measured_is(width, height, tmp_path, capsys):
    # Not 16x16: below 46x46 px OpenCV's solver retunes itself, and stays so for the tests after this one.
    frames = [cv2.resize(frame, (width, height)) for frame in pictures(20)]
    assert measured(capsys, encode(tmp_path / "small.mp4", frames))["frames"] == 20


def test_a_stream_whose_header_has_no_frame_count_is_measured(tmp_path, capsys):
    frames = pictures(24)
    with av.open(tmp_path / "f.mp4", "w", options={"movflags": "frag_keyframe+empty_moov"}) as film:
        stream = film.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode(None))
    assert measured(capsys, tmp_path / "f.mp4")["frames"] == 24


@pytest.mark.parametrize(
    "words", [["--seams", "a"], ["--stride", "-4"], ["stray"], ["--seams", "4", "--stride", "4"]]
)
def test_words_that_make_no_command_are_a_usage_error(smooth, words):
    with pytest.raises(SystemExit) as end:
        main(["quality", str(smooth), *words])
    assert end.value.code == 2
