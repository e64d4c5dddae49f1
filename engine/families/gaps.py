"""Tensors that a folder's weights lack, or have of another shape than its configuration makes them.

Libraries fill such gaps with random numbers, at most with a warning: films would be made of noise.
Decides: what is refused while loading. Does not decide: whether files are sound (weights), or what is refused
before anybody loads (fitting).
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from engine.families.weights import read_header, read_parts


def load_texts(folder: Path, dtype: torch.dtype, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """The parts of a folder that are transformers' models, by name, each of them whole; see load_whole."""
    wanted = {
        part: getattr(transformers, name, None)
        for part, (library, name) in read_parts(folder).items()
        if library == "transformers" and part.removesuffix("_2") not in leave_out
    }
    return {
        part: load_whole(model, folder / part, dtype)
        for part, model in wanted.items()
        if isinstance(model, type) and issubclass(model, transformers.PreTrainedModel)
    }


def load_whole(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of transformers with every weight from its folder, local safetensors only.

    Raises ValueError that names the tensors which are missing or of another shape.
    """
    loaded, told = model.from_pretrained(
        str(folder),
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told of below, with its name
    )
    for name, found, needed in told["mismatched_keys"]:
        raise misshapen(folder, name, found, needed)
    refuse_missing(folder, sorted(told["missing_keys"]))
    return loaded


def refuse_gaps(folder: Path, part: Any) -> None:
    """Raise ValueError that names the tensors of a diffusers model which its folder did not fill."""
    tensors = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    refuse_missing(folder, sorted(name for name, tensor in tensors.items() if tensor.is_meta))


@contextmanager
def misfits_told(folder: Path) -> Iterator[None]:
    """Say of a tensor of the wrong shape in which file it is, rather than how diffusers could ignore it."""
    try:
        yield
    except ValueError as error:
        misfit = re.search(r"because (\S+) expected shape (.+?), but got (.+?)\. ", str(error))
        if misfit is None:
            raise
        name, needed, found = misfit.groups()
        files = (path for path in sorted(folder.rglob("*.safetensors")) if name in read_header(path))
        raise misshapen(next(files, folder), name, _sizes(found), _sizes(needed)) from error


def _sizes(shape: str) -> tuple[int, ...]:
    """Of a shape in words: "torch.Size([63, 8])" is (63, 8)."""
    return tuple(map(int, re.findall(r"[0-9]+", shape)))


def misshapen(where: Path, name: str, found: Sequence[int], needed: Sequence[int]) -> ValueError:
    """What is said of a tensor of the wrong shape, in a part's folder or in one of its files."""
    return ValueError(
        f"{where}: {name} has shape {tuple(found)}, its configuration says {tuple(needed)}: copy the model's "
        "folder again, its config.json and its weights together"
    )


def refuse_missing(folder: Path, missing: Sequence[str]) -> None:
    """Raise ValueError that names the first tensors which a part's weights lack, if they lack any."""
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"{folder}: its weights lack {', '.join(missing[:3])}{more}: copy the model's folder again"
        )
