"""The weights of a folder, looked at without loading them: all there, none cut short, none pickled. No torch.

A safetensors file is eight bytes of its header's length, little-endian, a JSON header that says where each
tensor lies, and the tensors (https://huggingface.co/docs/safetensors). So a file tells its own length.
Decides: whether files are sound. Does not decide: whether tensors fit the model that they are for (gaps).
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from engine.families.files import PICKLED
from engine.families.reading import read_index, read_object

_AGAIN = "copy the model's folder again, to every node"
_LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it: a length beyond is of some other file


class Damaged(OSError):
    """Weights that are missing or cut short where this process runs; another node may have them whole."""

    code = "E622_WEIGHTS"
    hint = _AGAIN


_WEIGHTLESS = ("scheduler", "guider", "tokenizer", "feature", "image_processor")  # how their names begin


def refuse_pickles(folder: Path) -> None:
    """Raise if the folder is absent or holds pickled weights, which run code when they are loaded."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in PICKLED)
    if found:
        raise ValueError(
            f"pickled weights are refused, as they run code when they are loaded: {', '.join(found)}: "
            "take them away, or save them as safetensors"
        )


def check_weights(folder: Path, leave_out: Collection[str] = ()) -> None:
    """Raise Damaged, naming the file, where weights of a part are missing, cut short or no safetensors.

    Parts are those with weights that the folder's index names, or where it names none all that have a
    configuration, but for `leave_out` and their seconds.
    """
    refuse_pickles(folder)
    found = sorted(path.parent.name for path in folder.glob("*/config.json"))
    for part in read_parts(folder) or found:
        if part.removesuffix("_2") not in leave_out:
            read_tensors(folder / part)


def read_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """The library and class of every part with weights of its own that a folder names."""
    index = read_index(folder)
    named = {part: tuple(value) for part, value in index.items() if isinstance(value, list)}
    return {
        part: (str(value[0]), str(value[1]))
        for part, value in named.items()
        if len(value) == 2 and all(value) and not part.startswith(_WEIGHTLESS)
    }


def read_tensors(part: Path) -> dict[str, Any]:
    """What headers say of a part's tensors, by name: of its file, or of the several that its index tells of.

    Raises Damaged as read_header does, or for a file that lacks what the index says it holds.
    """
    config = read_object(part / "config.json")
    stem = "diffusion_pytorch_model" if "_class_name" in config else "model"  # diffusers' or transformers'
    whole, index = part / f"{stem}.safetensors", part / f"{stem}.safetensors.index.json"
    if whole.exists() or not index.exists():
        return read_header(whole)
    tensors = read_object(index).get("weight_map")
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError(f"{index} has no weight_map")
    held = {name: read_header(part / str(name)) for name in set(tensors.values())}
    lost = sorted(name for name, file in tensors.items() if name not in held[file])
    if lost:
        raise Damaged(f"{part / tensors[lost[0]]} lacks {_some(lost)}, which {index.name} says it holds")
    return {name: held[file][name] for name, file in tensors.items()}


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name.

    Raises Damaged where it is absent, not of the length that its header makes it, or something else.
    """
    if not path.is_file():
        raise Damaged(f"{path} is missing: {_AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= min(size, _LARGEST_HEADER) else b""
    try:
        header = json.loads(text)
        tensors = {name: each for name, each in header.items() if name != "__metadata__"}
        told = 8 + length + max((each["data_offsets"][1] for each in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        told_of = f"{path}, {size:,} bytes, is no safetensors file, or only the start of one"
        raise Damaged(f"{told_of}; {_AGAIN}") from error
    if told != size:
        how = "cut short" if size < told else "too long"
        raise Damaged(f"{path} is {how}: {size:,} bytes of {told:,}; {_AGAIN}")
    return tensors


def _some(names: list[str], most: int = 3) -> str:
    """The first names of a list, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
