"""How chalk is judged: which captions it is asked, that wrong clips are noticed, and that clips go on."""

import json

import numpy as np
import pytest
from diffusers import CogVideoXPipeline

from engine.chalk.captions import LANGUAGES
from engine.chalk.clips import held_out_captions
from engine.chalk.given import go_on
from engine.chalk.judge import judge
from engine.chalk.long_shots import FPS, SCENES, SECONDS, survivals
from engine.chalk.model import WEIGHTS, build_pipeline, save
from engine.chalk.scenes import Figure, held_out
from engine.chalk.teacher import SIZES, draw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chalk")
    save(path, build_pipeline(0, tiny=True))
    return path


def shown(scene, n_frames, seed=0):
    return draw(scene, np.random.default_rng(seed), n_frames=n_frames, size=SIZES[0])


def test_every_language_is_asked_for_the_same_scenes_which_training_never_saw():
    asked = {language: held_out_captions(30, language) for language in LANGUAGES}
    scenes = {language: [scene for scene, _ in pairs] for language, pairs in asked.items()}
    assert scenes["en"] == scenes["hi"] == scenes["ta"] and all(map(held_out, scenes["en"]))
    assert asked["en"] == held_out_captions(30, "en")
    assert not {text for _, text in asked["en"]} & {text for _, text in asked["hi"]}


def test_every_question_names_the_colour_that_it_is_marked_for():
    pairs = held_out_captions(300, "en")
    plants = [(scene, text) for scene, text in pairs if isinstance(scene, Figure) and scene.kind == "plant"]
    assert len(plants) > 20 and all(scene.colour in text for scene, text in plants)


def test_an_untrained_model_is_judged_and_fails(folder, tmp_path):
    pipeline = CogVideoXPipeline.from_pretrained(str(folder), local_files_only=True)
    table = judge(pipeline, "en", 4, tmp_path)
    record = json.loads((tmp_path / "en.json").read_text())
    assert record["object"]["asked"] == 4 and record["object"]["right"] == table.axes["object"].right < 4
    assert (tmp_path / "en.png").exists() and "by attribute" in (tmp_path / "en.txt").read_text()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: getattr(scene, "kind", None) or scene.land)
def test_an_object_that_stays_is_seen_all_through_a_long_shot(scene):
    assert survivals(shown(scene, SECONDS * FPS), scene) == [True, True, True]


def test_an_object_that_is_lost_in_the_middle_of_a_long_shot_is_missed():
    heart, ball = Figure("heart", "red", "beat"), Figure("ball", "red", "bounce")
    f_THWC = np.concatenate([shown(heart, 60), shown(ball, SECONDS * FPS - 60)])
    assert survivals(f_THWC, heart) == [True, False, False]


def test_a_clip_goes_on_from_the_frames_that_are_given(folder):
    first = shown(SCENES[0], 5)
    clip = go_on(folder, first, "the sun shines", n_frames=17, n_steps=2)
    assert clip.shape == (17, *SIZES[0], 3) and clip.dtype == np.uint8
    assert not np.array_equal(clip, go_on(folder, first[::-1], "the sun shines", n_frames=17, n_steps=2))


def test_the_shipped_weights_animate_a_given_image():
    image = shown(SCENES[4], 1)
    clip = go_on(WEIGHTS, image, "a red pendulum swings", n_frames=17, n_steps=8)
    squares = np.square(clip[0].astype(float) - image[0]).mean()
    assert squares < 255**2 / 10**2.2  # 22 dB: the autoencoder's picture of it
    assert np.abs(clip[-1].astype(float) - clip[0]).mean() > 0.5


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [(17, 17, "nothing is left"), (4, 17, "4 pixel frames"), (1, 16, "16 pixel frames")],
)
def test_numbers_of_frames_that_do_not_fit_are_refused(folder, given, wanted, said):
    with pytest.raises(ValueError, match=said):
        go_on(folder, shown(SCENES[0], given), "the sun", n_frames=wanted)
