"""Claims about phases: whatever the shot and mode, every frame is drawn once, every step counted."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.phases import (
    BLENDED,
    MODES,
    Course,
    Stitch,
    choose_mode,
    course_of,
    extend_starts,
    overlap_for_gangs,
    phases_of,
    shown_weights,
    spread,
)
from engine.timeline import PromptSpan, Shot, prompt_weights
from engine.windows import Layout, plan_windows

N_STEPS, FIRST_STEP = 5, 3


@st.composite
def layouts(draw):
    """Latent frames of a shot, of a window and of its overlap, and the lead-in."""
    size = draw(st.integers(3, 21))
    overlap = draw(st.integers(1, max(1, size // 2)))
    return draw(st.integers(1, 150)), size, overlap, draw(st.integers(0, overlap // 2))


def phases(mode, n_frames, size, overlap, lead_in=1, prompts=1):
    length = 4 * (n_frames - 1) + 1
    spans = tuple(PromptSpan(f"prompt {k}", k * length // prompts) for k in range(prompts))
    shot = Shot("s", length, spans, "", 1)
    stitch = Stitch(mode, first_step=FIRST_STEP if mode == "skeleton" else 0)
    return phases_of(Layout(size, overlap, lead_in), prompt_weights(shot, n_frames), N_STEPS, stitch)


@given(layouts(), st.sampled_from(MODES), st.integers(1, 3))
def test_every_phase_of_every_mode_blends_to_one_in_windows_of_the_trained_length(layout, mode, prompts):
    n_frames, size, overlap, lead_in = layout
    for phase in phases(mode, n_frames, size, overlap, lead_in, min(prompts, n_frames)):
        assert phase.weights.shape == (len(phase.parts), len(phase.frames))
        np.testing.assert_allclose(phase.weights.sum(axis=0), 1, atol=1e-12)
        assert {len(part.window) for part in phase.parts} == {min(size, n_frames)}
        assert list(phase.frames) == sorted(set(phase.frames))
        assert phase.first_step + phase.n_steps == N_STEPS


@given(layouts(), st.sampled_from(MODES))
def test_a_shot_of_one_window_is_one_phase_alike_in_every_mode(layout, mode):
    _, size, overlap, _ = layout
    (phase,), (blended,) = phases(mode, size, size, overlap), phases("blend", size, size, overlap)
    assert (phase.frames, phase.parts, phase.held) == (blended.frames, blended.parts, 0)
    assert (phase.first_step, phase.n_steps) == (0, N_STEPS)


@given(layouts())
def test_windows_that_extend_each_other_share_what_is_held_and_draw_every_other_frame_once(layout):
    n_frames, size, overlap, _ = layout
    drawn = []
    for before, phase in itertools.pairwise([None, *phases("extend", n_frames, size, overlap)]):
        assert phase.held == (overlap if before else 0)
        assert before is None or phase.frames[:overlap] == before.frames[-overlap:]
        drawn += phase.frames[phase.held :]
    assert drawn[:n_frames] == list(range(n_frames)), "none is left out and none drawn twice"
    assert len(drawn) - n_frames < size - overlap, "no window lies wholly beyond the shot"


@given(layouts())
def test_a_draft_has_a_windows_frames_from_the_first_of_the_shot_to_the_last(layout):
    n_frames, size, overlap, lead_in = layout
    if n_frames > size:
        draft, drawn = phases("skeleton", n_frames, size, overlap, lead_in)
        assert len(draft.frames) == size and draft.frames == spread(n_frames, size)
        assert (draft.frames[0], draft.frames[-1]) == (0, n_frames - 1)
        gaps = {b - a for a, b in itertools.pairwise(draft.frames)}
        assert max(gaps) - min(gaps) <= 1
        assert (draft.first_step, drawn.first_step) == (0, FIRST_STEP)
        assert drawn.frames == tuple(range(n_frames))


def test_a_prompt_is_drafted_where_it_stands_in_the_shot():
    draft, _ = phases("skeleton", 41, 11, 4, prompts=2)
    early, late = draft.weights
    assert [part.prompt for part in draft.parts] == [0, 1]
    assert early[:5].all() and not early[6:].any() and late[6:].all()


@given(layouts(), st.sampled_from(MODES))
def test_what_is_shown_of_each_frame_has_its_windows(layout, mode):
    n_frames, size, overlap, lead_in = layout
    weights = shown_weights(Layout(size, overlap, lead_in), n_frames, Stitch(mode))
    assert weights.shape[1] == n_frames
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-12)
    if mode == "extend" and n_frames > size:
        assert len(weights) == len(extend_starts(n_frames, size, overlap))
        assert set(weights.ravel()) == {0.0, 1.0}, "the overlap is dropped, never blended"


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=5))
def test_a_course_counts_every_prediction_of_every_step(legs):
    course = Course(tuple(legs))
    steps = [parts for n, parts in legs for _ in range(n)]
    assert course.n_steps == len(steps) and course.n_predictions == sum(steps)
    assert course.n_slots == max(steps)
    for step, parts in enumerate(steps):
        assert len(course.parts_at(step)) == parts
        assert course.before(step) == sum(steps[:step])
    with pytest.raises(IndexError):
        course.parts_at(len(steps))


def test_a_skeleton_predicts_less_than_a_blend_and_an_extended_shot_window_after_window():
    n_frames, size = 41, 13
    courses = {mode: course_of(phases(mode, n_frames, size, 3)) for mode in MODES}
    assert courses["blend"].legs == ((N_STEPS, 4),)
    assert courses["skeleton"].legs == ((N_STEPS, 1), (N_STEPS - FIRST_STEP, 4))
    assert courses["extend"].legs == ((N_STEPS, 1),) * 4
    assert courses["skeleton"].n_predictions < courses["blend"].n_predictions


@pytest.mark.parametrize(
    ("n_windows", "given_latents", "mode"),
    [(1, 0, "blend"), (1, 3, "blend"), (BLENDED, 3, "blend"), (BLENDED + 1, 3, "extend"), (9, 0, "skeleton")],
)
def test_the_mode_that_suits_a_shot_has_a_reason_in_one_line(n_windows, given_latents, mode):
    chosen, why = choose_mode(n_windows, given_latents)
    assert chosen == mode
    assert why and "\n" not in why and len(why) < 100


@given(layouts(), st.integers(0, 12))
def test_overlaps_grow_for_gangs_only_where_no_step_takes_longer(layout, gangs):
    n_frames, size, overlap, _ = layout
    wider = overlap_for_gangs(Layout(size, overlap, 1), n_frames, gangs)
    n, more = (len(plan_windows(n_frames, size, o)) for o in (overlap, wider))
    assert wider >= overlap
    if wider > overlap:
        assert wider <= size // 2 and more % gangs == 0
        assert -(-more // gangs) == -(-n // gangs), "as many rounds as before"


def test_a_minute_of_wan_is_shared_evenly_by_eight_gangs():
    assert len(plan_windows(241, 21, 5)) == 15
    layout = Layout(21, 5, 1)
    wider = overlap_for_gangs(layout, 241, 8)
    assert len(plan_windows(241, 21, wider)) == 16
    assert overlap_for_gangs(layout, 241, 1) == overlap_for_gangs(layout, 241, 5) == 5


@given(st.integers(3, 60), st.integers(0, 12))
def test_overlaps_that_grow_for_gangs_still_begin_at_whole_units(n_units, gangs):
    layout = Layout(37, 7, 1, period=5, unit=15)
    n_frames = 37 + 15 * n_units
    wider = overlap_for_gangs(layout, n_frames, gangs)
    windows = replace(layout, overlap=wider).windows(n_frames)
    assert all(window.start % 15 == 0 for window in windows)


@pytest.mark.parametrize(
    ("stitch", "named"),
    [
        (Stitch("blended"), "'blended'"),
        (Stitch("skeleton"), "first_step=0"),
        (Stitch("skeleton", first_step=N_STEPS), f"first_step={N_STEPS}"),
    ],
)
def test_what_is_no_way_to_stitch_is_refused(stitch, named):
    with pytest.raises(ValueError, match=named):
        phases_of(Layout(13, 4, 1), np.ones((1, 41)), N_STEPS, stitch)


def test_a_clip_that_is_redrawn_is_one_blended_phase_of_its_share_of_the_steps():
    (phase,) = phases_of(Layout(13, 4, 1), np.ones((1, 41)), N_STEPS, Stitch(first_step=FIRST_STEP))
    assert (phase.first_step, phase.n_steps, len(phase.parts)) == (FIRST_STEP, N_STEPS - FIRST_STEP, 5)


def test_a_shot_that_can_be_blended_only_is_and_says_why():
    assert choose_mode(9, 3, "because") == ("blend", "because")
    assert choose_mode(1, 3, "because")[1] == "one window"
