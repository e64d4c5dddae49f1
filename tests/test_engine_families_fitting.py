"""A folder that no worker could load, or whose parts are of two models, is told by headers and JSON alone."""

import json
import math
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Pipeline
from safetensors.torch import load_file, save_file

from engine.chalk.model import TINY, build_text_encoder, build_transformer, build_vae
from engine.chalk.tokens import build_tokenizer
from engine.families.entry import Holds
from engine.families.fitting import check_fit
from engine.families.holding import numbers, wan_decoding
from engine.families.joints import JOINTS, Joint
from engine.families.known import FAMILIES
from engine.families.published import TABLE
from engine.families.weights import check_weights, read_header
from jobs.folders import CHALK
from tests import test_engine_parity_hunyuan as hunyuan
from tests import test_engine_parity_hunyuan15 as hunyuan15
from tests import test_engine_parity_ltx as ltx
from tests import test_engine_parity_mochi as mochi
from tests import test_engine_parity_pictures as pictures
from tests import tiny_h3, tiny_skyreels, tiny_svd, tiny_wan

WEIGHTS = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
SOUND = {
    **{f"Wan {name}": partial(tiny_wan.make_pipeline, kind) for name, kind in tiny_wan.KINDS.items()},
    **{name: make for name, (make, _) in pictures.KINDS.items() if "last" not in name},
    **{f"LTX {name}": partial(ltx.make_pipeline, kind) for name, kind in ltx.KINDS.items()},
    "HunyuanVideo": partial(hunyuan.make_pipeline, True),
    "HunyuanVideo 1.5": partial(hunyuan15.make_pipeline, {}),
    "Mochi": mochi.make_pipeline,
    "SVD": tiny_svd.make_pipeline,
    "SkyReels": partial(tiny_skyreels.make_pipeline, SkyReelsV2Pipeline),
    "SkyReels DF": partial(tiny_skyreels.make_pipeline, SkyReelsV2DiffusionForcingPipeline),
}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A tiny chalk that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("make", SOUND.values(), ids=SOUND)
def test_a_sound_folder_of_any_family_fits(make, tmp_path):
    make().save_pretrained(tmp_path, safe_serialization=True)
    check_fit(tmp_path)


def test_a_sound_folder_whose_index_names_no_parts_fits(tmp_path):
    tiny_h3.save_folder(tmp_path)
    check_fit(tmp_path)


def test_the_shipped_model_fits_as_is_told_in_less_than_a_second():
    check_fit(CHALK)  # what is imported only once
    began = time.process_time()
    check_fit(CHALK)
    assert time.process_time() - began < 1.0


def test_of_weights_of_a_hundred_gib_no_tensor_is_read(folder):
    """Its text encoder knows a billion words: a file with a hole for them, which would not fit in memory."""
    words, path = 10**9, folder / "text_encoder" / "model.safetensors"
    change(folder / "text_encoder" / "config.json", vocab_size=words)
    header, end = {}, 0
    for name, told in read_header(path).items():
        shape = [words, *told["shape"][1:]] if "shared" in name or "embed_tokens" in name else told["shape"]
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    assert end > 50 * 2**30
    check_weights(folder)
    began = time.process_time()
    check_fit(folder)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_tensor_that_is_misshapen_or_absent_is_named_with_its_part_and_shapes(folder, part):
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim > 1)
    rows, *rest = tensors[name].shape
    save_file(tensors | {name: tensors[name][:-1].contiguous()}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="copy the model's folder again") as told:
        check_fit(folder)
    for said in (str(folder / part), name, str((rows - 1, *rest)), str((rows, *rest))):
        assert said in str(told.value)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"its weights lack {name}: copy the model's folder again"):
        check_fit(folder)


NO_TOKENIZER = [
    (lambda part: shutil.rmtree(part), "is missing, or has no file"),
    (lambda part: (part / "tokenizer.json").unlink(), "has none of tokenizer.json"),
    (lambda part: (part / "tokenizer.json").write_text('{"model": '), "no TokenizersBackend can be made of"),
    (
        lambda part: build_tokenizer([f"word{n}" for n in range(2000)]).save_pretrained(part),
        "tokens, of which",
    ),
]


@pytest.mark.parametrize(("damage", "said"), NO_TOKENIZER)
def test_a_tokenizer_that_is_missing_broken_or_of_another_model_is_told_by_its_folder(folder, damage, said):
    damage(folder / "tokenizer")
    with pytest.raises(ValueError, match="copy the model's folder again") as told:
        check_fit(folder)
    assert said in str(told.value) and str(folder / "tokenizer") in str(told.value)


