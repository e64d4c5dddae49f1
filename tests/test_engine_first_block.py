"""A first-block cache goes on from anchors, which a canvas keeps: whether a rank has kept the states of one
or makes them again, their bits are the same, so that nothing it predicted before has a say.

tests/test_engine_step_cache.py shows what becomes of windows with diffusers' cache as its users put it there.
"""

import random
from dataclasses import replace
from itertools import islice

import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cost import GIB
from engine.anchors import Anchored, after
from engine.denoise import WindowRequest, answer_here, denoise_shot
from engine.families import first_block
from engine.families.first_block import first_blocks
from engine.families.loading import load_part, new_canvas
from engine.tensors import from_bytes, to_bytes
from engine.timeline import Part
from engine.windows import Window
from jobs.profile import SpecError
from jobs.spec import load_spec
from jobs.stock import stock
from tests.test_engine_step_cache import CHALK, drawn, families, shot_of

SAMPLING, STEPS, THRESHOLD = "profiles.chalk.sampling", 8, 0.4
WHOLE = ([Part(Window(0, 3), 0)], torch.ones(1, 3).double().numpy())


def chalk_canvas(seed=5):
    return new_canvas(
        CHALK, seed=seed, shot="s", n_frames=3, frame_shape=(4, 16, 24), dtype="float32", n_steps=STEPS,
        kind="dpm", layout="stock",
    )  # fmt: skip


@pytest.fixture(scope="module")
def chalk():
    """A rank's transformer, and the texts of two films with that of no words."""
    text = load_part(CHALK, "text", "float32")
    words = ("rain falls", "the sun shines", "")
    return load_part(CHALK, "transformer", "float32"), [text.embed(each, 32) for each in words]


def answers_of(family, prompt, negative, threshold=THRESHOLD):
    """What a rank says to a request, and which of its branches were in full."""
    told = []

    def answer(request):
        blocks = first_blocks(family, threshold)
        texts = (prompt, negative, 4.0)
        told.append(blocks.predict(request.latents, request.timestep, *texts, request.anchors))
        return told[-1]

    return answer, told


def shot_here(canvas, answer, until=None):
    loop = denoise_shot(canvas, *WHOLE, anchored=True)
    return answer_here(loop, answer, lambda: canvas.step_index == until)


@pytest.fixture(scope="module")
def alone(chalk):
    """The latents of the first film, with no other on its rank, and what was in full."""
    family, (rain, _, nothing) = chalk
    answer, told = answers_of(family, rain, nothing)
    return shot_here(chalk_canvas(), answer), [each.full for each in told]


def test_the_cache_leaves_blocks_out_at_some_steps_and_little_is_other(chalk, alone):
    family, (rain, _, nothing) = chalk
    latents, full = alone
    assert full[0] == (True,) and 0 < full.count((False,)) < STEPS
    first_blocks(family, 0.0)
    plain = answer_here(
        denoise_shot(chalk_canvas(), *WHOLE),
        lambda request: family.predict(request.latents, request.timestep, rain, nothing, 4.0),
        lambda: False,
    )
    assert 0 < (latents - plain).std() < 0.5 * plain.std()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 999))
def test_neither_what_a_rank_has_kept_nor_another_film_between_has_a_say(chalk, alone, seed):
    """States are dropped at random steps, as when another rank is asked, and another film goes between."""
    family, (rain, sun, nothing), tape = *chalk, random.Random(seed)
    answer, told = answers_of(family, rain, nothing)
    other, _ = answers_of(family, sun, nothing)
    loops = [denoise_shot(chalk_canvas(), *WHOLE, anchored=True) for _ in range(2)]
    mine, theirs = (next(loop) for loop in loops)
    for _ in range(STEPS):
        if tape.random() < 0.4:
            first_blocks(family, THRESHOLD).states.clear()
        if theirs[0].step < STEPS - 1 and tape.random() < 0.5:
            theirs = loops[1].send([other(theirs[0])])
        if tape.random() < 0.2:
            answer(mine[0])  # whose reply is lost
            told.pop()
        try:
            mine = loops[0].send([answer(mine[0])])
        except StopIteration as end:
            latents = end.value
    assert torch.equal(latents, alone[0]) and [each.full for each in told] == alone[1]


