"""How chalk is judged: which captions it is asked, that wrong clips are noticed, and that clips go on."""

import json

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from PIL import Image

from engine.chalk import given
from engine.chalk.captions import LANGUAGES
from engine.chalk.clips import HELD_OUT_SEED, held_out_captions
from engine.chalk.given import go_on
from engine.chalk.judge import judge
from engine.chalk.judge import main as judge_main
from engine.chalk.long_shots import FPS, SCENES, SECONDS, survivals
from engine.chalk.long_shots import main as long_shots_main
from engine.chalk.model import WEIGHTS, build_pipeline, save
from engine.chalk.oracle.reading import read
from engine.chalk.scenes import Figure, Landscape, held_out
from engine.chalk.teacher import SIZES, draw, teach
from engine.chalk.train_vae import fidelity


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
    other = go_on(folder, shown(SCENES[3], 5), "the sun shines", n_frames=17, n_steps=2)
    assert not np.array_equal(clip[9:], other[9:])  # also what was not given


@pytest.mark.parametrize(
    ("scene", "prompt"),
    [
        (Figure("heart", "green", "beat"), "a heart beats"),
        (Figure("ball", "purple", "bounce", night=True), "a ball bounces at night"),
        (Figure("pendulum", "red", "swing"), "a red pendulum swings"),
    ],
    ids=lambda part: getattr(part, "kind", None),
)
def test_the_shipped_weights_animate_a_given_image_in_its_colours(scene, prompt):
    image = draw(scene, np.random.default_rng(0), n_frames=1, size=SIZES[0], composed=True)
    seen = read(go_on(WEIGHTS, image, prompt, n_steps=12))
    assert (seen.kind, seen.colour, seen.motion) == (scene.kind, scene.colour, scene.motion)


def test_the_command_shows_how_an_image_goes_on(tmp_path):
    Image.fromarray(shown(SCENES[4], 1)[0]).save(tmp_path / "image.png")
    files = ["--from", f"{tmp_path / 'image.png'}", "--out", f"{tmp_path / 'clip.png'}"]
    given.main([*files, "--prompt", "a red pendulum swings"])
    assert Image.open(tmp_path / "clip.png").size == (8 * 96 * 2, 64 * 2)


@pytest.mark.parametrize(("frames", "said"), [("5", "has 1 frames"), ("1", "no image or film")])
def test_the_command_says_what_is_wrong_with_a_file(tmp_path, capsys, frames, said):
    Image.fromarray(shown(SCENES[4], 1)[0]).save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("no picture")
    file = "image.png" if frames == "5" else "text.png"
    with pytest.raises(SystemExit):
        given.main(
            [
                "--from",
                f"{tmp_path / file}",
                "--frames",
                frames,
                "--prompt",
                "x",
                "--out",
                f"{tmp_path / 'o'}",
            ]
        )
    assert said in capsys.readouterr().err


def test_the_shipped_autoencoder_shows_clips_of_unseen_seeds_at_30_db_or_more():
    vae = AutoencoderKLCogVideoX.from_pretrained(str(WEIGHTS / "vae"))
    clips = np.stack([teach(HELD_OUT_SEED + i, n_frames=17).frames for i in range(16)])
    psnr, pairs = fidelity(vae, clips)
    assert len(pairs) == 16 and psnr >= 30


@pytest.mark.parametrize("command", [judge_main, long_shots_main])
def test_a_folder_without_a_model_is_refused(tmp_path, capsys, command):
    with pytest.raises(SystemExit):
        command(["--weights", f"{tmp_path}", "--out", f"{tmp_path / 'out'}"])
    assert "holds no model_index.json" in capsys.readouterr().err


def test_what_is_seen_beside_all_that_a_scene_holds_takes_nothing_away():
    both = shown(Landscape("river", "moon", weather="vapour"), SECONDS * FPS)
    assert survivals(both, Landscape("river", "moon")) == [True, True, True]


def test_a_landscape_without_its_sun_is_missed():
    scene = Landscape("mountains", "shining")
    f_THWC = np.concatenate([shown(scene, 60), shown(Landscape("mountains"), SECONDS * FPS - 60)])
    assert survivals(f_THWC, scene) == [True, False, False]


@pytest.mark.parametrize(
    ("n_given", "wanted", "said"),
    [(17, 17, "nothing is left"), (4, 17, "4 pixel frames"), (1, 16, "16 pixel frames")],
)
def test_numbers_of_frames_that_do_not_fit_are_refused(folder, n_given, wanted, said):
    with pytest.raises(ValueError, match=said):
        go_on(folder, shown(SCENES[0], n_given), "the sun", n_frames=wanted)