def other_latents(folder):
    build_vae(replace(TINY, latent_channels=2 * TINY.latent_channels)).save_pretrained(folder / "vae")


def other_transformer(folder):
    other = build_transformer(replace(TINY, latent_channels=2 * TINY.latent_channels))
    other.save_pretrained(folder / "transformer")


def other_texts(folder):
    n_tokens = json.loads((folder / "text_encoder" / "config.json").read_text())["vocab_size"]
    other = build_text_encoder(replace(TINY, text_dim=2 * TINY.text_dim), n_tokens)
    other.save_pretrained(folder / "text_encoder")


C, D = TINY.latent_channels, TINY.text_dim
OF_TWO_MODELS = [
    (other_latents, f"transformer has in_channels={C}, which vae with latent_channels={2 * C} does not fit"),
    (other_transformer, f"has in_channels={2 * C}, which vae with latent_channels={C} does not fit"),
    (other_texts, f"has text_embed_dim={D}, which text_encoder with hidden_size={2 * D} does not fit"),
]


@pytest.mark.parametrize(("mix", "said"), OF_TWO_MODELS, ids=[mix.__name__ for mix, _ in OF_TWO_MODELS])
def test_sound_parts_of_two_models_are_refused_with_both_numbers(folder, mix, said):
    mix(folder)
    with pytest.raises(ValueError, match="the parts are of different models") as told:
        check_fit(folder)
    assert said in str(told.value) and str(folder) in str(told.value)


ODD = [
    ("vae", {"temporal_compression_ratio": 3}, "its decoder makes"),
    ("vae", {"norm_num_groups": 7}, "can be made of it"),
    ("vae", {"up_block_types": ["NoSuchBlock"]}, "can be made of it"),
    ("text_encoder", {"d_model": "wide"}, "can be made of it"),
]


@pytest.mark.parametrize(("part", "values", "said"), ODD)
def test_a_configuration_that_no_model_can_be_made_of_is_told_by_its_file(folder, part, values, said):
    change(folder / part / "config.json", **values)
    with pytest.raises(ValueError, match="copy the model's folder again") as told:
        check_fit(folder)
    assert said in str(told.value) and str(folder / part) in str(told.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"beta_schedule": "odd"}, "no steps can be made of it"),
        ({"num_train_timesteps": "many"}, "no steps can be made of it"),
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler is none of CogVideoXDDIMScheduler"),
        ("{", "it is no JSON from line 1, column 2 on"),
    ],
)
def test_a_scheduler_that_makes_no_steps_is_told_by_its_file(folder, content, said):
    path = folder / "scheduler" / "scheduler_config.json"
    if isinstance(content, dict):
        change(path, **content)
    else:
        path.write_text(content)
    with pytest.raises(ValueError) as told:
        check_fit(folder)
    assert said in str(told.value) and str(path) in str(told.value)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"vae": ["diffusers", "NoSuchClass"]}, "vae is a NoSuchClass of diffusers, and there is none"),
        ({"vae": ["antigravity", "fly"]}, "vae is a fly of antigravity, and there is none"),
        ({"vae": [None, None]}, "its index names no vae"),
    ],
)
def test_an_index_that_names_no_class_of_the_two_libraries_is_refused_and_imports_nothing(
    folder, named, said
):
    change(folder / "model_index.json", **named)
    with pytest.raises(ValueError, match="copy the model's folder again") as told:
        check_fit(folder)
    assert said in str(told.value)


def test_every_family_has_joints_and_a_joint_allows_what_it_says():
    assert JOINTS.keys() == FAMILIES.keys()
    assert Joint("a.b", "c.d", ((1, 0), (2, 4))).allowed(16) == (16, 36)


def test_a_package_that_is_not_here_is_no_fault_of_the_folder(folder, monkeypatch):
    def lacks(*_, **__):
        raise ImportError("it requires the tiktoken library, but it was not found\nsee its page")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.from_pretrained", lacks)
    with pytest.raises(ValueError, match=r"a package that is not here .*tiktoken") as told:
        check_fit(folder)
    assert str(told.value).endswith(": install it") and "copy" not in str(told.value)


def test_the_published_wan_2_2_is_told_as_its_folder_would_be():
    (five,) = [each for each in TABLE if each.name == "Wan2.2-5B"]
    assert wan_decoding(five.parts) == Holds(numbers(9.1, 1280, 704))
