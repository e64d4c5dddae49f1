"""The oracle reads the teacher's own clips, also blurred and noisy ones, and is not pleased by wrong ones.

`python -m engine.chalk.oracle --teacher 300` is the same on more clips of every size.
"""

import cv2
import numpy as np
import pytest

from engine.chalk.oracle.__main__ import teacher_clips
from engine.chalk.oracle.table import evaluate
from engine.chalk.scenes import Figure
from engine.chalk.teacher import SIZES

AXES = ("object", "colour", "motion", "backdrop")
N = 90


@pytest.fixture(scope="module")
def clips():
    return list(teacher_clips(N))


def shares(pairs):
    counts = evaluate(pairs).axes
    return {axis: counts[axis].share for axis in AXES}


def test_the_teachers_own_clips_are_read(clips):
    assert min(shares(clips).values()) >= 0.98


@pytest.mark.parametrize("size", SIZES[1:])
def test_other_sizes_are_read_too(size):
    assert min(shares(teacher_clips(40, size=size)).values()) >= 0.97


def test_blur_and_noise_do_not_mislead_it(clips):
    rng = np.random.default_rng(0)

    def worn(f_THWC):
        soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in f_THWC])
        return np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)

    assert min(shares((worn(f_THWC), scene) for f_THWC, scene in clips[:60]).values()) >= 0.95


def test_clips_of_other_scenes_are_not_what_was_asked_for(clips):
    swapped = [(clips[i][0], clips[(i + 7) % N][1]) for i in range(N)]
    found = shares(swapped)
    assert found["object"] < 0.35 and found["colour"] < 0.5 and found["motion"] < 0.25


def test_frozen_clips_show_no_motion(clips):
    frozen = [(np.repeat(f_THWC[:1], len(f_THWC), axis=0), scene) for f_THWC, scene in clips]
    assert shares(frozen)["motion"] < 0.05


def test_clips_in_other_colours_fail_in_colour(clips):
    figures = [(f_THWC, scene) for f_THWC, scene in clips if isinstance(scene, Figure) and scene.colour]
    turned = [(np.ascontiguousarray(f_THWC[..., ::-1]), scene) for f_THWC, scene in figures]
    seen = evaluate(turned).axes["colour"].share
    assert seen < 0.6 < evaluate(figures).axes["colour"].share  # green and purple keep their names
