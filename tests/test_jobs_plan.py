"""From a row to its tasks: frames, seeds, prompts and sizes, as exact arithmetic."""

import json
from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cluster.identity import Model
from cluster.tasks import VISUAL_ONLY, FilmTasks
from engine.cache import INTERVAL
from engine.changes import Hold
from engine.families.card import Card
from engine.families.facts import ModelFacts, card_of, read_card
from engine.families.published import published
from engine.families.published_parts import SVD
from engine.takes import CLIP, FIRST
from jobs.denoising import WindowSpec
from jobs.models import checkpoint_of
from jobs.plan import film_tasks, fps_of, frames_of
from jobs.profile import ModelSpec, Profile, QualitySpec
from jobs.refusal import SpecError
from jobs.spec import ClusterSpec, load_spec
from jobs.stitching import blends_only
from jobs.stock import LANGUAGES, Stock, completed, limits_of, settled, stock, stock_published
from jobs.stock_checks import check_kernels
from manifests.schema import SCHEMA
from manifests.sizes import Sizes
from manifests.validate import validate

RATES = st.builds(Fraction, st.integers(1, 120_000), st.integers(1, 1001))
FACTS = ModelFacts("CogVideoXPipeline", 16, 8, 4, 2, 13, 226, 30)
CARD = Card(20, 3.0, 384, 256, 8, upscale=4)
PROFILE = completed(Profile(), CARD, FACTS)
STOCK = {"chalk": Stock(PROFILE, FACTS, Model("/models/chalk", "float32", "digest"), given_latents=3)}


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
        return list(film_tasks(row(), {"chalk": Stock(PROFILE, FACTS, model, given_latents=3)}).tasks)

    here, there = Model("/a", "float32", "digest"), Model("/b", "float32", "digest")
    assert keys(here) == keys(there)
    assert not set(keys(here)) & set(keys(Model("/a", "float32", "other")))


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
    return folder_of(path, parts)


def folder_of(path: Path, parts: dict[str, Any]) -> Path:
    """A folder of these JSON files."""
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


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("size=7", "window.size=7 latent frames must be a multiple of 2"),
        ("overlap=3", "window.overlap=3 latent frames must be at least 4"),
    ],
)
def test_windows_of_broken_patches_are_refused_before_any_row(
    tmp_path: Path, override: str, named: str
) -> None:
    folder = model_folder(tmp_path)
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size_t": 2, "sample_frames": 81}))
    told = [f"profiles.chalk.model.folder={folder}"]
    one = stock(load_spec(None, told))["chalk"]
    assert (one.facts.window_frames, one.facts.window_unit, one.facts.patch_frames) == (22, 2, 2)
    with pytest.raises(SpecError, match=named):
        stock(load_spec(None, [*told, f"profiles.chalk.window.{override}"]))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("size=36", "window.size=36 latent frames must be 5 k . 2"),
        ("size=107", "trained on windows of up to 102; nearest: 102"),
        ("overlap=23", "it must be at most 22"),
    ],
)
def test_windows_that_a_model_of_uneven_latent_frames_cannot_be_given_are_refused_before_any_row(
    tmp_path: Path, override: str, named: str
) -> None:
    parts = {
        "modular_model_index": {"_class_name": "MiniMaxH3ModularPipeline"},
        "vae/config": {
            "spatial_downsample_factors": [2, 2, 2, 2, 1, 1],
            "temporal_downsample_factors": [1, 2, 2, 1, 1, 1],
            "clip_length": 17,
            "token_drop": 3,
        },
        "transformer/config": {
            "in_channels": 24,
            "audio_in_channels": 32,
            "patch_size": [1, 2, 2],
            "num_attention_heads": 56,
        },
    }
    told = [f"profiles.chalk.model.folder={folder_of(tmp_path, parts)}"]
    assert stock(load_spec(None, told))["chalk"].facts.heads == 56
    assert stock(load_spec(None, [*told, "profiles.chalk.window.size=102"]))
    with pytest.raises(SpecError, match=named):
        stock(load_spec(None, [*told, f"profiles.chalk.window.{override}"]))


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
    picture = completed(Profile(), Card(width_px=720, height_px=490), facts).picture
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
    ("name", "transformer", "override", "named"),
    [
        ("HunyuanVideo", {}, "guidance_rescale=0.5", "distilled from guidance"),
        ("Open-Sora-2", {"guidance_embed": True}, "guidance_rescale=0.5", "distilled from guidance"),
        ("MiniMax-H3", {}, "guidance_rescale=0.5", "distilled from guidance"),
        ("Wan2.1-14B", {}, "guidance_schedule=cosine", "CogVideoX's own: use constant or linear"),
    ],
)
def test_guidance_that_the_model_has_not_is_refused_before_any_row(
    tmp_path: Path, name: str, transformer: dict[str, Any], override: str, named: str
) -> None:
    checkpoint = published()[name]
    parts = {f"{part}/config": dict(config) for part, config in checkpoint.parts.items()}
    parts["transformer/config"] |= transformer
    parts["model_index"] = {"_class_name": checkpoint.family}
    told = [f"profiles.chalk.model.folder={folder_of(tmp_path, parts)}"]
    assert stock(load_spec(None, told))
    with pytest.raises(SpecError, match=named):
        stock(load_spec(None, [*told, f"profiles.chalk.sampling.{override}"]))


