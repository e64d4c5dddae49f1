"""How chalk is taught to end with a picture: its lessons, its training, and how an arrival is measured."""

import json

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chalk import train_last
from engine.chalk.arrivals import N_FRAMES, UNLIKE, arrival, journeys
from engine.chalk.endings import SHARES, draw_lesson, encode_lessons, lesson, n_shown
from engine.chalk.given import go_on
from engine.chalk.model import build_pipeline, save
from engine.chalk.scenes import held_out
from engine.chalk.train_last import LastLearner, LastPlan, lessons_at
from engine.families.adapter_files import check_fit, shapes_of, weights_of

LENGTHS = {5: 0.5, 7: 0.5}
PLAN = LastPlan(steps=20, batch_frames=20, rank=4, rate=2e-2, compiled=False)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    folder, vae = tmp_path_factory.mktemp("lessons"), build_pipeline(0, tiny=True).vae
    return {length: encode_lessons(folder / f"{length}.npy", vae, length, 4) for length in LENGTHS}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Lessons of two short lengths alone."""
    monkeypatch.setattr(train_last, "SHARES", LENGTHS)


@given(length=st.sampled_from(list(SHARES)), number=st.integers(0, 1200))
@settings(max_examples=60, deadline=None)
def test_no_lesson_is_of_a_scene_that_is_held_out_and_none_runs_longer_than_forms_stay(length, number):
    told = lesson(length, number)
    assert told == lesson(length, number)
    assert not any(held_out(scene) for scene in told.scenes)
    assert told.pace * n_shown(length) / 8 <= 6.5 or told.pace == 1.0
    assert len(told.scenes) == 1 or (told.composed and told.pace == 1.0)


def test_lessons_are_of_every_kind_and_a_faded_one_leads_from_its_first_scene_to_its_second():
    told = [lesson(13, number) for number in range(200)]
    counts = [sum(map(chosen, told)) for chosen in (
        lambda one: len(one.scenes) == 2, lambda one: one.pace not in (1.0,), lambda one: one.composed
    )]  # fmt: skip
    assert 10 < counts[0] < 50 and 10 < counts[1] < 80 and 60 < counts[2] < 160
    number = next(number for number, one in enumerate(told) if len(one.scenes) == 2)
    clip = draw_lesson(13, number).astype(int)
    assert clip.shape == (46, 64, 96, 3)
    ends = np.abs(clip[-1] - clip[0]).mean()
    assert ends > 3 and np.abs(np.diff(clip, axis=0)).mean(axis=(1, 2, 3)).max() < ends / 4


def test_the_last_latent_of_a_lesson_is_what_a_film_is_given_of_its_last_picture(latents):
    pipeline = build_pipeline(0, tiny=True)
    from engine.families.cogvideox import CogVideoX
    from engine.takes import ENDING, LAST

    picture = draw_lesson(5, 2)[-1:]
    want = CogVideoX(pipeline).give({LAST: picture}, 17)[ENDING][0, 0]
    assert torch.allclose(torch.from_numpy(latents[5][2, -1].astype(np.float32)), want, atol=5e-3)


def test_training_resumes_with_the_numbers_of_an_undisturbed_run_and_leaves_the_weights(tmp_path, latents):
    pipeline = build_pipeline(0, tiny=True)
    before = {name: value.clone() for name, value in pipeline.transformer.state_dict().items()}
    whole = LastLearner(pipeline, PLAN)
    expected = [whole.train_step(latents) for _ in range(4)]
    first = LastLearner(build_pipeline(0, tiny=True), PLAN)
    losses = [first.train_step(latents) for _ in range(2)]
    first.save(tmp_path / "last.ckpt")
    second = LastLearner(build_pipeline(0, tiny=True), PLAN)
    second.resume(tmp_path / "last.ckpt")
    losses += [second.train_step(latents) for _ in range(2)]
    assert losses == expected
    assert all(
        torch.equal(value, second.average.shadow[name]) for name, value in whole.average.shadow.items()
    )
    after = {
        name.replace(".base_layer", ""): value
        for name, value in pipeline.transformer.state_dict().items()
        if "lora" not in name
    }
    assert all(torch.equal(before[name], value) for name, value in after.items()) and len(after) == len(
        before
    )


def test_training_learns_and_what_it_writes_is_an_adapter_of_the_model(tmp_path, latents):
    pipeline = build_pipeline(0, tiny=True)
    save(tmp_path / "model", pipeline)
    weights = weights_of(tmp_path / "model")
    learner = train_last.train_last(pipeline, latents, PLAN, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "last_frame.jsonl").open()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    learner.export(tmp_path / "model" / "last_frame.safetensors")
    check_fit(shapes_of(tmp_path / "model" / "last_frame.safetensors"), weights)
    stock = CogVideoXPipeline.from_pretrained(str(tmp_path / "model"), local_files_only=True)
    stock.load_lora_weights(str(tmp_path / "model" / "last_frame.safetensors"), local_files_only=True)
    clip = draw_lesson(5, 0)
    films = [
        go_on(tmp_path / "model", first, "the sun", n_frames=17, n_steps=2, last_HWC=clip[-1])
        for first in (clip[:1], None)
    ]
    assert all(film.shape == (17, 64, 96, 3) for film in films) and not np.array_equal(*films)
    (tmp_path / "model" / "last_frame.safetensors").unlink()
    with pytest.raises(ValueError, match="was not taught to end with a picture"):
        go_on(tmp_path / "model", None, "the sun", n_frames=17, last_HWC=clip[-1])


@given(
    steps=st.lists(st.integers(0, 10**5), min_size=2, max_size=2).map(sorted), length=st.sampled_from([5, 7])
)
def test_a_longer_run_draws_from_as_many_lessons_or_more(steps, length):
    few, many = (lessons_at(step, length, 300) for step in steps)
    assert 0 < few <= many <= 300


def test_a_film_is_measured_at_its_last_frame_and_where_it_jumps():
    ramp = np.repeat(np.arange(20, 40, dtype=np.uint8), 64 * 96 * 3).reshape(20, 64, 96, 3)
    even = arrival(ramp, ramp[-1])
    assert even.psnr_db == 100 and even.delta_e == 0 and even.jump == even.usual == 1
    jumped = ramp.copy()
    jumped[-4:] += 40
    told = arrival(jumped, ramp[-1])
    assert told.jump == pytest.approx(41) and told.usual == 1 and told.psnr_db < 20 and told.delta_e > 10


def test_the_films_that_are_measured_lead_somewhere_and_are_always_the_same():
    films = journeys()
    assert len(films) == 12 and N_FRAMES == 49
    for film, again in zip(films, journeys(), strict=True):
        assert film.first.shape == (1, *film.last.shape) == (1, 64, 96, 3)
        assert np.abs(film.first[0].astype(int) - film.last).mean() > UNLIKE, film.prompt
        assert film.prompt == again.prompt and np.array_equal(film.last, again.last)
