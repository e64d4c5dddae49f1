"""A step cache is of a canvas: skipped steps ask no rank for anything, so that nothing a rank kept has a say.

The first tests show why no cache of diffusers is put into a transformer: its state lies at a place in the
model, is no part of a request, and so gives a window what was computed for another one, or in another order.
"""

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXPipeline, FirstBlockCacheConfig, TaylorSeerCacheConfig, WanPipeline
from diffusers.hooks.hooks import CacheContext, StateManager
from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook, TaylorSeerState
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.conductor import Conductor
from cluster.identity import Model, Sampling
from cluster.rank import Rank
from cluster.shots import ShotTask
from cluster.stages import Encoder
from engine.cache import WARM_UP, StepCache, Trend
from engine.denoise import answer_here, denoise_shot
from engine.families.loading import load_part, new_canvas
from engine.phases import MODES, Stitch, course_of
from engine.tensors import from_bytes, to_bytes
from engine.timeline import Part, PromptSpan, Shot
from engine.windows import Layout, Window
from manifests.store import open_store
from tests.test_engine_stitch import SCHEDULERS, stitcher, whole_window
from tests.tiny_wan import KINDS, make_pipeline

CHALK = Path(__file__).parent.parent / "engine" / "chalk" / "weights"
STEPS = 8


def family_with_cache(threshold):
    """A rank's chalk, with diffusers' cache on it as its users put it there; None is no cache."""
    family = load_part(CHALK, "transformer", "float32")
    if threshold is not None:
        family.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    return family


