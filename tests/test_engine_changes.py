"""Claims about which shots are meant to change: chalk's own by what they show, any other by what is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.camera import MOVES, STATIC, Camera
from engine.chalk.captions import LANGUAGES, caption
from engine.chalk.scenes import Figure, random_scene
from engine.chalk.world import changes
from engine.changes import meant_to_change
from engine.takes import CLIP, FIRST, LAST, SOURCE

OWN = changes()


def changing(scene):
    """Whether colours of a scene change for good: not where something swings, beats, flows or travels."""
    if isinstance(scene, Figure):
        return scene.kind in ("moon", "plant") or scene.motion in ("grow", "shrink", "appear", "fade")
    return bool(scene.light in ("rising", "setting") or scene.cloud_motion == "appear" or scene.camera)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32 - 1), st.sampled_from(LANGUAGES))
def test_every_caption_of_chalk_is_meant_to_change_exactly_where_its_scene_does(seed, language):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    assert bool(meant_to_change([caption(scene, language, rng)], None, (), OWN)) == changing(scene)


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("A city at sunset, time-lapse", "sunset"),
        ("The sun slowly rises behind a temple", "sun rises"),
        ("the rising sun over Varanasi", "rising sun"),
        ("A field from day to night", "from day to night"),
        ("An ice cube melting in a glass", "melts"),
        ("the leaf turns from green to yellow and becomes dry", "becomes"),
        ("A monk walks. The camera slowly pans left.", "pan left"),
        ("A street, the camera tracks a red car", "camera tracks"),
        ("The drone's camera orbits the subject", "camera orbits"),
    ],
)
def test_a_change_that_is_asked_for_in_words_is_found_in_any_form_and_named(prompt, phrase):
    assert meant_to_change([prompt], None, ()) == f"its prompt says {phrase!r}"


@pytest.mark.parametrize(
    "prompt",
    [
        "the sun shines and water vapour rises from the sea",
        "rain falls from dark grey clouds over green hills",
        "a planet orbits the sun",
        "gears turn",
        "a monk in the morning light, the camera stands still",
        "",
    ],
)
def test_a_shot_of_which_nothing_says_so_is_not_meant_to_change(prompt):
    assert meant_to_change([prompt], Camera(STATIC), (FIRST, CLIP), OWN) == ""


@pytest.mark.parametrize("move", sorted(set(MOVES) - {STATIC}))
def test_a_camera_that_moves_changes_what_is_seen(move):
    assert meant_to_change(["a hill"], Camera(move, "slow"), ()) == f"its camera moves (slow {move})"


def test_prompts_that_follow_each_other_and_pictures_that_come_later_change_a_shot():
    assert "prompt changes" in meant_to_change(["a hill", "a hill in rain"], None, ())
    assert "redraws a clip" in meant_to_change(["a hill"], None, (SOURCE,))
    assert "picture of its own" in meant_to_change(["a hill"], None, (FIRST, LAST))


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_has_an_answer(prompt, own):
    assert isinstance(meant_to_change([prompt], None, (), own), str)