def test_states_beyond_what_is_kept_go_oldest_first_and_are_made_again(chalk, alone, monkeypatch):
    family, (rain, sun, nothing) = chalk
    first_blocks(family, 0.0)
    answer, _ = answers_of(family, rain, nothing)
    shot_here(chalk_canvas(), answer)
    states = first_blocks(family, THRESHOLD).states
    assert len(states) == 1, "one branch of one window: an older anchor's go"
    one = sum(map(first_block._bytes, states.values()))
    monkeypatch.setattr(first_block, "KEPT_BYTES", int(1.5 * one))
    (old,) = states
    shot_here(chalk_canvas(seed=6), answers_of(family, sun, nothing)[0])
    assert len(states) == 1 and old not in states
    monkeypatch.setattr(first_block, "KEPT_BYTES", 0)
    assert torch.equal(shot_here(chalk_canvas(), answer), alone[0]) and not states


def test_an_interrupted_prediction_leaves_no_state_that_is_half_of_it(chalk, alone):
    family, (rain, _, nothing) = chalk
    answer, _ = answers_of(family, rain, nothing)
    last = family.transformer.transformer_blocks[-1]

    def breaks(*_):
        raise KeyboardInterrupt

    def interrupted(request):
        hook = last.register_forward_pre_hook(breaks)
        try:
            with pytest.raises(KeyboardInterrupt):
                answer(request)
        finally:
            hook.remove()
        return answer(request)

    assert torch.equal(shot_here(chalk_canvas(), interrupted), alone[0])


@pytest.mark.parametrize("step", [1, 4, STEPS - 1])
def test_a_shot_killed_at_any_step_goes_on_with_the_same_bits(chalk, alone, step):
    family, (rain, _, nothing) = chalk
    answer, _ = answers_of(family, rain, nothing)
    killed, resumed = chalk_canvas(), chalk_canvas()
    assert shot_here(killed, answer, until=step) is None
    first_blocks(family, 0.0)
    resumed.restore(from_bytes(to_bytes(killed.checkpoint())))
    assert torch.equal(shot_here(resumed, answer), alone[0])


def test_a_shot_of_one_window_is_what_diffusers_pipeline_draws_with_its_own_first_block_cache(tmp_path):
    for folder, stock_class, kind, frame_shape, tokens, size in islice(families(tmp_path), 2):
        threshold = THRESHOLD if folder == CHALK else 0.1
        canvas = new_canvas(
            folder, seed=5, shot="s", n_frames=3, frame_shape=frame_shape, dtype="float32", n_steps=STEPS,
            kind=kind, layout="stock",
        )  # fmt: skip
        pipeline = stock_class.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = type(canvas.scheduler).from_config(canvas.scheduler.config)
        pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold))
        want = pipeline(
            "rain falls", "a sun", num_frames=9, num_inference_steps=STEPS, guidance_scale=4.0,
            max_sequence_length=tokens, output_type="latent", generator=torch.Generator().manual_seed(5),
            **size,
        ).frames  # fmt: skip
        want = want.transpose(1, 2) if stock_class is WanPipeline else want
        text, family = load_part(folder, "text", "float32"), load_part(folder, "transformer", "float32")
        answer, told = answers_of(
            family, *(text.embed(words, tokens) for words in ("rain falls", "a sun")), threshold
        )
        got = shot_here(canvas, answer)
        branches = [branch for each in told for branch in each.full]
        assert branches.count(False) and len(branches) == STEPS * len(told[0].full)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("mode", ["blend", "extend"])
