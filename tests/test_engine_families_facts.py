"""Claims about what planning reads of a model folder."""

import json
import shutil
from importlib import import_module

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, EulerDiscreteScheduler

from engine.chalk.model import TINY, WINDOW_FRAMES, build_pipeline
from engine.chalk.tokens import MAX_TOKENS
from engine.families.cogvideox import CogVideoX
from engine.families.facts import ModelFacts, read_facts
from engine.families.files import folder_digest
from engine.families.known import FAMILIES
from engine.families.variants import UNTAUGHT
from engine.families.world import read_world, words_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    build_pipeline(0, tiny=True).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_facts_are_those_of_the_parts(saved):
    facts = read_facts(saved)
    assert facts == ModelFacts(
        family="CogVideoXPipeline",
        latent_channels=TINY.latent_channels,
        spatial_compression=4,
        temporal_compression=4,
        patch=4,
        window_frames=(WINDOW_FRAMES - 1) // 4 + 1,
        max_text_tokens=MAX_TOKENS,
        heads=TINY.heads,
        takes=UNTAUGHT,
    )
    assert facts.size_multiple_px == 16


def test_the_facts_are_what_the_loaded_pipeline_says(saved):
    pipeline, facts = CogVideoX.load(saved, dtype=torch.float32).pipeline, read_facts(saved)
    assert facts.family == type(pipeline).__name__
    assert (
        facts.latent_channels
        == pipeline.transformer.config.in_channels
        == pipeline.vae.config.latent_channels
    )
    assert facts.spatial_compression == pipeline.vae_scale_factor_spatial
    assert facts.temporal_compression == pipeline.vae_scale_factor_temporal
    assert facts.patch == pipeline.transformer.config.patch_size
    assert facts.max_text_tokens == pipeline.transformer.config.max_text_seq_length


def test_the_vae_decodes_a_window_to_frames_as_the_facts_say(saved):
    vae, facts = CogVideoX.load(saved, dtype=torch.float32).pipeline.vae, read_facts(saved)
    with torch.no_grad():
        frames = vae.decode(torch.zeros(1, facts.latent_channels, 3, 2, 4)).sample
    n_frames, height, width = (
        2 * facts.temporal_compression + 1,
        *(facts.spatial_compression * n for n in (2, 4)),
    )
    assert frames.shape == (1, 3, n_frames, height, width)


@pytest.mark.parametrize("absent", ["model_index.json", "transformer/config.json", "vae/config.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", "3", "\udcff"])
def test_a_part_that_is_absent_or_no_json_object_is_refused_with_its_path(folder, absent, content):
    (folder / absent).unlink()
    if content is not None:
        (folder / absent).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=absent) as refused:
        read_facts(folder)
    assert str(folder / absent) in str(refused.value)


def test_an_absent_folder_is_refused_with_its_path(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path / "nowhere")):
        read_facts(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["FluxPipeline", None, ["CogVideoXPipeline"]])
