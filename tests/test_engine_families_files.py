"""Which files of a folder are the model, by their names, and that they alone tell it from others."""

import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.families.files import chosen, folder_digest, identity

HUB = [  # of a repository, as such ones are
    ".gitattributes",
    "README.md",
    "assets/teaser.mp4",
    "last_frame.safetensors",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "svd.safetensors",
    "text_encoder/config.json",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.safetensors.index.json",
    "text_encoder/pytorch_model.bin",
    "tokenizer/added_tokens.json",
    "tokenizer/merges.txt",
    "tokenizer/spiece.model",
    "tokenizer/tokenize.py",
    "transformer/diffusion_pytorch_model.fp16.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
]
LEFT = {0, 1, 2, 6, 10, 12, 16, 17}


def test_what_is_loaded_is_chosen_and_no_code_no_pickle_no_variant_and_no_picture() -> None:
    assert chosen(reversed(HUB)) == tuple(name for place, name in enumerate(HUB) if place not in LEFT)


@pytest.mark.parametrize(
    "names",
    [
        ["model_index.json", "transformer/pytorch_model.bin", "vae/model.safetensors"],
        ["model_index.json", "transformer/model.CKPT", "transformer/model.fp16.safetensors"],
        ["model.pt"],
        ["last_frame.safetensors", "model.pt"],
    ],
)
def test_weights_that_are_there_as_pickles_alone_are_refused_by_name(names: list[str]) -> None:
    with pytest.raises(ValueError, match="pickled weights are refused") as told:
        chosen(names)
    assert next(name for name in names if name.endswith((".bin", ".CKPT", ".pt"))) in str(told.value)


def test_pickles_of_no_part_are_left_beside_sound_weights() -> None:
    assert chosen(["optimizer.bin", "vae/model.safetensors"]) == ("vae/model.safetensors",)


NAMES = st.sampled_from(
    ["model_index.json", "vae/config.json", "world.json", "vae/a.safetensors", "last_frame.safetensors"]
)
FILES = st.dictionaries(NAMES, st.tuples(st.integers(0, 9), st.sampled_from(["a", "b"])))


@given(FILES, FILES)
def test_models_are_one_exactly_where_all_files_but_their_world_and_adapter_are(one, other) -> None:
    def weighs(files):
        return {name: told for name, told in files.items() if "/" in name or name == "model_index.json"}

    assert (identity(one) == identity(other)) == (weighs(one) == weighs(other))


def test_what_is_not_loaded_does_not_change_which_model_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    for name in (".gitattributes", "README.md", "vae/note.md", ".cache/a.json", "vae/a.fp16.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of no weight")
    assert folder_digest(folder) == folder_digest(tiny_folder)


def test_the_digest_of_a_folder_is_the_identity_of_its_files(tiny_folder: Path) -> None:
    names = [p.relative_to(tiny_folder).as_posix() for p in tiny_folder.rglob("*") if p.is_file()]
    data = {name: (tiny_folder / name).read_bytes() for name in chosen(names)}
    sums = {name: (len(each), hashlib.sha256(each).hexdigest()) for name, each in data.items()}
    assert folder_digest(tiny_folder) == identity(sums)
