"""Claims about tasks: a key changes with all that changes the artefact, and with nothing else."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.identity import Adapter, Asset, Model, Picture, Sampling
from cluster.shots import GivenTask, PromptTask, ShotTask
from cluster.tasks import FilmTasks, MasterTask, Narration, SegmentTask, VersionTask
from engine.phases import Stitch
from engine.takes import CLIP, FIRST
from engine.timeline import PromptSpan, Shot, first_pixel
from engine.windows import Layout

GOLDEN = {
    "prompt": "26b8f9368a35227df0b5e82724ff0e4f",
    "shot": "734bafd803ec61fe8adbf0614ca7710f",
    "segment": "e3a066ee57c8a7775b0fcabeddf963a8",
    "master": "db9dd1409a5434f8f2c271e61c15e7ea",
    "version": "810a47d1f36d0dc949bda29ba43ece69",
}


def shot_task(shot_id="s1", n_frames=48, **changes):
    spans = (PromptSpan("a leaf"), PromptSpan("its veins", start=24, blend=8))
    task = ShotTask(
        model=Model("/models/chalk", "float32", "digest"),
        shot=Shot(shot_id, n_frames, spans, "blurry", seed=7),
        sampling=Sampling(n_steps=20, guidance_scale=6.0, scheduler="ddim"),
        layout=Layout(size=9, overlap=4, lead_in=1),
        height_px=64,
        width_px=96,
        max_text_tokens=64,
    )
    return dataclasses.replace(task, **changes)


def segment_task(source=None, **changes):
    picture = Picture(width_px=192, height_px=128, fps=Fraction(8), crf=20, preset="fast")
    return dataclasses.replace(SegmentTask(source or shot_task(), picture), **changes)


def version_task(lang="hi", segments=None):
    segments = segments or (segment_task(shot_task("s1")), segment_task(shot_task("s2")))
    return VersionTask(segments, lang, "पत्ती", (Narration("s1", "यह एक पत्ती है।"),))


def film(row_id="row 1", segments=None, langs=("hi", "en")):
    segments = segments or (segment_task(shot_task("s1")), segment_task(shot_task("s2")))
    return FilmTasks(row_id, MasterTask(segments), tuple(version_task(lang, segments) for lang in langs))


def one_of_each():
    version = version_task()
    shot = version.segments[0].source
    return shot.prompts[0], shot, version.segments[0], MasterTask(version.segments), version


# And by which kernels they are used.
WHERE_WEIGHTS_LIE = (".model.folder", ".model.zero", ".model.offload", ".model.listing", ".model.compile")
PREDICTING = ".model.quantise"  # of the transformer alone: an embedding does not depend on it
WHY, NO_HOLD = ".stitch.why", ".hold.why"  # for people
LOW_BITS = ".batch"  # of a shot, which is recorded


def changed_leaves(value, path=""):
    """Every way to change one leaf of nested dataclasses and tuples, as (path, changed value)."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            for where, changed in changed_leaves(getattr(value, field.name), f"{path}.{field.name}"):
                yield from _if_possible(
                    where, lambda c=changed, n=field.name: dataclasses.replace(value, **{n: c})
                )
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for where, changed in changed_leaves(item, f"{path}[{index}]"):
                yield from _if_possible(where, lambda c=changed, i=index: (*value[:i], c, *value[i + 1 :]))
    elif isinstance(value, str):
        yield path, value + "x"
    elif value is not None:
        yield path, value + 1


def _if_possible(where, make):
    try:
        yield where, make()
    except ValueError:  # a shot's first prompt starts at frame 0 and nowhere else
        assert where.endswith("prompts[0].start"), where


@pytest.mark.parametrize("task", one_of_each(), ids=lambda task: task.kind)
def test_a_key_changes_with_every_field_but_where_weights_lie_reasons_low_bits_and_frames_of_one_latent(task):
    same = {path for path, changed in changed_leaves(task) if changed.key == task.key}
    unkeyed = (*WHERE_WEIGHTS_LIE, WHY, NO_HOLD, LOW_BITS)
    free = {path for path, _ in changed_leaves(task) if path.endswith(unkeyed)}
    assert free
    if isinstance(task, PromptTask):
        free |= {PREDICTING}
    assert same == free | ({".shot.n_frames"} if isinstance(task, ShotTask) else set())


@pytest.mark.parametrize("task", one_of_each(), ids=lambda task: task.kind)
def test_every_leaf_changed_one_by_one_gives_another_key(task):
    keys = [changed.key for _, changed in changed_leaves(task) if changed.key != task.key]
    assert len(keys) == len(set(keys)) and len(keys) >= 3


