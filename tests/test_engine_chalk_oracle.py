"""The oracle reads the teacher's own clips, also blurred and noisy ones, and is not pleased by wrong ones.

`python -m engine.chalk.oracle --teacher 300` does the first on more clips of every size and prints tables.
"""

import cv2
import numpy as np
import pytest

from engine.chalk.oracle.__main__ import teacher_clips
from engine.chalk.oracle.reading import read
from engine.chalk.oracle.score import score
from engine.chalk.oracle.table import Case, Table, evaluate
from engine.chalk.scenes import COLOURS, Figure, Landscape
from engine.chalk.teacher import SIZES, draw

AXES = ("object", "colour", "motion", "backdrop")
N = 110


@pytest.fixture(scope="module")
def clips():
    return list(teacher_clips(N))


@pytest.fixture(scope="module")
def table(clips):
    return evaluate(clips)


def shares(table):
    return {axis: table.axes[axis].share for axis in AXES}


def drawn(scene, size=SIZES[0], n_frames=33):
    return draw(scene, np.random.default_rng(3), n_frames=n_frames, size=size)


def test_the_teachers_own_clips_are_read(table):
    assert min(shares(table).values()) >= 0.99


@pytest.mark.parametrize("size", SIZES[1:])
def test_other_sizes_are_read_too(size):
    assert min(shares(evaluate(teacher_clips(35, size=size))).values()) >= 0.97


@pytest.mark.parametrize("n_frames", [17, 49])
def test_short_and_long_clips_are_read_too(n_frames):
    # a cloud or a peak may hide the sun for all of 17 frames
    assert min(shares(evaluate(teacher_clips(25, n_frames=n_frames))).values()) >= 0.94


def test_blur_and_noise_do_not_mislead_it(clips):
    rng = np.random.default_rng(0)

    def worn(f_THWC):
        soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in f_THWC])
        return np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)

    table = evaluate((worn(f_THWC), scene) for f_THWC, scene in clips[:70])
    assert min(shares(table).values()) >= 0.97


def test_clips_of_other_scenes_are_not_what_was_asked_for(table):
    pairs = [(table.cases[i].reading, table.cases[(i + 7) % N].scene) for i in range(N)]
    found = shares(Table(tuple(Case(scene, reading, score(reading, scene)) for reading, scene in pairs)))
    assert found["object"] < 0.3 and found["colour"] < 0.4 and found["motion"] < 0.2


def test_frozen_clips_show_no_motion(clips):
    frozen = [(np.repeat(f_THWC[16:17], len(f_THWC), axis=0), scene) for f_THWC, scene in clips[:70]]
    assert shares(evaluate(frozen))["motion"] == 0


@pytest.mark.parametrize("kind", ["circle", "ball", "gears", "planet", "plant"])
def test_another_colour_is_another_colour(kind):
    motion = {"circle": "left", "ball": "bounce", "gears": "turn", "planet": "orbit", "plant": "grow"}[kind]
    asked = Figure(kind, "red", motion, night=True)
    seen = {colour: read(drawn(Figure(kind, colour, motion, night=True), (64, 64))) for colour in COLOURS}
    assert [colour for colour in COLOURS if score(seen[colour], asked).colour] == ["red"]
    assert all(score(reading, asked).object and score(reading, asked).motion for reading in seen.values())


def test_time_reversed_clips_move_the_other_way():
    other = {"left": "right", "up": "down", "grow": "shrink", "appear": "fade", "wax": "wane"}
    for motion, back in (other | {back: motion for motion, back in other.items()}).items():
        figure = Figure("moon", "", motion, True) if motion[0] == "w" else Figure("square", "blue", motion)
        assert read(drawn(figure)[::-1]).motion == back


def test_what_was_not_asked_for_is_not_a_right_landscape():
    asked = Landscape("sea", "shining", "white", "left")
    wrong = {
        Landscape("river", "shining", "white", "left"): "object.land",
        Landscape("sea", "", "white", "left"): "object.light",
        Landscape("sea", "shining", "white", "left", "vapour"): "object.weather",
        Landscape("sea", "shining", "grey", "left"): "colour.clouds",
        Landscape("sea", "shining", "white", "right"): "motion.clouds",
        Landscape("sea", "rising", "white", "left"): "motion.light",
    }
    assert score(read(drawn(asked)), asked).all
    for scene, name in wrong.items():
        assert not score(read(drawn(scene)), asked).parts[name]


def test_an_axis_on_which_nothing_is_asked_for_is_not_counted():
    land, moon = Landscape("hills"), Figure("moon", "", "wax", night=True)
    assert score(read(drawn(land)), land).motion is None and score(read(drawn(land)), land).colour is None
    assert score(read(drawn(moon)), moon).colour is None
    table = evaluate([(drawn(land), land), (drawn(moon), moon)])
    assert table.axes["motion"].asked == 1 and np.isnan(table.axes["colour"].share)


@pytest.mark.parametrize("level", [0, 20, 128, 240, 255])
def test_an_empty_clip_shows_nothing(level):
    reading = read(np.full((33, 64, 96, 3), level, np.uint8))
    assert not (reading.motion or reading.colour or reading.land or reading.disc or reading.weather)
    assert reading.kind in ("", "landscape")


def test_noise_shows_nothing_that_moves():
    noise = np.random.default_rng(0).integers(0, 256, (33, 64, 96, 3), np.uint8)
    reading = read(noise)
    assert not (reading.motion or reading.disc_motion or reading.weather_motion or reading.camera)
