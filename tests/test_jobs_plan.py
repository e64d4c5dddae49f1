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
from engine.families.card import Card
from engine.families.facts import ModelFacts, read_card
from jobs.plan import LANGUAGES, Stock, film_tasks, fps_of, frames_of, limits_of, plan, settled, stock
from jobs.spec import Profile, SpecError, load_spec
from manifests.schema import SCHEMA
from manifests.validate import validate

RATES = st.builds(Fraction, st.integers(1, 120_000), st.integers(1, 1001))
FACTS = ModelFacts("CogVideoXPipeline", 16, 8, 4, 2, 13, 226, 30)
CARD = Card(20, 3.0, 384, 256, 8, upscale=4)
PROFILE = settled(Profile(), CARD, FACTS)
STOCK = {"chalk": Stock(PROFILE, FACTS, Model("/models/chalk", "float32", "digest"))}


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
    assert fps_of(row(fps_num=30000, fps_den=1001), PROFILE) == Fraction(30000, 1001)
    assert fps_of(row(), PROFILE) == 8
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
        return list(film_tasks(row(), {"chalk": Stock(PROFILE, FACTS, model)}).tasks)

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


SIZE = "picture={{width_px: {}, height_px: {}}}"
UP = "picture={{upscale: {}, width_px: {}, height_px: {}}}"
REFUSED = [
    ("a size of no whole patches", SIZE.format(500, 300), "multiples of 16 px.*nearest: 496 x 304 px"),
    (
        "a size with an upscale of no whole patches",
        UP.format(4, 400, 256),
        "multiples of 64 px.*nearest: 384 x 256",
    ),
    ("a negative size", SIZE.format(-16, 256), "width_px=-16.*nearest: 16 x 16 px"),
    (
        "a larger frame than it was taught",
        SIZE.format(960, 640),
        "at most 345,600 px in all; nearest: 720 x 480",
    ),
    ("a wider one", SIZE.format(640, 160), "no side above 2 times the other; nearest: 320 x 160 px"),
    ("a longer window than it was taught", "window.size=14", "windows of up to 13; nearest: 13"),
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


CARDS = [
    ("CogVideoX", "CogVideoXPipeline", {}, {}, {}, (50, 6.0, 720, 480, 8)),
    (
        "a smaller CogVideoX",
        "CogVideoXPipeline",
        {"sample_width": 24, "sample_height": 16},
        {},
        {},
        (50, 6.0, 192, 128, 8),
    ),
    ("Wan 2.1", "WanPipeline", {}, {}, {}, (50, 5.0, 832, 480, 16)),
    ("Wan 2.2 of two experts", "WanPipeline", {}, {}, {"boundary_ratio": 0.875}, (40, 4.0, 1280, 720, 16)),
    (
        "Wan 2.2 of 5B",
        "WanPipeline",
        {},
        {"z_dim": 48, "scale_factor_spatial": 16},
        {},
        (50, 5.0, 1280, 704, 24),
    ),
    (
        "HunyuanVideo",
        "HunyuanVideoPipeline",
        {},
        {"spatial_compression_ratio": 8},
        {},
        (50, 6.0, 1280, 720, 24),
    ),
    ("Open-Sora 2", "OpenSoraPipeline", {}, {"spatial_compression_ratio": 8}, {}, (50, 7.5, 1024, 576, 24)),
]


@pytest.mark.parametrize("case", CARDS, ids=[case[0] for case in CARDS])
def test_a_profile_that_says_nothing_takes_what_its_models_card_recommends(tmp_path: Path, case: Any) -> None:
    _, family, transformer, vae, index, told = case
    folder = model_folder(tmp_path)
    for name, changes in (
        ("transformer/config", transformer),
        ("vae/config", vae),
        ("model_index", index | {"_class_name": family}),
    ):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    profile = stock(load_spec(None, [f"profiles.chalk.model.folder={folder}"]))["chalk"].profile
    sampling, picture = profile.sampling, profile.picture
    assert (
        *(sampling.n_steps, sampling.guidance_scale),
        *(picture.width_px, picture.height_px, picture.fps),
    ) == told
    assert picture.upscale == 1
    own = ["profiles.chalk.sampling.n_steps=7", "profiles.chalk.picture.fps_num=30"]
    profile = stock(load_spec(None, [f"profiles.chalk.model.folder={folder}", *own]))["chalk"].profile
    assert (profile.sampling.n_steps, profile.sampling.guidance_scale, profile.picture.fps) == (
        7,
        told[1],
        30,
    )


def test_chalk_keeps_the_settings_that_it_always_had() -> None:
    profile = stock(load_spec())["chalk"].profile
    assert (profile.sampling.n_steps, profile.sampling.guidance_scale) == (20, 3.0)
    picture = profile.picture
    assert (picture.width_px, picture.height_px, picture.upscale, picture.fps) == (384, 256, 4, 8)


def test_a_recommended_size_becomes_the_nearest_that_the_folder_can_draw() -> None:
    facts = ModelFacts("CogVideoXPipeline", 16, 8, 4, 5, 13, 226, 30)  # multiples of 40 px
    picture = settled(Profile(), Card(width_px=720, height_px=490), facts).picture
    assert (picture.width_px, picture.height_px) == (720, 480)


def test_a_folder_may_say_its_own_card_and_a_broken_one_is_refused_with_its_path(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "world.json").write_text('{"card": {"n_steps": 4, "guidance_scale": 1}}')
    card = read_card(folder)
    assert (card.n_steps, card.guidance_scale, card.width_px) == (4, 1, 720)
    for broken in (
        '{"card": 3}',
        '{"card": {"steps": 3}}',
        '{"card": {"n_steps": 2.5}}',
        '{"card": {"upscale": 0}}',
    ):
        (folder / "world.json").write_text(broken)
        with pytest.raises(SpecError, match=r"profiles\.chalk\.model\.folder=.*world\.json: its card"):
            stock(load_spec(None, [f"profiles.chalk.model.folder={folder}"]))


@pytest.mark.parametrize(
    ("family", "key", "override", "named"),
    [
        ("HunyuanVideoPipeline", "guidance_embeds", "guidance_rescale=0.5", "distilled from guidance"),
        ("OpenSoraPipeline", "guidance_embed", "guidance_rescale=0.5", "distilled from guidance"),
        ("WanPipeline", "any", "guidance_schedule=cosine", "CogVideoX's own: use constant or linear"),
    ],
)
def test_guidance_that_the_model_has_not_is_refused_before_any_row(
    tmp_path: Path, family: str, key: str, override: str, named: str
) -> None:
    folder = model_folder(tmp_path)
    for name, changes in (
        ("transformer/config", {key: True}),
        ("vae/config", {"spatial_compression_ratio": 8}),
        ("model_index", {"_class_name": family}),
    ):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    told = [f"profiles.chalk.model.folder={folder}"]
    assert stock(load_spec(None, told))
    with pytest.raises(SpecError, match=named):
        stock(load_spec(None, [*told, f"profiles.chalk.sampling.{override}"]))


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
            parts, weights = source.parts
            assert len(parts) == len(weights) and weights.sum(axis=0) == pytest.approx(1)
        assert len(planned.tasks) >= 4