def given_task(role, n_frames=1):
    asset = Asset(role, "a" * 64, "/pictures/a.png")
    return GivenTask(Model("/models/chalk", "float32", "digest"), (asset,), n_frames, Fraction(8), 64, 96)


def test_a_shot_is_another_with_a_picture_or_with_another_one_wherever_its_file_lies():
    picture = given_task(FIRST)
    shot = shot_task(given=(picture,))
    assert shot.key != shot_task().key and picture.key in shot.needs
    same = {path for path, changed in changed_leaves(shot) if changed.key == shot.key}
    places = {f"{of}{place}" for of in ("", ".given[0]") for place in WHERE_WEIGHTS_LIE}
    own = {".shot.n_frames", ".given[0].assets[0].path", WHY, LOW_BITS}
    assert same == places | own | {f".given[0]{PREDICTING}"}


def test_a_shot_is_another_with_an_adapter_or_at_another_scale_wherever_its_file_lies():
    shot = shot_task(adapters=(Adapter("a" * 64, 0.5, "/adapters/a.safetensors"),))
    both = dataclasses.replace(shot, given=(given_task(FIRST),))
    assert len({each.key for each in (shot, both, shot_task(), shot_task(given=both.given))}) == 4
    same = {path for path, changed in changed_leaves(shot) if changed.key == shot.key}
    assert same == {*WHERE_WEIGHTS_LIE, ".shot.n_frames", ".adapters[0].path", WHY, LOW_BITS}


def test_the_end_of_a_clip_lies_on_the_canvas_before_what_is_shown_and_delays_its_prompts():
    spans = (PromptSpan("rain"), PromptSpan("sun", start=8))
    plain = shot_task(shot=Shot("s1", 24, spans, "", seed=7))
    longer = dataclasses.replace(plain, given=(given_task(CLIP, 9),))
    redrawn = dataclasses.replace(plain, stitch=Stitch(first_step=5))
    assert redrawn.course.n_steps == plain.sampling.n_steps - 5
    assert longer.hidden_frames == 9 and longer.n_latent == plain.n_latent + 2
    (before,), (after,) = plain.phases, longer.phases
    assert {part.prompt for part in before.parts} == {part.prompt for part in after.parts} == {0, 1}
    second = [row for part, row in zip(after.parts, after.weights, strict=True) if part.prompt == 1]
    assert sum(second)[4] == 0 and sum(second)[5] == 1  # frame 17 of the canvas is in its fifth latent


def test_a_shot_keeps_its_latents_when_only_unseen_frames_change_and_its_segment_does_not_keep():
    longer, shorter = shot_task(n_frames=49), shot_task(n_frames=48)
    assert longer.n_latent == shorter.n_latent and longer.key == shorter.key
    assert segment_task(longer).key != segment_task(shorter).key
    assert shot_task(n_frames=50).key != longer.key


def test_the_order_of_segments_is_part_of_a_film():
    one, two = segment_task(shot_task("s1")), segment_task(shot_task("s2"))
    assert MasterTask((one, two)).key != MasterTask((two, one)).key
    assert version_task(segments=(one, two)).key != version_task(segments=(two, one)).key


def test_rows_alike_share_every_key_and_rows_with_one_shot_alike_share_its_key():
    assert film("row 1").tasks.keys() == film("row 2").tasks.keys()
    shared = segment_task(shot_task("s1"))
    first = film("row 1", (shared, segment_task(shot_task("s2"))), langs=("hi",))
    second = film("row 2", (shared, segment_task(shot_task("s3"))), langs=("ta",))
    common = first.tasks.keys() & second.tasks.keys()
    assert {shared.key, shared.source.key} < common
    assert {first.tasks[key].kind for key in common} == {"prompt", "shot", "segment"}


def test_a_word_changed_in_a_narration_renders_no_picture_again():
    before, after = film(langs=("hi", "en")), film(langs=("hi", "en"))
    hindi = dataclasses.replace(after.versions[0], narrations=(Narration("s1", "वह एक पत्ती है।"),))
    after = dataclasses.replace(after, versions=(hindi, after.versions[1]))
    assert [after.tasks[key].kind for key in after.tasks.keys() - before.tasks.keys()] == ["version"]


def test_text_cannot_slip_from_one_field_into_the_next():
    segments = (segment_task(),)
    first = VersionTask(segments, "hi", "ab", (Narration("c", "d"),))
    second = VersionTask(segments, "hi", "a", (Narration("bc", "d"),))
    assert first.key != second.key