def predict(family, film, timestep=500, name="cond_uncond"):
    """A window's prediction: films of one seed and kin texts. Pipelines name all calls so."""
    generator, config = torch.Generator().manual_seed(0), family.transformer.config
    latents = torch.randn((1, 3, config.in_channels, 16, 24), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    shared = torch.randn(shape, generator=generator)
    own = torch.randn(shape, generator=generator.manual_seed(film))
    prompt, negative = ({"tokens": text} for text in shared + 0.3 * own)
    with family.transformer.cache_context(name):
        return family.predict(latents, torch.tensor(timestep), prompt, negative, 3.0)


def test_a_naive_step_cache_gives_one_films_window_what_was_computed_for_another():
    alone, after_another = family_with_cache(0.5), family_with_cache(0.5)
    predict(after_another, film=1)  # another film's window, on the same rank
    want, got = predict(alone, film=2), predict(after_another, film=2)
    assert torch.equal(want, predict(family_with_cache(None), film=2))  # a first call computes in full
    assert (got - want).abs().max() > 0.1 * want.std()


def test_states_named_by_window_do_not_leak_on_one_rank_but_are_lost_on_the_way_to_another():
    alone, shared, moved = (family_with_cache(0.5) for _ in range(3))
    predict(shared, film=1, name="film 1")
    for timestep in (500, 450):
        stayed = predict(shared, film=2, timestep=timestep, name="film 2")
        assert torch.equal(stayed, predict(alone, film=2, timestep=timestep, name="film 2"))
    assert not torch.equal(stayed, predict(moved, film=2, timestep=450, name="film 2"))


def test_without_a_cache_what_a_rank_predicted_before_changes_no_bit():
    used = family_with_cache(None)
    predict(used, film=1)
    assert torch.equal(predict(used, film=2), predict(family_with_cache(None), film=2))


# Which steps are skipped, and what stands for them.


def as_diffusers_decides(interval, n_steps):
    """Which of n_steps diffusers' hook computes."""
    states = StateManager(TaylorSeerState)
    states.set_context(CacheContext("all"))
    hook = TaylorSeerCacheHook(interval, WARM_UP, torch.float32, states, n_steps - 1)
    return [hook._measure_should_compute()[0] for _ in range(n_steps)]


@settings(deadline=None)
@given(st.integers(1, 10), st.integers(1, 60))
def test_the_steps_that_diffusers_computes_are_predicted_never_more_than_an_interval_apart(interval, n_steps):
    cache = StepCache(interval)
    predicted = [not cache.skips(step, n_steps) for step in range(n_steps)]
    assert predicted == as_diffusers_decides(interval, n_steps)
    assert all(predicted[:WARM_UP]) and predicted[-1]
    assert [cache.n_predicted(n_steps, k) for k in range(n_steps + 1)] == [
        sum(predicted[:k]) for k in range(n_steps + 1)
    ]
    kept = [step for step, is_predicted in enumerate(predicted) if is_predicted]
    assert all(b - a <= interval for a, b in pairwise(kept))
    assert interval > 1 or len(kept) == n_steps


@settings(deadline=None)
@given(st.floats(-9, 9), st.floats(-9, 9), st.integers(0, 50), st.integers(1, 9), st.integers(1, 9))
def test_a_prediction_that_changes_evenly_is_carried_on_exactly_and_older_ones_are_let_go(
    at_zero, rise, first, apart, ahead
):
    trend = Trend()
    for step in (0, first + 1, first + 1 + apart):  # the first of these lies on no line with the others
        value = at_zero + rise * step if step else 1e3
        trend = trend.after(step, torch.tensor([value], dtype=torch.float64))
    assert len(trend.predictions) == 2
    step = first + 1 + apart + ahead
    torch.testing.assert_close(trend.at(step), torch.tensor([at_zero + rise * step], dtype=torch.float64))
    assert trend.after(step, torch.ones(1, dtype=torch.bfloat16)).predictions[-1].dtype == torch.bfloat16


def test_a_step_is_not_skipped_before_there_is_a_trend():
    with pytest.raises(ValueError, match="step 4 is skipped after 1 predictions: two are needed"):
        Trend().after(3, torch.zeros(1)).at(4)


def families(tmp_path):
    """Folders, stock's classes and what to ask of them: chalk as shipped, tiny Wans of one transformer."""
    yield CHALK, CogVideoXPipeline, "dpm", (4, 16, 24), 32, {"height": 64, "width": 96}
    for name, kind in (("2.1", "unipc"), ("2.2 with timesteps of tokens", "euler")):
        folder = tmp_path / name
        make_pipeline(KINDS[name]).save_pretrained(folder, safe_serialization=True)
        yield folder, WanPipeline, kind, (16, 4, 6), 12, {"height": 32, "width": 48}


def test_a_shot_of_one_window_is_what_diffusers_pipeline_draws_with_its_own_taylorseer(tmp_path):
    for folder, stock, kind, frame_shape, tokens, size in families(tmp_path):
        canvas = new_canvas(
            folder, seed=5, shot="s", n_frames=3, frame_shape=frame_shape, dtype="float32", n_steps=STEPS,
            kind=kind, layout="stock",
        )  # fmt: skip
        pipeline = stock.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = type(canvas.scheduler).from_config(canvas.scheduler.config)
        pipeline.transformer.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=3, disable_cache_before_step=WARM_UP,
                disable_cache_after_step=STEPS - 1, max_order=1, taylor_factors_dtype=torch.float32,
                use_lite_mode=True,
            )
        )  # fmt: skip
        want = pipeline(
            "rain falls", "a sun", num_frames=9, num_inference_steps=STEPS, guidance_scale=4.0,
            max_sequence_length=tokens, output_type="latent", generator=torch.Generator().manual_seed(5),
            **size,
        ).frames  # fmt: skip
        want = want if stock is CogVideoXPipeline else want.transpose(1, 2)
        text, family = load_part(folder, "text", "float32"), load_part(folder, "transformer", "float32")
        texts = [text.embed(words, tokens) for words in ("rain falls", "a sun")]
        asked = []

        def answer(request, family=family, texts=texts, asked=asked):
            asked.append(request.step)
            return family.predict(request.latents, request.timestep, *texts, 4.0)

        cache, plan = StepCache(3), ([Part(Window(0, 3), 0)], torch.ones(1, 3).double().numpy())
        got = answer_here(denoise_shot(canvas, *plan, cache=cache), answer, lambda: False)
        assert asked == [step for step in range(STEPS) if not cache.skips(step, STEPS)]
        assert len(asked) < STEPS and torch.isfinite(want).all()
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


# Windows of a film on two gangs that are lost, and a conductor that is.


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cached")


def shot_of(folder, mode="blend", cache="taylorseer"):
    stitch = Stitch(mode, first_step=0 if mode == "blend" else 2)
    shot = Shot("s", 25, (PromptSpan("rain"), PromptSpan("sun", start=16, blend=4)), "", 1)
    sampling = Sampling(9, 4.0, cache=cache)
    model = Model(str(folder), "float32", "tiny")
    return ShotTask(model, shot, sampling, Layout(4, 2, 1), 64, 64, 32, stitch=stitch)