def test_latents_have_the_same_bits_whichever_gang_predicted_what_and_whenever_a_conductor_is_lost(
    tiny_folder, tmp_path, mode
):
    task = shot_of(tiny_folder, mode, "first_block")
    task = replace(task, sampling=replace(task.sampling, cache_threshold=THRESHOLD))
    undisturbed, asked = drawn(str(tmp_path / "one"), task, random.Random(0))
    assert len(asked) == task.course.n_predictions == shot_of(tiny_folder, mode, "none").course.n_predictions
    disturbed, _ = drawn(str(tmp_path / "two"), task, random.Random(1), deaths=2)
    assert disturbed == undisturbed
    plain, _ = drawn(str(tmp_path / "plain"), shot_of(tiny_folder, mode, "none"), random.Random(0))
    assert plain != undisturbed and task.key != shot_of(tiny_folder, mode, "none").key


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=12))
def test_each_branch_goes_on_from_its_own_last_prediction_in_full(steps):
    anchors, last = ((),), [0, 0]
    for step, full in enumerate([[True, True], *steps]):
        latents, timestep = torch.full((1, 1, 1, 1, 1), float(step)), torch.tensor(step)
        request = WindowRequest(step, Part(Window(0, 1), 0), timestep, latents, None, anchors[0])
        anchors = after([request], [Anchored(latents, tuple(full))])
        last = [step if each else old for each, old in zip(full, last, strict=True)]
        assert [int(each.timestep) for each in anchors[0]] == last
        assert [float(each.latents) for each in anchors[0]] == last


def test_an_answer_that_goes_on_from_nothing_is_refused():
    latents = torch.zeros(1, 1, 1, 1, 1)
    request = WindowRequest(0, Part(Window(0, 1), 0), torch.tensor(9), latents)
    with pytest.raises(ValueError, match="step 0 goes on from a prediction in full, but there was none"):
        after([request], [Anchored(latents, (True, False))])


def test_what_travels_is_a_fraction_of_what_stays():
    """Of CogVideoX-5B at its size: both branches' latents against two hidden states of every token."""
    latents = 13 * 16 * 60 * 90 * 2
    hidden = 2 * 2 * (13 * 30 * 45 + 226) * 3072 * 2
    assert 2 * latents < hidden / 90 and hidden / GIB > 0.4


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([f"{SAMPLING}.cache_threshold=1.5"], "must lie in 0 to 1, and 0 is 0.05"),
        ([f"{SAMPLING}.cache_interval=2"], "cache=first_block skips none: set it to taylorseer"),
        ([f"{SAMPLING}.guidance_stop=0.5"], "guidance begins and ends"),
        (["cluster.ulysses=2"], "is for gangs of one rank"),
        (["profiles.chalk.model.compile=true"], "leave one of these out"),
        (["profiles.chalk.model.offload=memory"], "leave one of these out"),
    ],
)
def test_what_it_cannot_go_together_with_is_refused(told, said):
    asked = [*(f"cluster.{axis}=1" for axis in ("cfg", "ring", "ulysses")), f"{SAMPLING}.cache=first_block"]
    sampling = stock(load_spec(None, asked))["chalk"].profile.sampling
    assert (sampling.cache_threshold, sampling.cache_interval) == (0.05, 0)
    with pytest.raises(SpecError, match=said):
        stock(load_spec(None, [*asked, *told]))


def test_a_threshold_is_for_this_cache_alone():
    with pytest.raises(SpecError, match=r"sampling\.cache=none has none: set it to first_block"):
        load_spec(None, [f"{SAMPLING}.cache_threshold=0.1"])


def test_an_anchor_of_a_gang_of_several_ranks_is_refused(chalk, monkeypatch):
    family, (rain, _, nothing) = chalk
    monkeypatch.setattr(family, "mesh", object())
    with pytest.raises(ValueError, match="is for gangs of one rank"):
        answers_of(family, rain, nothing)[0](
            WindowRequest(0, Part(Window(0, 3), 0), torch.tensor(9), torch.zeros(1, 3, 4, 16, 24))
        )