@given(st.integers(1, 2000), st.integers(2, 8))
def test_a_canvas_has_the_least_odd_number_of_latent_frames_that_shows_the_whole_shot(n_frames, compression):
    shot = Shot("s", n_frames, (PromptSpan("a"),), "", 0)
    layout = Layout(9, 4, 1, temporal_compression=compression)
    n_latent = shot_task(shot=shot, layout=layout).n_latent
    assert n_latent % 2 == 1
    assert (n_latent - 1) * compression + 1 >= n_frames
    assert n_latent == 1 or (n_latent - 3) * compression + 1 < n_frames


@given(st.integers(1, 2000))
def test_a_canvas_of_uneven_latent_frames_is_one_that_its_windows_cover(n_frames):
    shot = Shot("s", n_frames, (PromptSpan("a"),), "", 0)
    layout = Layout(37, 4, 1, temporal_compression=4, period=5, unit=15)
    task = shot_task(shot=shot, layout=layout)
    assert first_pixel(task.n_latent, 4, 5) >= n_frames and task.n_latent % 5 == 2
    assert all(part.window.start % 15 == 0 for part in task.phases[0].parts)


def test_parts_cover_the_canvas_under_the_prompts_that_hold_there():
    task = shot_task()
    (phase,) = task.phases
    parts, weights = phase.parts, phase.weights
    assert weights.shape == (len(parts), task.n_latent)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-12)
    assert {part.prompt for part in parts} == {0, 1}


@given(st.integers(2, 400), st.integers(3, 9), st.integers(2, 4))
def test_a_canvas_is_of_whole_patches_by_frames_before_the_shot_that_have_its_first_prompt(n, size, patch):
    layout = Layout(patch * size, 2 * patch, patch, unit=patch, patch_frames=patch)
    spans = (PromptSpan("a leaf"), PromptSpan("its veins", start=n // 2, blend=0))
    task = shot_task(shot=Shot("s", n, spans, "", 0), layout=layout)
    (phase,) = task.phases
    windows, rows = [part.window for part in phase.parts], phase.weights
    assert task.n_canvas % patch == 0 <= task.n_before < patch and task.n_latent % 2 == 1
    assert windows[-1].stop == rows.shape[1] == task.n_canvas
    assert not any(window.start % patch or len(window) % patch for window in windows)
    assert task.shown_weights.shape[1] == task.n_latent
    later = [row for part, row in zip(phase.parts, rows, strict=True) if part.prompt == 1]
    assert later and not any(row[: task.n_before + 1].any() for row in later)
    np.testing.assert_allclose(rows.sum(axis=0), 1.0, atol=1e-12)


def test_tasks_come_after_what_they_need_and_nothing_needed_is_missing():
    made = film()
    seen = set()
    for key, task in made.tasks.items():
        assert key == task.key and seen.issuperset(task.needs)
        seen.add(key)
    assert seen.issuperset(task.key for task in made.wanted)
    kinds = [task.kind for task in made.tasks.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "prompt": 3,  # two prompts and a negative one, shared by both shots
        "shot": 2,
        "segment": 2,
        "master": 1,
        "version": 2,
    }


@given(st.data())
def test_unfinished_is_what_wanted_tasks_still_need_in_order_and_nothing_below_a_done_one(data):
    made = film()
    done = data.draw(st.sets(st.sampled_from(sorted(made.tasks))))
    waiting, needed = [task.key for task in made.wanted if task.key not in done], set()
    for key in waiting:
        needed.add(key)
        waiting += [need for need in made.tasks[key].needs if need not in done]
    left = made.unfinished(done)
    assert left.keys() - done == needed
    below = {need for key in needed for need in made.tasks[key].needs}
    assert left.keys() == needed | below | {task.key for task in made.wanted}
    assert list(left) == [key for key in made.tasks if key in left]


def test_a_film_that_was_made_needs_nothing_below_what_is_wanted_of_it():
    made = film()
    wanted = {task.key for task in made.wanted}
    assert made.unfinished(wanted).keys() == wanted


def test_keys_are_the_same_in_every_process_and_every_release():
    keys = {task.kind: task.key for task in one_of_each()}
    assert keys == GOLDEN, (
        "keys have changed, so nothing rendered before will be found again. If that is meant, and artefacts "
        f"change as well, raise cluster.identity.RENDERING; then run this test again and let GOLDEN be {keys}"
    )