def test_an_unknown_family_is_refused_with_the_path_its_name_and_the_known_ones(folder, name):
    change(folder / "model_index.json", _class_name=name)
    with pytest.raises(ValueError, match="CogVideoXPipeline") as refused:
        read_facts(folder)
    assert str(folder) in str(refused.value) and str(name) in str(refused.value)


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("CogVideoX")])
def test_a_folder_whose_parts_are_of_another_family_than_its_index_says_is_asked_whether_it_is(folder, name):
    change(folder / "model_index.json", _class_name=name)
    with pytest.raises(ValueError, match="is this a folder of another family") as told:
        read_facts(folder)
    assert str(folder / "vae" / "config.json") in str(told.value)
    assert "AutoencoderKLCogVideoX" in str(told.value) and name in str(told.value)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(
            ("transformer", key)
            for key in (
                "in_channels",
                "patch_size",
                "sample_frames",
                "max_text_seq_length",
                "num_attention_heads",
            )
        ),
        ("vae", "temporal_compression_ratio"),
        ("vae", "block_out_channels"),
    ],
)
@pytest.mark.parametrize("value", ["absent", None, "many", 0])
def test_a_missing_or_senseless_fact_is_refused_with_the_folder(folder, part, key, value):
    path = folder / part / "config.json"
    config = json.loads(path.read_text())
    config.pop(key)
    path.write_text(json.dumps(config if value == "absent" else config | {key: value}))
    with pytest.raises(ValueError, match=key) as refused:
        read_facts(folder)
    assert str(folder) in str(refused.value)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_digest_does_not_depend_on_where_the_folder_is_or_when_it_was_written(saved, folder):
    assert folder_digest(folder) == folder_digest(saved)
    for path in files_of(folder):
        path.touch()
    assert folder_digest(folder) == folder_digest(saved)
    assert len(bytes.fromhex(folder_digest(saved))) == 32


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_the_digest_changes_with_a_bit_of_any_file(folder, where):
    digest = folder_digest(folder)
    for path in files_of(folder):
        stock = path.read_bytes()
        if stock:
            changed = bytearray(stock)
            changed[int(where * (len(stock) - 1))] ^= 1
            path.write_bytes(changed)
            assert folder_digest(folder) != digest, path
            path.write_bytes(stock)
    assert folder_digest(folder) == digest


def test_the_digest_changes_with_the_name_of_any_file(folder):
    digest = folder_digest(folder)
    for path in files_of(folder):
        other = path.rename(path.with_name("a" + path.name))
        assert folder_digest(folder) != digest, path
        other.rename(path)
    assert folder_digest(folder) == digest


def test_the_digest_changes_when_a_byte_moves_between_files_or_files_trade_contents(tmp_path):
    def digest(name, **files):
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / f"{file}.json").write_text(text)
        return folder_digest(tmp_path / name)

    layouts = [{"a": "xy", "b": "z"}, {"a": "x", "b": "yz"}, {"a": "z", "b": "xy"}, {"a": "xyz"}, {}]
    layouts += [{"a": "xy", "b": "z", "c": ""}, {"ab": "xyz"}]
    assert len({digest(str(k), **files) for k, files in enumerate(layouts)}) == len(layouts)


def test_a_readme_does_not_change_the_digest(folder):
    digest = folder_digest(folder)
    (folder / "README.md").write_text("A model card.")
    (folder / "vae" / "README.md").write_text("Another.")
    assert folder_digest(folder) == digest


def test_what_a_model_was_taught_does_not_change_the_digest_but_a_part_of_that_name_does(folder):
    digest = folder_digest(folder)
    (folder / "world.json").write_text("{}")
    assert folder_digest(folder) == digest
    (folder / "vae" / "world.json").write_text("{}")
    assert folder_digest(folder) != digest


WORLD = {
    "name": "slate",
    "note": "It knows the weather.",
    "words": ["The", "sun", "shines", "sets", "hills", "बारिश", "snow-white"],
    "ignored": ["are"],
    "draws": ["the sun shines"],
}


def write_world(folder, **changes):
    content = {key: value for key, value in (WORLD | changes).items() if value != "absent"}
    (folder / "world.json").write_text(json.dumps(content))


def test_a_folder_without_a_world_has_none(tmp_path):
    assert read_world(tmp_path) is None


def test_words_are_known_in_any_case_and_with_any_punctuation(tmp_path):
    write_world(tmp_path)
    world = read_world(tmp_path)
    assert (world.name, world.note, world.draws) == ("slate", "It knows the weather.", ("the sun shines",))
    for known in (
        "The SUN, shines!",
        "sun-hills…",
        "बारिश।",
        "(snow) white",
        "\uff53un",
        "hills are",
        "",
        "?!",
        " \n",
    ):
        assert world.unknown(known) == (), known


def test_unknown_words_are_told_once_each_in_their_order(tmp_path):
    write_world(tmp_path)
    assert read_world(tmp_path).unknown("A zebra, a sun and a ZEBRA 🦓 नदी") == (
        "a",
        "zebra",
        "and",
        "🦓",
        "नदी",
    )


