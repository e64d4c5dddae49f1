"""chalk's lessons, its folder, and that its training repeats itself."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chalk import train
from engine.chalk.captions import LANGUAGES, caption, vocabulary
from engine.chalk.chance import LOOP
from engine.chalk.clips import clips_at, draw_clips, pixel_batch, random_caption
from engine.chalk.course import LEAST, course, draw_course
from engine.chalk.latents import channel_std, encode, encode_clips, fingerprint
from engine.chalk.model import build_pipeline, save
from engine.chalk.muon import orthogonal
from engine.chalk.progress import load_checkpoint
from engine.chalk.scenes import (
    KINDS,
    MOTIONS,
    Figure,
    Landscape,
    held_out,
    held_out_scene,
    random_scene,
    training_scene,
)
from engine.chalk.teacher import FPS, SIZES, draw, teach
from engine.chalk.tokens import MAX_TOKENS, build_tokenizer
from engine.chalk.train_transformer import Learner, TransformerPlan, mean_square, train_transformer
from engine.chalk.train_vae import VaePlan, train_vae, unit_scale
from engine.families.cogvideox import CogVideoX
from engine.families.loading import new_canvas

WEIGHTS = Path(__file__).parent.parent / "engine" / "chalk" / "weights"
SEEDS = range(60)
# a word of each thing, in English, Hindi and Tamil
RAIN = {"en": ("rain", "raindrops"), "hi": ("बारिश",), "ta": ("மழை",)}
SUN = {"en": ("sun", "sunrise", "sunset"), "hi": ("सूरज",), "ta": ("சூரியன்",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chalk")
    save(path, build_pipeline(0, tiny=True))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return draw_clips(tmp_path_factory.mktemp("clips") / "clips.npy", 3, 100)


def still(scene, n_frames=2, size=(64, 96), seed=0):
    return draw(scene, np.random.default_rng(seed), n_frames=n_frames, size=size).astype(float)


def test_a_lesson_is_its_seed():
    first, again, other = teach(5, n_frames=9), teach(5, n_frames=9), teach(6, n_frames=9)
    assert np.array_equal(first.frames, again.frames) and first.caption == again.caption
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("size", SIZES)
def test_a_lesson_has_the_size_and_length_asked_for(size):
    lesson = teach(1, n_frames=5, size=size)
    assert lesson.frames.shape == (5, *size, 3) and lesson.frames.dtype == np.uint8


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_name_rain_and_sun_where_the_scene_has_them_and_only_there(language):
    for seed in SEEDS:
        scene = random_scene(np.random.default_rng(seed))
        words = caption(scene, language, np.random.default_rng(seed)).replace(",", " ").split()
        wet = isinstance(scene, Landscape) and scene.weather == "rain"
        sunny = isinstance(scene, Landscape) and scene.light in ("shining", "rising", "setting")
        orbit = isinstance(scene, Figure) and scene.kind == "planet"
        assert any(word in RAIN[language] for word in words) == wet
        assert orbit or any(word in SUN[language] for word in words) == sunny


def test_a_colour_agrees_with_its_noun_in_hindi():
    def said(kind, motion):
        return caption(Figure(kind, "blue", motion), "hi", np.random.default_rng(1)).split()

    assert "नीली" in said("ball", "bounce") and "नीले" in said("gears", "turn")
    assert "नीला" in said("circle", "left") and "नीला" in said("heart", "beat")


def test_training_never_sees_a_held_out_combination_and_most_kinds_of_figure_have_one():
    rng = np.random.default_rng(0)
    assert not any(held_out(training_scene(rng)) for _ in range(300))
    kept = [held_out_scene(rng) for _ in range(400)]
    assert all(held_out(scene) for scene in kept)
    kinds = {scene.kind for scene in kept if isinstance(scene, Figure)}
    # the moon has nothing but its two motions, and of few pendulums and planets the hash keeps none
    assert kinds == set(KINDS) - {"moon", "pendulum", "planet"}


def test_the_course_holds_nearly_all_that_chance_draws_and_nothing_that_is_held_out():
    scenes, rng = set(course().scenes), np.random.default_rng(77)
    assert not any(held_out(scene) for scene in scenes)
    drawn = [training_scene(rng) for _ in range(2000)]
    assert sum(scene in scenes for scene in drawn) >= 0.99 * len(drawn)


def test_rare_scenes_are_met_often_enough_and_pans_from_several_places(tmp_path):
    chance = dict.fromkeys(course().scenes, 0.0)
    for scene, share in zip(course().scenes, course().chances, strict=True):
        chance[scene] += share
    assert min(chance.values()) == pytest.approx(LEAST)
    assert chance[Figure("moon", "", "wax", night=True)] > 20 * LEAST
    number = next(i for i, scene in enumerate(course().scenes) if getattr(scene, "camera", "") == "left")
    assert number < 40 and len(set(course().scenes[number : number + 3])) == 1
    first, second, third = draw_course(tmp_path / "c.npy", number + 3, SIZES[1])[-3:, 0]
    assert (first != second).any() and (second != third).any()


@given(among=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_only_the_first_lessons_are_picked_while_a_run_is_young(among, seed):
    picked = course().pick(np.random.default_rng(seed), 200, among)
    assert len(picked) == 200 and picked.min() >= 0 and picked.max() < among


def test_a_lesson_is_drawn_as_its_scene_stands_composed(tmp_path):
    clips = draw_course(tmp_path / "c.npy", 2, SIZES[0])
    scene = course().scenes[1]
    composed = draw(scene, np.random.default_rng(9), n_frames=49, size=SIZES[0], composed=True)
    assert np.array_equal(clips[1], composed)


def test_a_random_caption_is_a_caption_and_half_of_those_with_gaps_lack_words():
    scene, chances = Figure("heart", "red", "beat", night=True), (1.0, 0.0, 0.0)
    whole = random_caption(scene, np.random.default_rng(3), chances)
    assert whole == caption(scene, "en", _after(np.random.default_rng(3)))
    pairs = [
        [random_caption(scene, np.random.default_rng(seed), chances, gaps=gaps).split() for gaps in (0, 0.5)]
        for seed in range(200)
    ]
    shorter = sum(len(some) < len(all_of_it) for all_of_it, some in pairs)
    assert 70 <= shorter <= 110 and all(set(some) <= set(all_of_it) for all_of_it, some in pairs)


def test_a_composed_scene_stands_still_where_chance_would_have_put_it_anywhere():
    figure = Figure("plant", "red", "grow")
    frames = [
        draw(figure, np.random.default_rng(seed), n_frames=1, size=SIZES[0], composed=composed)
        for composed in (True, False)
        for seed in (1, 2)
    ]
    stems = [_stem(f_THWC[0]) for f_THWC in frames]
    assert stems[0] == stems[1] == 48 and stems[2] != stems[3]


def _stem(f_HWC):
    """The column with most green above the soil."""
    red, green, _ = f_HWC[:54].astype(int).transpose(2, 0, 1)
    return round(np.average(np.arange(96) + 0.5, weights=(green - red > 60).sum(axis=0)))


PERIODIC = [
    *(Figure(kind, "red", MOTIONS[kind][0]) for kind in ("ball", "pendulum", "gears", "heart")),
    Figure("planet", "red", "orbit", night=True),
    Landscape("sea", "shining", weather="vapour"),
    Landscape("river", "", "grey", "still", "rain"),
    Landscape("hills", "shining", "white", "left"),
    Landscape("mountains", "", "grey", "right", "rain"),
]


@pytest.mark.parametrize("scene", PERIODIC, ids=lambda scene: getattr(scene, "kind", None) or scene.land)
def test_a_composed_scene_comes_round_after_the_stride_of_a_window(scene):
    n = round(LOOP * FPS)
    assert n == (13 - 4) * 4
    f_THWC = draw(scene, np.random.default_rng(5), n_frames=n + 9, size=SIZES[0], composed=True).astype(int)
    assert np.abs(f_THWC[n:] - f_THWC[:9]).max() <= 2 < np.abs(f_THWC[n // 2 + 1] - f_THWC[0]).max()


def test_two_seeds_draw_a_composed_scene_alike():
    scene = Landscape("river", "rising", weather="vapour")
    one, other = (
        draw(scene, np.random.default_rng(seed), n_frames=9, size=SIZES[0], composed=True) for seed in (1, 2)
    )
    assert np.array_equal(one, other)


def test_captions_say_an_orange():
    rng = np.random.default_rng(0)
    said = {caption(Figure("circle", "orange", "left"), "en", rng) for _ in range(20)}
    assert any("an orange" in text for text in said) and not any("a orange" in text for text in said)


def _after(rng):
    """The generator once a language has been drawn from it."""
    rng.choice(3, p=(1, 0, 0))
    return rng


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_caption_is_one_token_and_captions_fit_the_model(language):
    tokenizer = build_tokenizer(vocabulary())
    known = {word.lower() for word in vocabulary()}
    for seed in SEEDS:
        text = teach(seed, n_frames=1, language=language).caption
        words = text.replace(",", " ").split()
        assert {word.lower() for word in words} <= known
        assert len(tokenizer(text).input_ids) == len(words) + 1 <= MAX_TOKENS


def test_words_outside_the_lessons_are_spelled_in_three_scripts_without_unknown_tokens():
    tokenizer = build_tokenizer(vocabulary())
    for text in ("Zebra quartz 42", "ज्ञान और विज्ञान", "ஔவையார் கல்வி"):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) > 3


def test_the_sun_rises_and_sets():
    def yellow_height(light, frame):
        # 3 s lie between the frames; nothing else is nearly as orange as the sun
        frames = still(Landscape("sea", light), n_frames=25)
        strength = np.clip(frames[frame, ..., 0] - frames[frame, ..., 2] - 140, 0, None)
        return (strength.sum(axis=1) * np.arange(64)).sum() / strength.sum()

    assert yellow_height("rising", 24) < yellow_height("rising", 0) - 3
    assert yellow_height("setting", 24) > yellow_height("setting", 0) + 3


def centre(picture):
    """Column and row of the middle of what is red."""
    inside = (picture[..., 0] > 180) & (picture[..., 2] < 120)
    rows, columns = np.nonzero(inside)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize(
    ("motion", "step"), [("left", (-12, 0)), ("right", (12, 0)), ("up", (0, -12)), ("down", (0, 12))]
)
def test_a_form_moves_the_way_its_caption_says(motion, step):
    frames = still(Figure("circle", "red", motion), n_frames=17)
    moved = np.subtract(centre(frames[-1]), centre(frames[0]))
    assert moved == pytest.approx(step, abs=1)


@pytest.mark.parametrize(("motion", "sign"), [("grow", 1), ("shrink", -1), ("appear", 1), ("fade", -1)])
def test_a_form_changes_its_size_or_its_strength_as_its_caption_says(motion, sign):
    frames = still(Figure("square", "blue", motion), n_frames=33)
    unlike_paper = np.abs(frames - frames[:, :1, :1]).sum(axis=(1, 2, 3))
    assert sign * (unlike_paper[-1] - unlike_paper[0]) > 0.3 * unlike_paper.max()


@given(
    light=st.sampled_from(["", "shining", "rising", "setting", "moon"]),
    land=st.sampled_from(["sea", "river"]),
)
@settings(max_examples=10, deadline=None)
def test_rain_changes_the_picture_of_any_landscape(light, land):
    dry = still(Landscape(land, light, "grey", "still"))
    wet = still(Landscape(land, light, "grey", "still", "rain"))
    assert np.abs(dry - wet).mean() > 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Landscape("sea", weather="rain"), "grey clouds"),
        (lambda: Landscape("hills", weather="vapour"), "from hills"),
        (lambda: Landscape("hills", cloud="white"), "together"),
        (lambda: Landscape("sea", camera="left"), "pan over a sea"),
        (lambda: Landscape("hills", "", "white", "left", "", "in"), "stands still"),
        (lambda: Figure("ball", "red", "orbit"), "ball cannot orbit"),
        (lambda: Figure("heart", "", "beat"), "without colour"),
        (lambda: Figure("planet", "red", "orbit"), "night sky"),
    ],
)
def test_scenes_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_clips_are_drawn_once_and_then_read(tmp_path, clips):
    assert np.array_equal(clips[1], teach(101).frames)
    path = tmp_path / "c.npy"
    draw_clips(path, 1, 7)
    before = path.stat().st_mtime_ns
    assert len(draw_clips(path, 1, 7)) == 1 and path.stat().st_mtime_ns == before


def test_what_a_shorter_run_kept_is_made_anew_for_a_longer_one(tmp_path, clips):
    vae, path = build_pipeline(0, tiny=True).vae, tmp_path / "latents.npy"
    few = np.array(encode_clips(path, vae, clips[:1]))
    assert len(few) == 1 and len(encode_clips(path, vae, clips)) == 3
    assert len(encode_clips(path, vae, clips[:2])) == 2 and len(np.load(path)) == 3
    assert len(draw_clips(tmp_path / "c.npy", 1, 7)) == 1 and len(draw_clips(tmp_path / "c.npy", 2, 7)) == 2


def test_stock_diffusers_draws_from_the_folder(folder):
    pipeline = CogVideoXPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    clip = pipeline(
        "the sun shines", height=64, width=96, num_frames=9, num_inference_steps=2,
        max_sequence_length=MAX_TOKENS, output_type="np", generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip
    assert clip.shape == (1, 9, 64, 96, 3) and np.isfinite(clip).all() and clip.std() > 0


def test_our_loader_reads_the_folder_and_predicts(folder):
    model = CogVideoX.load(folder, dtype=torch.float32)
    prompt, negative = model.embed("Rain falls.", MAX_TOKENS), model.embed("", MAX_TOKENS)
    shape = (model.transformer.config.in_channels, 64 // 4, 96 // 4)
    canvas = new_canvas(folder, seed=0, shot="s", n_frames=3, frame_shape=shape, dtype="float32", n_steps=2)
    prediction = model.predict(canvas.latents, canvas.timestep, prompt, negative, 6.0)
    assert prediction.shape == canvas.latents.shape and prediction.std() > 0


def test_the_folder_holds_safetensors_and_is_small(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) < 350_000


def test_equal_seeds_build_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (build_pipeline(seed, tiny=True) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [pipeline.transformer.patch_embed.proj.weight for pipeline in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_unit_scale_makes_channels_equal_and_keeps_the_pixels(clips):
    vae = build_pipeline(0, tiny=True).vae
    z = encode(vae, clips[:1, :9])
    with torch.no_grad():
        before = vae.decode(z.permute(0, 2, 1, 3, 4)).sample
        std_C = channel_std(vae, clips[:1])
        unit_scale(vae, std_C)
        after = vae.decode(encode(vae, clips[:1, :9]).permute(0, 2, 1, 3, 4)).sample
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(channel_std(vae, clips[:1]), torch.ones(len(std_C)), atol=0.03)


def test_autoencoder_training_resumes_with_the_numbers_of_an_undisturbed_run(tmp_path, clips):
    def trained(work, *stops):
        work.mkdir()
        for stop in stops:
            vae = build_pipeline(0, tiny=True).vae
            # the rate's course depends on the number of steps, so both runs get the same peak and plateau
            train_vae(vae, clips, clips[:1], VaePlan(steps=stop, every=1), work)
        return load_checkpoint(work / "vae.ckpt")

    whole, halves = trained(tmp_path / "a", 2), trained(tmp_path / "b", 1, 2)
    assert whole["step"] == halves["step"] == 2
    assert all(torch.equal(value, halves["model"][name]) for name, value in whole["model"].items())


def test_transformer_training_resumes_with_the_numbers_of_an_undisturbed_run(tmp_path, clips):
    plan = TransformerPlan(steps=4, batch_frames=26, most=4)
    start = build_pipeline(0, tiny=True)
    latents = dict.fromkeys(SIZES, encode_clips(tmp_path / "latents.npy", start.vae, clips))
    whole = Learner(start, plan)
    expected = [whole.train_step(latents) for _ in range(4)]
    first = Learner(build_pipeline(0, tiny=True), plan)
    losses = [first.train_step(latents) for _ in range(2)]
    first.save(tmp_path / "t.ckpt")
    other = build_pipeline(9, tiny=True)
    other.register_modules(text_encoder=start.text_encoder)  # a trained part, not of this run
    second = Learner(other, plan)
    second.resume(tmp_path / "t.ckpt")
    losses += [second.train_step(latents) for _ in range(2)]
    assert losses == expected
    assert all(
        torch.equal(value, second.average.shadow[name]) for name, value in whole.average.shadow.items()
    )


def test_bfloat16_changes_the_losses_of_the_first_steps_by_less_than_a_hundredth(tmp_path, clips):
    latents = encode_clips(tmp_path / "latents.npy", build_pipeline(0, tiny=True).vae, clips)
    losses = []
    for half in (False, True):
        plan = TransformerPlan(steps=8, batch_frames=26, most=4, half=half)
        learner = Learner(build_pipeline(0, tiny=True), plan)
        losses.append([learner.train_step(dict.fromkeys(SIZES, latents)) for _ in range(8)])
    assert losses[0] != losses[1]
    assert np.allclose(losses[0], losses[1], rtol=0.01)


@given(length=st.integers(1, 5), known=st.integers(0, 4), changes=st.floats(1, 20), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_loss_counts_steady_errors_once_and_changing_ones_many_times(length, known, changes, seed):
    generator = torch.Generator().manual_seed(seed)
    known = min(known, length - 1)
    counts = (torch.arange(length) >= known).float().view(1, length, 1, 1, 1)
    steady = torch.randn(1, 1, 2, 3, 3, generator=generator).expand(1, length, 2, 3, 3)
    change = torch.randn(1, length, 2, 3, 3, generator=generator)
    change = change - change[:, known:].mean(1, keepdim=True)
    seen = change[:, known:].square().mean()
    both = mean_square(steady + change, counts, changes)
    assert torch.isclose(both, steady.square().mean() + changes * seen, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "--work", "none"], "needs --out"),
        (["export", "--work", "none", "--out", "o"], "lacks vae, text_encoder, transformer.ckpt"),
        (["transformer", "--work", "none"], "lacks vae, text_encoder"),
        (["decoder", "--work", "none"], "lacks vae"),
        (["vae", "--work", "none", "--clips", "0"], "must be 1 or more"),
    ],
)
def test_training_refuses_what_it_cannot_begin_with(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        train.main(words)
    assert said in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_latents_are_named_by_the_encoder_that_made_them():
    one, same, other = (build_pipeline(seed, tiny=True).vae for seed in (0, 0, 1))
    same.load_state_dict({**same.state_dict(), **{k: v + 1 for k, v in _decoder(same).items()}})
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def _decoder(vae):
    return {name: value for name, value in vae.state_dict().items() if name.startswith("decoder.")}


def test_transformer_training_learns_and_writes_its_log_and_grid(tmp_path, clips):
    pipeline = build_pipeline(0, tiny=True)
    stored = encode_clips(tmp_path / "latents.npy", pipeline.vae, clips) * np.float16(0.1)
    latents = dict.fromkeys(SIZES, stored)
    plan = TransformerPlan(steps=20, batch_frames=26, most=4, every=20, rate=1e-2, compiled=False)
    train_transformer(pipeline, latents, plan, tmp_path)
    assert (tmp_path / "transformer_00020.png").exists()
    assert '"step": 19' in (tmp_path / "transformer.jsonl").read_text()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "transformer.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@given(step=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_a_batch_is_its_step(clips, step):
    pairs = itertools.repeat(step, 2)
    first, again = (
        pixel_batch(clips, np.random.default_rng((0, s)), 2, 5, clips_at(s, len(clips))) for s in pairs
    )
    assert torch.equal(first, again) and first.shape == (2, 3, 5, 64, 96) and first.abs().max() <= 1


@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_orthogonal_updates_keep_the_directions_and_even_out_their_lengths(rows, columns, seed):
    # orthogonal columns with lengths from 1 to 3, so that the exact answer is known to be well conditioned
    basis = torch.linalg.qr(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))[0]
    lengths = torch.linspace(1, 3, basis.shape[1])
    even = orthogonal(basis * lengths)
    singular = torch.linalg.svdvals(even)
    assert singular.max() < 1.35 and singular.min() > 0.5
    assert (basis.T @ even).diagonal().min() > 0.5


def draw_shipped(prompt):
    pipeline = CogVideoXPipeline.from_pretrained(str(WEIGHTS), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt, height=64, width=96, num_frames=9, num_inference_steps=8, guidance_scale=4.0,
        max_sequence_length=MAX_TOKENS, output_type="np", generator=torch.Generator().manual_seed(0),
    ).frames[0]  # fmt: skip


def test_the_shipped_weights_draw_what_the_prompt_says_of_night_sea_and_mountains():
    day = draw_shipped("the sun shines over the blue sea")
    night = draw_shipped("the moon and stars shine at night over the sea")
    mountains = draw_shipped("rain falls from grey clouds over snowy mountains")
    assert night.mean() < 0.6 * day.mean()
    ground = slice(48, 64)
    blueness = [float((clip[:, ground, :, 2] - clip[:, ground, :, 1]).mean()) for clip in (day, mountains)]
    assert blueness[0] > blueness[1] + 0.2


def test_the_shipped_weights_are_small_and_safetensors_only():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 13e6
