"""Claims about edits: of a film made before, the plan says which shots are rendered anew, and why."""

from dataclasses import fields, replace

import pytest

from cluster.identity import Asset
from cluster.outcomes import Outcome
from cluster.shots import GivenTask
from engine.takes import LAST
from engine.timeline import PromptSpan
from jobs.changes import changes, leave_note
from manifests.store import open_store
from tests.night import film, segment_task, shot_task


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def told(store, before, after):
    """What is said of a film whose only shot was `before` and is `after`."""
    leave_note(store, film("water", before))
    return changes(store, film("water", after), {})


BEFORE = shot_task("s0", 2)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (replace(BEFORE, shot=replace(BEFORE.shot, prompts=(PromptSpan("snow"),))), "another prompt"),
        (replace(BEFORE, shot=replace(BEFORE.shot, seed=9)), "another seed"),
        (replace(BEFORE, shot=replace(BEFORE.shot, n_frames=41)), "another length"),
        (replace(BEFORE, shot=replace(BEFORE.shot, negative_prompt="")), "another negative_prompt"),
        (replace(BEFORE, height_px=32), "another size"),
        (replace(BEFORE, model=replace(BEFORE.model, digest="n")), "another model"),
        (replace(BEFORE, sampling=replace(BEFORE.sampling, n_steps=3)), "another sampling"),
        (replace(BEFORE, layout=replace(BEFORE.layout, overlap=3)), "another windows"),
        (shot_task("s1", 2), "the shot is new"),
        (BEFORE, "its latents are gone from the store"),
    ],
)
def test_a_shot_that_is_rendered_anew_says_what_is_another(store, after, why):
    assert told(store, BEFORE, after) == {after.shot.shot_id: why}


def test_a_shot_that_ends_with_a_picture_is_of_another_length_where_the_picture_stands_longer(store):
    picture = Asset(LAST, "a" * 64, "/b.png")
    given = GivenTask(BEFORE.model, (picture,), 1, None, BEFORE.height_px, BEFORE.width_px)
    long, short = (
        replace(BEFORE, shot=replace(BEFORE.shot, n_frames=n_frames), given=(given,)) for n_frames in (17, 13)
    )
    assert long.n_latent == short.n_latent and (long.n_resting, short.n_resting) == (1, 2)
    assert told(store, long, short) == {"s0": "another length"}


def test_a_film_without_a_note_is_new_and_a_shot_that_is_done_is_not_told(store):
    assert changes(store, film("water", BEFORE), {}) == {"s0": "the film is new"}
    done = {BEFORE.key: Outcome(BEFORE.key, "shot", {})}
    assert changes(store, film("water", BEFORE), done) == {}
    segment = segment_task(BEFORE)
    assert changes(store, film("water", BEFORE), {segment.key: Outcome(segment.key, "segment", {})}) == {}


def test_a_note_that_cannot_be_read_makes_the_film_new_and_nothing_worse(store):
    leave_note(store, film("water", BEFORE))
    store.publish(store.put_artefact(b"{no json"), "notes/water.json")
    assert changes(store, film("water", BEFORE), {}) == {"s0": "the film is new"}


def test_a_shot_has_no_field_that_is_told_by_no_word():
    told = {"model", "shot", "sampling", "layout", "height_px", "width_px", "max_text_tokens", "given"}
    told |= {"stitch", "adapters"}
    changes_no_bit_of_a_key = {"batch"}
    assert {field.name for field in fields(BEFORE)} == told | changes_no_bit_of_a_key