def test_a_word_with_something_invisible_in_it_is_another_word(tmp_path):
    write_world(tmp_path)
    assert read_world(tmp_path).unknown("sun\u200b shines") == ("sun\u200b",)


@pytest.mark.parametrize(
    ("word", "known"),
    [("hill", "hills"), ("shining", "shines"), ("shine", "shines"), ("setting", "sets"), ("suns", "sun")]
    + [(word, None) for word in ("zebra", "sea", "pills", "sing", "नदी", "🦓")],
)
def test_another_form_of_a_known_word_is_found(tmp_path, word, known):
    write_world(tmp_path, words=["sun", "shines", "sets", "hills", "बारिश"])
    assert read_world(tmp_path).kin(word) == known


def test_a_world_need_not_ignore_a_word(tmp_path):
    write_world(tmp_path, ignored="absent")
    assert read_world(tmp_path).unknown("hills are") == ("are",)


@pytest.mark.parametrize("key", ["name", "note", "words", "draws", "ignored"])
@pytest.mark.parametrize("value", ["absent", None, 3, [], [None], [["sun"]], {"sun": 1}, ""])
def test_a_damaged_world_is_refused_with_its_path_and_what_to_do(tmp_path, key, value):
    if (key, value) == ("ignored", "absent"):
        return
    write_world(tmp_path, **{key: value})
    with pytest.raises(ValueError, match=f"its .*{key}.*mend .*world.json or remove it"):
        read_world(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\udcff"])
def test_a_world_that_is_no_json_object_is_refused_with_its_path_and_what_to_do(tmp_path, content):
    (tmp_path / "world.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"mend .*world.json or remove it"):
        read_world(tmp_path)


def test_words_are_cut_apart_at_white_space_and_punctuation_alone():
    found = words_of("Sun-rise, it's a+b «x» \u2018y\u2019 नदी। ﬁn x\u3000y _z")
    assert " ".join(found) == "sun rise it s a b x y नदी fin x y z"


@pytest.mark.parametrize("kind", [None, "ddim", "dpm"])
@pytest.mark.parametrize("n_steps", [1, 4, 50])
@pytest.mark.parametrize("stock_is_dpm", [False, True])
def test_a_scheduler_loads_alone_as_the_whole_folder_makes_it(folder, kind, n_steps, stock_is_dpm):
    if stock_is_dpm:
        change(folder / "model_index.json", scheduler=["diffusers", "CogVideoXDPMScheduler"])
        change(folder / "scheduler" / "scheduler_config.json", _class_name="CogVideoXDPMScheduler")
    family = CogVideoX.load(folder, dtype=torch.float32, leave_out=("tokenizer", "text_encoder", "vae"))
    whole = family.pipeline.scheduler
    if kind is not None:
        whole = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}[kind].from_config(whole.config)
    whole.set_timesteps(n_steps)
    alone = CogVideoX.load_scheduler(folder, n_steps, kind)
    assert type(alone) is type(whole)
    assert isinstance(alone, CogVideoXDPMScheduler) == (kind == "dpm" or (kind is None and stock_is_dpm))
    assert len(alone.timesteps) == n_steps and torch.equal(alone.timesteps, whole.timesteps)
    assert torch.equal(alone.alphas_cumprod, whole.alphas_cumprod)
    assert {k: v for k, v in alone.config.items() if k[0] != "_"} == {
        k: v for k, v in whole.config.items() if k[0] != "_"
    }


def test_a_scheduler_of_another_kind_is_refused_by_name(folder):
    EulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(TypeError, match="EulerDiscreteScheduler"):
        CogVideoX.load_scheduler(folder, 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_planning_knows_which_families_share_a_window_or_decode_in_tiles_and_their_schedulers(name):
    module, _, family = FAMILIES[name].loader.partition(":")
    loaded = getattr(import_module(module), family)
    assert FAMILIES[name].shared == (loaded.parallel is not None)
    assert FAMILIES[name].tiles == loaded.tiles
    assert FAMILIES[name].schedulers == tuple(loaded.schedulers)
