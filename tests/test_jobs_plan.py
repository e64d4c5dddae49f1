"""From a row to its tasks: frames, seeds, prompts and sizes, as exact arithmetic."""

import json
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cluster.tasks import VISUAL_ONLY, FilmTasks, Model
from engine.families.facts import ModelFacts
from jobs.plan import LANGUAGES, Stock, film_tasks, fps_of, frames_of, limits_of, plan, stock
from jobs.spec import Profile, SpecError, load_spec
from manifests.schema import SCHEMA
from manifests.validate import validate

RATES = st.builds(Fraction, st.integers(1, 120_000), st.integers(1, 1001))
FACTS = ModelFacts("CogVideoXPipeline", 16, 8, 4, 2, 13, 226, 30)
STOCK = {"chalk": Stock(Profile(), FACTS, Model("/models/chalk", "float32", "digest"), continues=3)}


def shot(**changes: Any) -> dict[str, Any]:
    return {"shot_id": "s1", "prompt": "a river", "duration_s": 4.0} | changes


def row(*shots: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"row_id": "film", "profile": "chalk", "shots": list(shots) or [shot()]} | changes


def film(*shots: dict[str, Any], **changes: Any) -> FilmTasks:
    return film_tasks(row(*shots, **changes), STOCK)


def sources(one: FilmTasks) -> list[Any]:
    return [segment.source for segment in one.master.segments]


@given(st.integers(0, 100_000), RATES)
def test_whole_frames_survive_the_way_through_seconds(frames: int, fps: Fraction) -> None:
    assert frames_of(float(frames / fps), fps) == frames


@given(st.floats(0, 3600), RATES)
def test_frames_are_the_exact_time_rounded_half_up(seconds: float, fps: Fraction) -> None:
    exact = Fraction(seconds) * fps
    assert frames_of(seconds, fps) == floor(exact + Fraction(1, 2))
    assert abs(frames_of(seconds, fps) - exact) <= Fraction(1, 2)


@given(st.floats(0, 3600), st.floats(0, 3600), RATES)
def test_a_longer_time_never_has_fewer_frames(one: float, other: float, fps: Fraction) -> None:
    assert frames_of(min(one, other), fps) <= frames_of(max(one, other), fps)


def test_half_a_frame_is_rounded_up_where_floats_say_exactly_half() -> None:
    assert [frames_of(s, Fraction(8)) for s in (0.0625, 0.1875, 0.0624)] == [1, 2, 0]
    assert frames_of(10.0, Fraction(30000, 1001)) == 300


@given(st.text("abcz019._-", min_size=1, max_size=40))
def test_a_seed_comes_from_the_rows_name_alone_and_fits_the_results(row_id: str) -> None:
    seeds = [sources(film(row_id=row_id, title=title))[0].shot.seed for title in ("one", "two")]
    assert seeds[0] == seeds[1] and 0 <= seeds[0] < 2**63


def test_rows_of_different_names_get_different_seeds() -> None:
    seeds = {sources(film(row_id=f"film-{number}"))[0].shot.seed for number in range(200)}
    assert len(seeds) == 200


def test_the_derived_seed_is_the_one_of_last_year() -> None:
    # A literal: if it changes, every film without a seed is rendered anew, and differently.
    assert sources(film(row_id="water-cycle"))[0].shot.seed == 1297786025624677718


def test_a_shots_seed_wins_over_the_rows_and_zero_is_a_seed() -> None:
    seeds = [s.shot.seed for s in sources(film(shot(seed=0), shot(shot_id="s2"), seed=5))]
    assert seeds == [0, 5]


def test_every_shot_is_planned_in_order_from_its_first() -> None:
    one = film(shot(), shot(shot_id="s0", duration_s=None, duration_frames=7), shot(shot_id="s2"))
    assert [s.shot.shot_id for s in sources(one)] == ["s1", "s0", "s2"]
    assert [s.shot.n_frames for s in sources(one)] == [32, 7, 32]


def test_a_shot_starts_with_its_own_prompt_and_later_ones_follow_in_frames() -> None:
    later = [{"start_s": 1.5, "prompt": "sun", "blend_s": 0.5}, {"start_s": 3.0, "prompt": "night"}]
    spans = sources(film(shot(prompts=later)))[0].shot.prompts
    assert [(s.prompt, s.start, s.blend) for s in spans] == [
        ("a river", 0, 0),
        ("sun", 12, 4),
        ("night", 24, 0),
    ]


@pytest.mark.parametrize("bare", [None, "", "  "])
def test_what_a_shot_leaves_out_is_the_rows(bare: str | None) -> None:
    one = film(shot(prompt=bare), prompt="the sea", negative_prompt="fog")
    assert sources(one)[0].shot.prompts[0].prompt == "the sea"
    assert sources(one)[0].shot.negative_prompt == "fog"


def test_the_model_draws_at_the_size_divided_by_the_upscale() -> None:
    source, segment = sources(film(width_px=512, height_px=256))[0], film().master.segments[0]
    assert (source.width_px, source.height_px) == (128, 64)
    assert (segment.picture.width_px, segment.picture.height_px) == (384, 256)
    assert limits_of(STOCK)["chalk"].size_multiple_px == 64


def test_a_rows_rate_is_kept_exactly() -> None:
    assert fps_of(row(fps_num=30000, fps_den=1001), Profile()) == Fraction(30000, 1001)
    assert fps_of(row(), Profile()) == 8
    assert sources(film(shot(duration_s=10.0), fps_num=30000, fps_den=1001))[0].shot.n_frames == 300


