"""Claims about the example manifests: they are what they say, in words that the embedded model knows."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from engine.chalk.captions import vocabulary
from engine.chalk.tokens import MAX_TOKENS
from engine.film import voice
from engine.film.shaping import check_text
from engine.film.titles import draw_title
from jobs.checks import check
from jobs.cli import main
from jobs.plan import frames_of
from jobs.spec import load_spec
from jobs.stock import LANGUAGES, stock
from manifests.source import read_source

EXAMPLES = Path(__file__).parent.parent / "jobs" / "examples"
MANIFESTS = sorted(set(EXAMPLES.glob("*.yaml")) - set(EXAMPLES.glob("farm_*.yaml")))
FPS, SIZE = Fraction(8), (384, 256)  # of the profile chalk
COMFORTABLE = 0.85  # of its shot, that a narration may last at the voice's own pace


def rows(path: Path) -> list[dict]:
    return list(read_source(str(path)).rows())


def fps(row: dict) -> Fraction:
    return Fraction(row["fps_num"], row["fps_den"]) if row["fps_num"] else FPS


def frames(row: dict) -> dict[str, int]:
    """Frames of every shot."""
    return {s["shot_id"]: s["duration_frames"] or frames_of(s["duration_s"], fps(row)) for s in row["shots"]}


def prompts(row: dict) -> Iterator[str]:
    for shot in row["shots"]:
        yield shot["prompt"] or row["prompt"]
        yield from (later["prompt"] for later in shot["prompts"] or [])


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    """The profile chalk with a model of its shape, but tiny."""
    from engine.chalk.model import build_pipeline, save

    folder = tmp_path_factory.mktemp("model")
    save(folder, build_pipeline(0, tiny=True))
    return [f"profiles.chalk.model.folder={folder}"]


@pytest.mark.parametrize("path", [*MANIFESTS, EXAMPLES / "nightly.parquet"], ids=lambda path: path.name)
def test_every_example_is_valid(path, settings):
    spec = load_spec(None, settings)
    assert check(read_source(str(path)), stock(spec), spec) == []


@pytest.mark.parametrize("path", [*MANIFESTS, EXAMPLES / "nightly.parquet"], ids=lambda path: path.name)
def test_a_plan_of_an_example_warns_of_nothing(path, settings, capsys):
    assert main(["plan", str(path), *settings, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_the_water_cycle_is_one_minute_in_hindi_and_tamil():
    (film,) = rows(EXAMPLES / "water_cycle.yaml")
    assert film["row_id"] == "water-cycle" and film["profile"] == "chalk"
    assert sum(frames(film).values()) == 480 and fps(film) == 8
    assert 7 <= len(film["shots"]) <= 9 and all(4 * 8 <= n <= 12 * 8 for n in frames(film).values())
    assert [len(shot["prompts"] or []) for shot in film["shots"]].count(1) == 1
    assert [language["lang"] for language in film["languages"]] == ["hi-IN", "ta-IN"]
    for language in film["languages"]:
        assert [segment["shot_id"] for segment in language["segments"]] == list(frames(film))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_word_of_a_prompt_was_taught_to_the_embedded_model(path):
    known = set(vocabulary())
    for row in rows(path):
        for prompt in prompts(row):
            words = prompt.replace(",", "").split()
            assert set(words) <= known, set(words) - known
            assert len(words) < MAX_TOKENS


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_narration_fits_its_shot_without_haste(path):
    for row in rows(path):
        for language in row["languages"] or []:
            for segment in language["segments"]:
                most_s = COMFORTABLE * float(frames(row)[segment["shot_id"]] / fps(row))
                spoken = voice.speak(segment["text"], language["lang"])
                assert 0.3 < spoken.length_s <= most_s, segment["text"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_title_can_be_drawn_on_its_film(path):
    for row in rows(path):
        size = (row["width_px"] or SIZE[0], row["height_px"] or SIZE[1])
        for language in row["languages"] or []:
            title = language["title"] or row["title"]
            assert check_text(title, language["lang"]).ok
            assert draw_title(title, language["lang"], *size).any()


def test_the_nightly_parquet_is_the_yaml_beside_it():
    made = read_source(str(EXAMPLES / "nightly.parquet")).table
    assert made.equals(read_source(str(EXAMPLES / "nightly.yaml")).table, check_metadata=True)


def test_the_nightly_batch_is_small_and_varied():
    films = rows(EXAMPLES / "nightly.yaml")
    assert 4 <= len(films) <= 6
    assert all(4 <= sum(frames(film).values()) / fps(film) <= 10 for film in films)
    sizes = {(film["width_px"] or SIZE[0], film["height_px"] or SIZE[1]) for film in films}
    assert sizes == {(384, 256), (256, 256), (256, 448)}
    langs = {language["lang"] for film in films for language in film["languages"] or []}
    assert len({fps(film) for film in films}) >= 3 and len(langs) >= 6 and langs <= LANGUAGES