@pytest.mark.parametrize("name", published())
def test_all_models_take_a_step_cache_but_those_of_several_experts_and_of_too_few_steps(
    name: str,
) -> None:
    checkpoint, told = published()[name], ["profiles.chalk.sampling.cache=taylorseer"]
    if "boundary_ratio" in checkpoint.parts.get("pipeline", {}):
        with pytest.raises(SpecError, match=r"sampling\.cache=taylorseer .* 2 experts take turns"):
            stock_published(load_spec(None, told), checkpoint)
        return
    sampling = stock_published(load_spec(None, told), checkpoint)["chalk"].profile.sampling
    assert (sampling.cache, sampling.cache_interval) == ("taylorseer", INTERVAL)
    with pytest.raises(SpecError, match=r"skips none of sampling\.n_steps=4: take at least 5 steps"):
        stock_published(load_spec(None, [*told, "profiles.chalk.sampling.n_steps=4"]), checkpoint)


def test_a_profile_without_weights_takes_what_its_checkpoint_recommends_and_is_refused_the_same() -> None:
    profile = stock_published(load_spec(), published()["Wan2.2-I2V-A14B"])["chalk"].profile
    assert (profile.sampling.n_steps, profile.sampling.guidance_scale) == (40, 3.5)
    picture = profile.picture
    assert (picture.width_px, picture.height_px, picture.upscale, picture.fps) == (1280, 720, 1, 16)
    rescaled = load_spec(None, ["profiles.chalk.sampling.guidance_rescale=0.5"])
    assert stock_published(rescaled, published()["Wan2.1-14B"])
    with pytest.raises(SpecError, match="distilled from guidance"):
        stock_published(rescaled, published()["HunyuanVideo"])


@pytest.mark.parametrize("name", published())
def test_a_familys_card_says_of_a_published_checkpoint_what_its_own_does(name: str) -> None:
    checkpoint = published()[name]
    card = card_of(checkpoint.family, {part: dict(config) for part, config in checkpoint.parts.items()})
    assert (card.n_steps, card.guidance_scale, card.fps_num) == (
        *(checkpoint.n_steps, checkpoint.guidance_scale),
        checkpoint.fps,
    )
    multiple = checkpoint.facts.size_multiple_px
    sizes = Sizes(multiple, 1920, 1920, card.most_px, card.widest)
    for width_px, height_px in ((card.width_px, card.height_px), (checkpoint.width_px, checkpoint.height_px)):
        assert sizes.has(width_px - width_px % multiple, height_px - height_px % multiple)


def test_guidance_that_would_change_nothing_is_refused() -> None:
    checkpoint = published()["HunyuanVideo-1.5"]
    assert checkpoint.facts.guided
    distilled = replace(
        checkpoint,
        parts={**checkpoint.parts, "guider": {"_class_name": "ClassifierFreeGuidance", "enabled": False}},
    )
    spec = load_spec(None, ["profiles.chalk.sampling.guidance_scale=6"])
    assert stock_published(spec, checkpoint)["chalk"].profile.sampling.guidance_scale == 6
    with pytest.raises(SpecError, match=r"guidance_scale=6: .*distilled .* leave it out, or set it to 1"):
        stock_published(spec, distilled)
    plain = load_spec(None, ["profiles.chalk.sampling.guidance_scale=1"])
    assert stock_published(plain, distilled)["chalk"].profile.sampling.guidance_scale == 1


