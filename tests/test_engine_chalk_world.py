"""Claims about what chalk says that it knows, and that it renders whatever else a person types."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.chalk import scenes, words
from engine.chalk.captions import LANGUAGES, caption, vocabulary
from engine.chalk.tokens import MAX_TOKENS, build_tokenizer
from engine.chalk.world import draws, world, write_world
from engine.families.cogvideox import CogVideoX
from engine.families.facts import read_facts
from engine.families.loading import new_canvas
from engine.families.world import World, read_world, words_of

SHIPPED = Path(__file__).parent.parent / "engine" / "chalk" / "weights"
REGENERATE = "write it anew: engine.chalk.world.write_world(engine/chalk/weights), as export does"


@pytest.fixture(scope="module")
def known(tiny_folder) -> World:
    """The world of a folder as `engine.chalk.model` saves it."""
    found = read_world(tiny_folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def model(tiny_folder) -> CogVideoX:
    return CogVideoX.load(tiny_folder, dtype=torch.float32)


def named(values: Sequence[str], text: str) -> bool:
    """Whether each value begins a word of the text, in any form: wane, the moon wanes, waning."""
    return all(any(word.startswith(value[:3]) for word in words_of(text)) for value in values if value)


def test_a_saved_folder_tells_its_world(known):
    told = world()
    assert (known.name, known.note, known.draws) == (told["name"], told["note"], tuple(told["draws"]))
    assert known.words == set(told["words"]) and known.ignored == set(told["ignored"])


def test_the_shipped_world_is_that_of_the_sources():
    assert json.loads((SHIPPED / "world.json").read_text(encoding="utf-8")) == world(), REGENERATE


def test_everything_that_a_scene_may_hold_is_named():
    told = {title: f"{title} {' '.join(phrases)}" for title, phrases in draws().items()}
    (shapes,) = (text for title, text in told.items() if title.startswith("shapes"))
    everything = " ".join(told.values())
    assert named(scenes.KINDS, everything) and named(scenes.LANDS, told["land"])
    assert named(scenes.LIGHTS, told["sun, moon and stars"]) and named(scenes.COLOURS, told["their colours"])
    assert named(scenes.CAMERAS, told["camera over land"]) and named(scenes.FORM_MOTIONS, shapes)
    for kind in set(scenes.KINDS) - set(scenes.FORMS):
        assert named(scenes.MOTIONS[kind], f"{told['figures']} {told['phases']}"), kind
    assert len(draws()["clouds (white, grey)"]) == len(scenes.CLOUD_MOTIONS) == len(words.CLOUD)


def test_whatever_chance_puts_into_a_scene_is_named():
    everything = " ".join(world()["draws"])
    for seed in range(500):
        parts = asdict(scenes.random_scene(np.random.default_rng(seed)))
        motion = parts.pop("cloud_motion", "")
        assert named([part for part in parts.values() if isinstance(part, str)], everything), parts
        assert motion in ("", *scenes.CLOUD_MOTIONS)


def test_what_it_says_that_it_can_draw_can_be_asked_for_in_these_words(known):
    for phrases in draws().values():
        assert known.unknown(" ".join(phrases)) == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_of_a_training_caption_is_unknown(known, language):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        text = caption(scenes.random_scene(rng), language, rng)
        assert known.unknown(text) == (), text


def test_what_nobody_taught_is_unknown_and_words_that_ask_for_nothing_are_not(known):
    assert known.unknown("the hills are green, and there was a river") == ()
    assert known.unknown("a zebra, a castle and no clouds") == ("zebra", "castle", "no")
    assert known.unknown("एक हाथी नदी के पास है") == ("हाथी",)
    assert known.unknown("ஒரு யானை") == ("யானை",)
    assert known.kin("hill") == "hills" and known.kin("triangles") == "triangle"


# The scripts of the lessons; of others, Python and the tokenizer may know different versions of Unicode.
SCRIPTS = [
    chr(point)
    for start, stop in ((0x20, 0x180), (0x900, 0x980), (0xB80, 0xC00))
    for point in range(start, stop)
]
TEXTS = st.text(st.sampled_from([*SCRIPTS, *"\u200d\u3000\u2026ﬁ🌞"]))


@given(TEXTS)
def test_a_prompt_is_cut_into_the_words_that_the_tokenizer_cuts_it_into(text):
    backend = build_tokenizer(["sun"]).backend_tokenizer
    cut = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
    assert words_of(text) == [piece.removeprefix("▁") for piece, _ in cut]


def test_a_known_word_is_one_token_and_an_unknown_one_is_spelled(known):
    tokenizer = build_tokenizer(vocabulary())
    assert all(len(tokenizer(word).input_ids) == 2 for word in known.words)
    assert all(len(tokenizer(word).input_ids) > 2 for word in known.ignored - known.words)


ANYTHING = {
    "emoji": "🌞🌊 👩\u200d🚀",
    "another script": "太陽が海の上に昇る Солнце над морем שמש",
    "3,000 letters": "antidisestablishmentarianism " * 103 + "at last!",
    "one word of 3,000 letters": "z" * 3000,
    "punctuation alone": "?!… — «»",
    "nothing": "",
    "characters of no width": "\u200b\u200d\ufeff rain\u200b falls",
    "marks without letters": "\u0941\u0308\u0bcd",
    "a private and an unassigned character": "\ue000 \U000e0fff",
}


@pytest.mark.parametrize("text", ANYTHING.values(), ids=ANYTHING)
def test_whatever_a_person_types_is_embedded_and_predicted_in_finite_numbers(tiny_folder, model, text):
    facts = read_facts(tiny_folder)
    prompt, negative = model.embed(text, facts.max_text_tokens), model.embed("", facts.max_text_tokens)
    tokens = prompt["tokens"]
    assert tokens.shape[1] == MAX_TOKENS == facts.max_text_tokens and torch.isfinite(tokens).all()
    side = 2 * facts.patch
    shape = (facts.latent_channels, side, side)
    canvas = new_canvas(
        tiny_folder, seed=0, shot="s", n_frames=2, frame_shape=shape, dtype="float32", n_steps=2
    )
    prediction = model.predict(canvas.latents, canvas.timestep, prompt, negative, 5.0)
    assert prediction.shape == canvas.latents.shape and torch.isfinite(prediction).all()
    assert prediction.std() > 0


def test_a_world_is_written_as_text_that_people_can_read(tmp_path):
    write_world(tmp_path)
    text = (tmp_path / "world.json").read_text(encoding="utf-8")
    assert "बारिश" in text and "a ball bounces" in text and len(text.encode()) < 20_000
