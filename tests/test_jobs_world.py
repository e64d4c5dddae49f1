"""Claims about what a plan says of prompts that their model was not taught."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.families.world import World
from jobs.cli import main
from jobs.world import CODE, SHOWN, Outside, as_text, outside, prompts
from manifests.findings import Levels
from manifests.schema import SCHEMA

KNOWN = {
    "name": "slate",
    "note": "slate knows the weather only.",
    "words": ["the", "sun", "shines", "over", "green", "hills", "सूरज"],
    "ignored": ["are"],
    "draws": ["sun: the sun shines", "land: green hills"],
}
WORLD = World(
    "slate", KNOWN["note"], frozenset(KNOWN["words"]), frozenset(KNOWN["ignored"]), tuple(KNOWN["draws"])
)
FILMS = """
- row_id: day
  profile: chalk
  prompt: The sun shines!
  negative_prompt: fog, crowds
  shots:
    - {shot_id: a, duration_s: 2}
    - {shot_id: b, prompt: green hills, negative_prompt: cars, duration_s: 2}
- row_id: zoo
  profile: chalk
  shots:
    - shot_id: a
      prompt: सूरज
      duration_s: 4
      prompts: [{start_s: 2, prompt: "a zebra over the hill, a zebra"}]
"""


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A model folder with a world that a test may change."""
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (copy / "world.json").write_text(json.dumps(KNOWN))
    return copy


@pytest.fixture
def words(folder, tmp_path) -> list[str]:
    """What follows `longtake plan`."""
    (tmp_path / "films.yaml").write_text(FILMS)
    return [str(tmp_path / "films.yaml"), f"profiles.chalk.model.folder={folder}"]