def test_a_film_without_languages_has_one_version_without_words() -> None:
    for languages in (None, []):
        (version,) = film(languages=languages).versions
        assert (version.lang, version.title, version.narrations) == (VISUAL_ONLY, "", ())


def test_languages_share_all_pictures_and_take_the_rows_title_where_they_have_none() -> None:
    words = [{"shot_id": "s1", "text": "नदी"}]
    one = film(
        title="River", languages=[{"lang": "hi-IN", "segments": words}, {"lang": "ta-IN", "title": "ஆறு"}]
    )
    assert [(v.lang, v.title, len(v.narrations)) for v in one.versions] == [
        ("hi-IN", "River", 1),
        ("ta-IN", "ஆறு", 0),
    ]
    assert one.versions[0].segments == one.versions[1].segments == one.master.segments


def test_the_model_folders_place_changes_no_key_but_its_files_do() -> None:
    def keys(model: Model) -> list[str]:
        return list(film_tasks(row(), {"chalk": Stock(Profile(), FACTS, model, continues=3)}).tasks)

    here, there = Model("/a", "float32", "digest"), Model("/b", "float32", "digest")
    assert keys(here) == keys(there)
    assert not set(keys(here)) & set(keys(Model("/a", "float32", "other")))


def test_films_are_planned_one_at_a_time() -> None:
    def rows() -> Any:
        yield row()
        raise AssertionError("the second row was asked for before the first film was taken")

    assert next(plan(rows(), STOCK)).row_id == "film"


def test_a_language_that_can_be_asked_for_has_a_voice() -> None:
    assert {"hi-IN", "ta-IN", "en-IN"} <= LANGUAGES and len(LANGUAGES) >= 12


def test_a_folder_that_is_no_model_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"profiles\.chalk\.model\.folder"):
        stock(load_spec(None, [f"profiles.chalk.model.folder={tmp_path}"]))


def model_folder(path: Path) -> Path:
    """What planning reads of a checkpoint, without weights."""
    parts = {
        "model_index": {"_class_name": "CogVideoXPipeline"},
        "vae/config": {"temporal_compression_ratio": 4, "block_out_channels": [8, 8, 8, 8]},
        "transformer/config": {
            "in_channels": 16,
            "patch_size": 2,
            "sample_frames": 49,
            "max_text_seq_length": 226,
            "num_attention_heads": 30,
        },
    }
    for name, content in parts.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


REFUSED = [
    ("a size of no whole patches", "picture.width_px=400", "400 px must be a multiple of 64 px"),
    ("no size", "picture.height_px=0", "0 px must be a multiple"),
    ("a scheduler of another model", "sampling.scheduler=euler", "'euler': its model has ddim, dpm"),
    ("an overlap as long as the model's own window", "window.overlap=13", "window.overlap=13"),
]


@pytest.mark.parametrize(("override", "named"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_profile_that_its_model_cannot_serve_is_refused_before_any_row(
    tmp_path: Path, override: str, named: str
) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}"]
    assert stock(load_spec(None, told))["chalk"].facts.window_frames == 13
    with pytest.raises(SpecError, match=named):
        stock(load_spec(None, [*told, f"profiles.chalk.{override}"]))


def test_a_gang_with_more_ulysses_ranks_than_the_model_has_heads_is_refused_before_any_row(
    tmp_path: Path,
) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}"]
    assert stock(load_spec(None, [*told, "cluster.ulysses=30"]))
    with pytest.raises(SpecError, match=r"cluster.ulysses=31 ranks .* 30 attention heads .* set it to 30 or"):
        stock(load_spec(None, [*told, "cluster.ulysses=31"]))


# Mostly sound, so that what is left to planning is tried; edges lie on halves of frames.
TIMES = st.one_of(st.floats(0.01, 61), st.sampled_from([0.0, 0.06, 0.0625, 1.0, 1.0625, 59.96, 60.0]))
BLENDS = st.one_of(st.none(), st.floats(0, 3), st.just(0.0))
PROMPTS = st.fixed_dictionaries({"start_s": TIMES, "prompt": st.just("sun"), "blend_s": BLENDS})
LENGTHS = st.one_of(
    st.fixed_dictionaries({"duration_s": TIMES}),
    st.fixed_dictionaries({"duration_frames": st.integers(0, 500)}),
)
SHOTS = st.builds(
    lambda length, prompts, prompt, seed: (
        length | {"prompts": sorted(prompts, key=lambda p: p["start_s"]), "prompt": prompt, "seed": seed}
    ),
    LENGTHS,
    st.lists(PROMPTS, max_size=2),
    st.sampled_from([None, " ", "rain", "क्षेत्र"]),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
)
RATES_OF_ROWS = st.one_of(
    st.just({}), st.fixed_dictionaries({"fps_num": st.integers(1, 60), "fps_den": st.integers(1, 3)})
)
ROWS = st.builds(
    lambda rate, shots: row(
        *({"shot_id": f"s{place}"} | shot for place, shot in enumerate(shots)), prompt="sea", **rate
    ),
    RATES_OF_ROWS,
    st.lists(SHOTS, min_size=1, max_size=2),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_every_row_that_validation_passes_can_be_planned(one: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([one], schema=SCHEMA)
    found = validate(table, limits_of(STOCK))
    event("faulty" if found else "sound")
    if not found:
        planned = film_tasks(table.to_pylist()[0], STOCK)
        for source in sources(planned):
            for phase in source.phases:
                assert len(phase.parts) == len(phase.weights)
                assert phase.weights.sum(axis=0) == pytest.approx(1)
        assert len(planned.tasks) >= 4