def drawn(url, task, tape, deaths=0):
    """The latents' hash and the predictions that were asked for: each by one of two gangs, in any order.

    Before `deaths` of the steps the conductor is lost with all it held, and another opens the shot.
    """
    encoder, gangs = Encoder(url), [Rank(url), Rank(url)]
    for prompt in {*task.prompts, task.negative}:
        encoder.run(prompt)
    conductor, opening, asked = Conductor(url, checkpoint_every=2), 1, []
    turn, *requests = conductor.open(task, opening)
    while turn.outcome is None:
        if deaths and tape.random() < 0.4:
            conductor, opening, deaths = Conductor(url, checkpoint_every=2), opening + 1, deaths - 1
            turn, *requests = conductor.open(task, opening)
            continue
        parts = task.course.parts_at(turn.step)
        predictions = {}
        for part in tape.sample(parts, len(parts)):
            _, predictions[part] = tape.choice(gangs).predict(requests[part])
        asked += [(turn.step, part) for part in parts]
        turn, *requests = conductor.advance(task.key, opening, *(predictions[part] for part in parts))
    return turn.outcome.files["latents"], asked


@pytest.mark.parametrize("mode", MODES)
def test_latents_have_the_same_bits_whichever_gang_predicted_what_and_whenever_a_conductor_is_lost(
    tiny_folder, place, mode
):
    task = shot_of(tiny_folder, mode)
    undisturbed, asked = drawn(str(place / mode), task, random.Random(0))
    assert len(asked) == task.course.n_predictions < shot_of(tiny_folder, mode, "none").course.n_predictions
    disturbed, more = drawn(str(place / f"{mode} again"), task, random.Random(1), deaths=3)
    assert disturbed == undisturbed and len(more) > len(asked), "a lost step is predicted again"
    assert not list(open_store(str(place / f"{mode} again")).list_keys("checkpoints"))


def test_a_skipped_step_changes_the_latents_little_and_the_key_too(tiny_folder, place):
    cached, plain = shot_of(tiny_folder), shot_of(tiny_folder, cache="none")
    assert cached.key != plain.key
    store = open_store(str(place / "both"))
    with_cache, without = (
        from_bytes(store.read_artefact(drawn(store.url, task, random.Random(0))[0]))["latents"]
        for task in (cached, plain)
    )
    assert 0 < (with_cache - without).abs().max() < 0.2 * without.std()


CACHED = {"n_steps": 9, "cache": StepCache(3)}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_shot_killed_between_skipped_steps_of_any_phase_goes_on_with_the_same_bits(mode, name):
    whole = stitcher(mode, name, **CACHED).here(whole_window)
    assert not torch.equal(whole, stitcher(mode, name, n_steps=9).here(whole_window))
    for step in range(course_of(stitcher(mode, name, **CACHED).phases).n_steps):
        killed, resumed = stitcher(mode, name, **CACHED), stitcher(mode, name, **CACHED)
        assert killed.here(whole_window, until=step) is None and killed.step == step
        resumed.restore(from_bytes(to_bytes(killed.checkpoint())))
        assert (resumed.step, resumed.index) == (step, killed.index)
        assert torch.equal(resumed.here(whole_window), whole)


def test_what_a_canvas_keeps_is_two_predictions_of_its_shape_in_its_checkpoints_and_is_needed():
    shot = stitcher("blend", **CACHED)
    shot.here(whole_window, until=4)
    state, whole = shot.checkpoint(), stitcher("blend", **CACHED).here(whole_window)
    assert state["trend"]["steps"] == [2, 4] and state["step_index"] == 7, "5 and 6 were skipped"
    assert {x.shape for x in state["trend"]["predictions"]} == {state["latents"].shape}
    shot = stitcher("blend", **CACHED)
    shot.here(whole_window, until=3)
    state, (lost, other) = shot.checkpoint(), (stitcher("blend", **CACHED) for _ in range(2))
    lost.restore({name: value for name, value in state.items() if name != "trend"})
    with pytest.raises(ValueError, match="step 5 is skipped after 1 predictions"):
        lost.here(whole_window)
    state["trend"]["predictions"][1] += 0.1
    other.restore(state)
    assert not torch.equal(other.here(whole_window), whole)
    plain = stitcher("blend", n_steps=9)
    plain.here(whole_window, until=4)
    assert "trend" not in plain.checkpoint()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(2, 10), st.sampled_from(MODES))
def test_a_course_counts_the_predicted_steps_of_every_phase(n_steps, interval, mode):
    if mode == "skeleton" and n_steps < 3:
        return
    sampling = Sampling(n_steps, 4.0, cache="taylorseer", cache_interval=interval)
    task = shot_of("/m", mode)
    task = ShotTask(task.model, task.shot, sampling, task.layout, 64, 64, 32, stitch=task.stitch)
    course, cache = task.course, StepCache(interval)
    taken = [
        len(phase.parts)
        for phase in task.phases
        for step in range(phase.n_steps)
        if not cache.skips(step, phase.n_steps)
    ]
    assert course.n_steps == len(taken) and course.n_predictions == sum(taken)
    assert [len(course.parts_at(step)) for step in range(course.n_steps)] == taken