def levels(*rows: dict[str, Any]) -> list[Levels]:
    """Rows as a plan reads them, in two batches."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    half = len(rows) // 2
    pieces = ((0, table.slice(0, half)), (half, table.slice(half)))
    return [Levels.of_batch(start, batch) for start, each in pieces for batch in each.to_batches()]


def row(**changes: Any) -> dict[str, Any]:
    return {"row_id": "film", "profile": "chalk", "shots": [{"shot_id": "a", "prompt": "sun"}]} | changes


def test_a_plan_warns_after_its_table_and_lists_what_the_model_can_draw(words, capsys):
    assert main(["plan", *words]) == 0
    table, warning = capsys.readouterr().out.split(CODE)
    assert "distinct prompts" in table and "slate" not in table
    assert warning.splitlines() == [
        "  1 of 4 prompts of profile chalk uses words that slate does not know; they render, without what "
        "these words ask for",
        "    row zoo /shots/0/prompts/0/prompt: a, zebra, hill (say hills)",
        "slate knows the weather only. It can draw:",
        "    sun: the sun shines",
        "    land: green hills",
    ]


def test_a_plan_warns_scripts_in_a_list(words, capsys):
    assert main(["plan", *words, "-o", "json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning["code"] == CODE and warning["profile"] == "chalk" and warning["model"] == "slate"
    assert (warning["prompts"], warning["of_prompts"]) == (1, 4)
    assert warning["draws"] == KNOWN["draws"] and warning["note"] == KNOWN["note"]
    assert warning["examples"] == [
        {
            "row_id": "zoo",
            "json_path": "/shots/0/prompts/0/prompt",
            "words": ["a", "zebra", "hill"],
            "known_as": {"hill": "hills"},
        }
    ]


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_model_that_tells_of_no_world_is_warned_of_nowhere(words, folder, output, capsys):
    (folder / "world.json").unlink()
    assert main(["plan", *words, "-o", output]) == 0
    said = capsys.readouterr().out
    assert CODE not in said and (output == "text" or json.loads(said)["warnings"] == [])


def test_a_damaged_world_stops_every_command_since_its_card_may_say_how_to_render(words, folder, capsys):
    (folder / "world.json").write_text("{")
    for command in ("plan", "validate"):
        assert main([command, *words]) == 2
        error = capsys.readouterr().err
        assert str(folder / "world.json") in error and error.count("\n") == 1


def test_a_world_whose_words_are_damaged_stops_the_plan_that_needs_them_and_nothing_else(
    words, folder, capsys
):
    (folder / "world.json").write_text(json.dumps(KNOWN | {"words": 3}))
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert str(folder / "world.json") in error and error.count("\n") == 1
    assert main(["validate", *words]) == 0


def test_what_the_model_was_taught_changes_no_jobs_id_or_plan(words, folder, capsys):
    found = []
    for words_known in (KNOWN["words"], ["zebra"]):
        (folder / "world.json").write_text(json.dumps(KNOWN | {"words": words_known}))
        assert main(["plan", *words, "-o", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    first, second = ({key: value for key, value in one.items() if key != "warnings"} for one in found)
    assert first == second


def test_the_prompts_of_a_row_are_those_that_its_shots_show():
    later = [{"start_s": 1.0, "prompt": "three"}, {"start_s": 2.0, "prompt": "four"}]
    shots = [{"prompt": "two", "prompts": later}, {"prompt": "  "}, {"prompt": None}]
    assert list(prompts(row(prompt="one", shots=shots))) == [
        ("/prompt", "one"),
        ("/shots/0/prompt", "two"),
        ("/shots/0/prompts/0/prompt", "three"),
        ("/shots/0/prompts/1/prompt", "four"),
    ]
    assert next(prompts(row(prompt="one", shots=shots[:1]))) == ("/shots/0/prompt", "two")


def test_a_million_prompts_are_two_numbers_and_a_few_examples_with_different_words():
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(2000):
            text = f"zebra {number // 100}" if number % 2 else "the sun"
            yield row(row_id=f"film-{number}", shots=[{"prompt": text}])

    (one,) = outside(levels(*rows()), {"chalk": WORLD})
    assert (one.n_outside, one.n_prompts, len(one.examples)) == (1000, 2000, SHOWN)
    assert len({example.words for example in one.examples}) == SHOWN
    assert "1,000 of 2,000 prompts" in as_text(one) and "… and 995 prompts more" in as_text(one)


def test_each_profile_is_judged_by_its_own_model():
    films = [row(profile=name, shots=[{"prompt": "a zebra"}]) for name in ("chalk", "large", "other")]
    grey = World("grey", "n", frozenset({"a", "zebra"}), frozenset(), ("zebras",))
    (one,) = outside(levels(*films), {"chalk": WORLD, "large": grey})
    assert (one.profile, one.n_prompts) == ("chalk", 1)
    assert outside(levels(*films), {}) == []


def test_what_makes_a_word_unknown_can_be_seen_on_one_line():
    one = Outside("chalk", WORLD)
    one.show(row(shots=[{"prompt": "sun\u200b\nhi\x07lls " + "\u202ez" * 2000}]))
    (example,) = [line for line in as_text(one).splitlines() if "/shots" in line]
    assert r"sun\u200b" in example and r"hi\u0007lls" in example and r"\u202ez" in example
    assert len(example) < 520 and example.endswith("…")


def test_a_prompt_of_emoji_renders_from_the_command_line(tiny_folder, tmp_path, capsys):
    text = "🌞 太陽 \u200b?!"
    (tmp_path / "film.yaml").write_text(
        "- {row_id: odd, profile: chalk, width_px: 128, height_px: 128, "
        f"shots: [{{shot_id: a, prompt: {json.dumps(text, ensure_ascii=False)}, duration_frames: 8}}]}}"
    )
    quick = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=2"]
    settings = [*quick, f"identity={tmp_path / 'identity'}", "--out", str(tmp_path / "out")]
    assert main(["run", str(tmp_path / "film.yaml"), "--local", *settings]) == 0
    assert '"done": 1' in capsys.readouterr().out.splitlines()[-1]
    assert len(list((tmp_path / "out" / "films").glob("odd*.mp4"))) == 1