def test_a_distilled_folders_card_recommends_no_guidance() -> None:
    parts = {part: dict(config) for part, config in published()["HunyuanVideo-1.5"].parts.items()}
    for guider, scale in (({"guidance_scale": 6.0}, 6.0), ({"enabled": False}, 1.0)):
        assert card_of("HunyuanVideo15Pipeline", parts | {"guider": guider}).guidance_scale == scale


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CogVideoX1.5-5B", "patches are of several latent frames"),
        ("MiniMax-H3", "latent frames are uneven in time"),
        ("SVD-XT", "sees what is given beside the latents"),
    ],
)
def test_models_whose_windows_can_be_blended_only_are_and_another_mode_is_refused_before_any_row(
    name: str, why: str
) -> None:
    checkpoint = checkpoint_of(name)
    one = stock_published(load_spec(), checkpoint)["chalk"]
    assert why in blends_only(one, one.takes.must)
    for mode in ("skeleton", "extend"):
        spec = load_spec(None, [f"profiles.chalk.window.mode={mode}"])
        with pytest.raises(SpecError, match=f"profiles.chalk.window.mode={mode}: .*{why}.*use blend"):
            stock_published(spec, checkpoint)


@pytest.mark.parametrize(
    ("facts", "mode", "why"),
    [
        ({}, "extend", "taught to go on"),
        ({"window_frames": 14, "window_unit": 2, "patch_frames": 2}, "blend", "several latent frames"),
        ({"window_frames": 37, "window_unit": 15, "period": 5}, "blend", "uneven in time"),
    ],
)
def test_a_long_shot_has_the_mode_that_is_proven_for_its_model(
    facts: dict[str, int], mode: str, why: str
) -> None:
    profile = replace(PROFILE, window=WindowSpec(gangs=3))
    one = replace(STOCK["chalk"], profile=profile, facts=replace(FACTS, **facts))
    (task,) = sources(film_tasks(row(shot(duration_s=60.0)), {"chalk": one}))
    assert task.stitch.mode == mode and why in task.stitch.why
    assert sum(phase.n_steps for phase in task.phases) == task.course.n_steps


@pytest.mark.parametrize(
    ("changes", "limit", "why"),
    [
        ({}, 3.0, ""),
        ({"duration_s": 4.0}, 0.0, ""),  # one window
        ({"prompts": [{"start_s": 9.0, "prompt": "rain"}]}, 0.0, "its prompt changes"),
        ({"camera": "slow push in"}, 0.0, "its camera moves (slow push in)"),
        ({"camera": "static"}, 3.0, ""),
        ({"prompt": "a river at sunset"}, 0.0, "its prompt says 'sunset'"),
        ({"prompt": "नदी पर सूरज उगता है"}, 0.0, "its prompt says 'सूरज उगता है'"),
    ],
)
def test_long_shots_are_held_to_their_beginning_unless_they_are_meant_to_change(
    changes: dict[str, Any], limit: float, why: str
) -> None:
    one = replace(STOCK["chalk"], changes=("सूरज उगता है",))
    (segment,) = film_tasks(row(shot(**{"duration_s": 20.0} | changes)), {"chalk": one}).master.segments
    assert (segment.hold.max_drift, segment.hold.why) == (limit, why)
    off = replace(one, profile=replace(PROFILE, quality=QualitySpec(max_drift=0.0)))
    (segment,) = film_tasks(row(shot(**{"duration_s": 20.0} | changes)), {"chalk": off}).master.segments
    assert segment.hold == Hold() and not segment.hold.why


def test_pixels_in_tiles_are_another_segment_of_the_same_shot() -> None:
    tiled = replace(STOCK["chalk"], profile=replace(PROFILE, model=replace(PROFILE.model, tiles=True)))
    one, other = (
        film_tasks(row(shot()), {"chalk": stock}).master.segments[0] for stock in (STOCK["chalk"], tiled)
    )
    assert one.source.key == other.source.key and one.key != other.key


@pytest.mark.parametrize("family", ["WanPipeline", "StableVideoDiffusionPipeline"])
def test_tiles_are_refused_where_they_would_save_nothing(family: str) -> None:
    facts = replace(FACTS, family=family)
    with pytest.raises(SpecError, match=r"profiles\.w\.model\.tiles=true: .* no tiles of space that"):
        check_kernels("w", ModelSpec(tiles=True), facts, ClusterSpec())
    check_kernels("w", ModelSpec(), facts, ClusterSpec())


def test_the_shipped_model_says_in_its_own_languages_what_changes() -> None:
    one = stock(load_spec())["chalk"]
    (segment,) = film_tasks(
        row(shot(duration_s=20.0, prompt="नदी पर सूरज उगता है")), {"chalk": one}
    ).master.segments
    assert segment.hold.why == "its prompt says 'सूरज उगता है'"


