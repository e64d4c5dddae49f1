"""Every mode of work with chalk's own weights, from a manifest to the pictures of its film."""

import json
import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from engine.chalk.oracle.table import evaluate
from engine.chalk.scenes import Figure, Landscape
from engine.chalk.teacher import draw
from engine.film.encode import encode_segment
from jobs.cli import main

SIZE, N_FRAMES = (64, 96), 25
BALL, SEA, DAWN = Figure("circle", "red", "right"), Landscape("sea", "shining"), Landscape("sea", "rising")
SHOTS = {
    "text": {"prompt": "a red circle moves right"},
    "picture": {"prompt": "the sun shines over the blue sea", "first_frame_uri": "sea.png"},
    "extension": {"prompt": "a red circle moves right", "extend_uri": "ball.mp4"},
    "redrawing": {"prompt": "a blue circle moves right", "source_video_uri": "ball.mp4", "strength": 0.8},
    "arrival": {
        "prompt": "the sun rises over the sea",
        "first_frame_uri": "dawn.png",
        "last_frame_uri": "sea.png",
    },
}


def teacher(scene):
    return draw(scene, np.random.default_rng(4), n_frames=N_FRAMES, size=SIZE, composed=True)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The frames (T, H, W, 3) of every mode's shot, at the model's own size."""
    home = tmp_path_factory.mktemp("modes")
    for name, scene in (("sea", SEA), ("dawn", DAWN)):
        Image.fromarray(teacher(scene)[0]).save(home / f"{name}.png")
    encode_segment(iter(teacher(BALL)), home / "ball.mp4", Fraction(8), crf=10, preset="ultrafast")
    shots = [{"shot_id": name, "duration_frames": N_FRAMES, **asked} for name, asked in SHOTS.items()]
    row = {"row_id": "modes", "profile": "chalk", "seed": 5, "shots": shots}
    (home / "m.jsonl").write_text(json.dumps(row))
    told = [f"roots=[{home}]", f"identity={home / 'identity'}", "profiles.chalk.picture.preset=ultrafast"]
    assert main(["run", str(home / "m.jsonl"), "--out", str(home / "out"), "--local", *told]) == 0
    frames = decoded(next((home / "out" / "films").glob("*.mp4")))
    parts = {name: frames[n * N_FRAMES : (n + 1) * N_FRAMES] for n, name in enumerate(SHOTS)}
    if sheet := os.environ.get("LONGTAKE_SHEET"):  # a PNG to look at
        rows = [np.concatenate(list(part[:: N_FRAMES // 4]), axis=1) for part in parts.values()]
        Image.fromarray(np.concatenate(rows)).save(sheet)
    return parts


def decoded(path):
    with av.open(str(path)) as film:
        whole = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    return np.stack([cv2.resize(each, SIZE[::-1], interpolation=cv2.INTER_AREA) for each in whole])


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


def read(clip, scene):
    (case,) = evaluate([(clip, scene)]).cases
    return case


def test_a_text_is_drawn_as_it_says(shown):
    case = read(shown["text"], BALL)
    assert case.score.all, case


def test_a_picture_is_the_first_frame_and_its_scene_goes_on(shown):
    assert psnr(shown["picture"][0], teacher(SEA)[0]) > 24
    assert read(shown["picture"], SEA).reading.land == "sea"


def test_an_extension_goes_on_from_where_its_clip_ends(shown):
    last, first = teacher(BALL)[-1], shown["extension"][0]
    others = [psnr(clip[0], last) for name, clip in shown.items() if name != "extension"]
    assert psnr(first, last) > max(20, *others)


def test_a_clip_is_redrawn_in_another_colour_and_keeps_its_motion(shown):
    case = read(shown["redrawing"], Figure("circle", "blue", "right"))
    assert case.score.all, case


def test_a_shot_between_two_pictures_begins_and_ends_with_them_and_leads_from_one_to_the_other(shown):
    begin, end, film = teacher(DAWN)[0], teacher(SEA)[0], shown["arrival"]
    assert psnr(begin, end) < 20  # else nothing would have to happen
    assert psnr(film[0], begin) > 24 and psnr(film[-1], end) > 24
    steps = np.abs(np.diff(film.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 0.4 * np.abs(end.astype(float) - begin).mean(), "it jumps"
    assert read(film, DAWN).reading.land == "sea"
