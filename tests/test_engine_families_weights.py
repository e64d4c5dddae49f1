"""Damaged weights are refused by file or tensor, never filled up with random numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from engine.families.loading import load_part
from engine.families.weights import Damaged, check_weights

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
Damage = Callable[[Path], None]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def removed(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 8)


def a_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><title>404: not found</title>")


FILES: list[tuple[Damage, str]] = [
    (removed, "is missing"),
    (emptied, "0 bytes, is no safetensors file"),
    (cut, "is cut short: "),
    (cut_in_the_header, "100 bytes, is no safetensors file, or only the start of one"),
    (longer, "is too long: "),
    (a_page, "is no safetensors file"),
]


@pytest.mark.parametrize("name", [TRANSFORMER, TEXT, VAE])
@pytest.mark.parametrize(("damage", "said"), FILES, ids=[damage.__name__ for damage, _ in FILES])
def test_a_damaged_file_is_refused_by_its_path_before_anything_is_loaded(
    folder: Path, name: str, damage: Damage, said: str
) -> None:
    check_weights(folder)
    damage(folder / name)
    with pytest.raises(Damaged) as error:
        check_weights(folder)
    assert str(folder / name) in str(error.value) and said in str(error.value)
    part = name.partition("/")[0]
    check_weights(folder, [part])
    with pytest.raises(Damaged, match=said):
        load_part(folder, {"text_encoder": "text"}.get(part, part), "float32")


def halved(folder: Path) -> dict[str, str]:
    """The transformer's weights in two files with an index, as large models come."""
    path = folder / TRANSFORMER
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, path.parent / file, metadata={"format": "pt"})
    where = {name: file for file, held in shards.items() for name in held}
    index = path.parent / f"{path.name}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_of_weights_in_several_files_each_is_looked_at_and_each_tensor_found_in_its_file(
    folder: Path,
) -> None:
    where = halved(folder)
    check_weights(folder)
    load_part(folder, "transformer", "float32")
    second = folder / "transformer" / "b.safetensors"
    tensors = load_file(second)
    lost = min(name for name, file in where.items() if file == second.name)
    save_file({k: v for k, v in tensors.items() if k != lost}, second, metadata={"format": "pt"})
    with pytest.raises(Damaged, match=rf"b\.safetensors lacks {lost},"):
        check_weights(folder)
    second.unlink()
    with pytest.raises(Damaged, match=r"b\.safetensors is missing"):
        check_weights(folder)


def without(folder: Path, name: str) -> str:
    """Leave a tensor out of a file; its name."""
    tensors = load_file(folder / name)
    lost = sorted(tensors)[3]
    del tensors[lost]
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return lost


def misshapen(folder: Path, name: str) -> str:
    """Cut a row off a tensor of a file; its name."""
    tensors = load_file(folder / name)
    cut = sorted(tensors)[3]
    tensors[cut] = tensors[cut][:-1].contiguous()
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return cut


@pytest.mark.parametrize(("part", "name"), [("transformer", TRANSFORMER), ("text", TEXT), ("vae", VAE)])
@pytest.mark.parametrize(("change", "said"), [(without, "lack"), (misshapen, "shape")])
def test_a_tensor_that_is_absent_or_of_another_shape_is_named_and_never_drawn_at_random(
    folder: Path, part: str, name: str, change: Callable[[Path, str], str], said: str
) -> None:
    tensor = change(folder, name)
    check_weights(folder)  # the file itself is sound
    with pytest.raises(ValueError) as error:
        load_part(folder, part, "float32")
    told = str(error.value)
    assert tensor in told and said in told and str(folder / name.partition("/")[0]) in told
    assert "ignore_mismatched_sizes" not in told