@pytest.mark.parametrize(
    ("name", "mode", "overlap"), [("SkyReels-V2-DF-1.3B", "extend", 4), ("SkyReels-V2-14B", "skeleton", 4)]
)
def test_a_family_that_was_taught_to_go_on_extends_long_shots_and_its_kin_that_was_not_does_not(
    name: str, mode: str, overlap: int
) -> None:
    one = stock_published(load_spec(), checkpoint_of(name))["chalk"]
    (task,) = sources(film_tasks(row(shot(duration_s=60.0)), {"chalk": one}))
    assert (task.stitch.mode, task.layout.overlap) == (mode, overlap)
    assert [phase.held for phase in task.phases[1:]] == [overlap * (mode == "extend")] * len(task.phases[1:])
    assert one.takes.may == ({FIRST, CLIP} if mode == "extend" else set())


def test_a_model_that_is_not_here_is_planned_as_if_its_noise_fell_evenly() -> None:
    one = replace(STOCK["chalk"], given_latents=0)
    (task,) = sources(film_tasks(row(shot(duration_s=60.0)), {"chalk": one}))
    assert (task.stitch.mode, task.stitch.first_step) == ("skeleton", 8) and task.sampling.n_steps == 20


def test_a_gang_with_more_ulysses_ranks_than_the_model_has_heads_is_refused_before_any_row(
    tmp_path: Path,
) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}"]
    assert stock(load_spec(None, [*told, "cluster.ulysses=30"]))
    with pytest.raises(SpecError, match=r"cluster.ulysses=31 ranks .* 30 attention heads .* set it to 30 or"):
        stock(load_spec(None, [*told, "cluster.ulysses=31"]))


@pytest.mark.parametrize("axis", ["ring", "ulysses"])
def test_a_gang_that_shares_a_window_is_refused_for_a_model_that_cannot_be_shared(
    tmp_path: Path, axis: str
) -> None:
    parts = {
        "model_index": {"_class_name": "StableVideoDiffusionPipeline"},
        "vae/config": SVD["vae"],
        "unet/config": SVD["unet"],
    }
    told = [f"profiles.chalk.model.folder={folder_of(tmp_path, parts)}", "cluster.cfg=2"]
    assert stock(load_spec(None, told))["chalk"].facts.window_frames == 25
    with pytest.raises(SpecError, match=rf"cluster.{axis}=2.* cannot share a window .* set both to 1"):
        stock(load_spec(None, [*told, f"cluster.{axis}=2"]))


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "bfloat16"), ("cpu", "float32")])
def test_a_dtype_left_open_is_that_of_the_device_before_anything_is_keyed_by_it(
    tmp_path: Path, device: str, dtype: str
) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}", f"cluster.device={device}"]
    spec = load_spec(None, [*told, "profiles.chalk.model.dtype=auto", "profiles.other.model.dtype=float16"])
    assert [one.model.dtype for one in settled(spec).profiles.values()] == [dtype, "float16"]
    assert settled(settled(spec)) == settled(spec)
    assert stock(spec)["chalk"].model.identity[1] == dtype


def test_weights_are_shared_out_over_gangs_of_several_only(tmp_path: Path) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}", "profiles.chalk.model.zero=true"]
    assert stock(load_spec(None, [*told, "cluster.ulysses=2"]))["chalk"].model.zero
    with pytest.raises(SpecError, match=r"profiles\.chalk\.model\.zero=true .+offload=memory"):
        stock(load_spec(None, told))


def test_compiled_kernels_are_for_gangs_of_one_and_float8_for_gpus(tmp_path: Path) -> None:
    told = [f"profiles.chalk.model.folder={model_folder(tmp_path)}", "profiles.chalk.model.compile=true"]
    assert stock(load_spec(None, told))["chalk"].model.compile
    stock(load_spec(None, [*told, "cluster.cfg=0", "cluster.ring=0", "cluster.ulysses=0"]))  # held to 1
    for axis in ("cfg=2", "ring=3", "ulysses=2"):
        with pytest.raises(SpecError, match=rf"compile=true is for gangs .+: set cluster\.{axis} to 1,"):
            stock(load_spec(None, [*told, "cluster.cfg=0", f"cluster.{axis}"]))
    float8 = ["profiles.chalk.model.quantise=float8", "profiles.chalk.model.dtype=bfloat16"]
    assert stock(load_spec(None, [told[0], *float8]))["chalk"].model.quantise == "float8"
    with pytest.raises(SpecError, match=r"cluster\.device=cpu: use int8"):
        stock(load_spec(None, [told[0], *float8, "cluster.device=cpu"]))


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
