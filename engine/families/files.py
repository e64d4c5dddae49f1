"""Which files of a diffusers folder are the model: what is loaded or refused, and what tells it from others.

Decides by names, so that a folder that lies elsewhere is judged by its listing, before anything is fetched.
Does not decide: whether weights are sound (weights), or how a folder comes here (manifests.mirror). No torch.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from engine.families.adapter_files import ENDING_FILE
from engine.families.world import WORLD

PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_WEIGHTS = ".safetensors"
_SMALL = frozenset({".json", ".txt", ".model", ".jinja"})  # configurations, vocabularies, chat templates
_VARIANT = re.compile(r"\.(fp16|bf16|non_ema)[.-]")  # of weights that may lie beside those that are loaded


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a folder's files, by their paths inside it, that are loaded; in order.

    Raises ValueError that names them where weights are there as pickles alone.
    """
    every = sorted(names)
    loaded = tuple(name for name in every if _is_loaded(PurePosixPath(name)))
    sound = {PurePosixPath(name).parent for name in loaded if "/" in name and name.endswith(_WEIGHTS)}
    alone = [name for name in every if _is_alone(PurePosixPath(name), sound)]
    if alone:
        shown = ", ".join(alone[:3]) + (f" and {len(alone) - 3} more" if len(alone) > 3 else "")
        raise ValueError(
            f"pickled weights are refused, and it has no others for {shown}: save it as safetensors"
        )
    return loaded


def _is_loaded(path: PurePosixPath) -> bool:
    """Whether a file is read from its folder: small ones anywhere, weights of a part, an adapter at the top.

    Hidden ones never are.
    """
    if any(part.startswith(".") for part in path.parts):
        return False
    if path.suffix == _WEIGHTS:
        return path.name == str(path) == ENDING_FILE or (
            len(path.parts) == 2 and not _VARIANT.search(path.name)
        )
    return path.suffix in _SMALL


def _is_alone(path: PurePosixPath, sound: set[PurePosixPath]) -> bool:
    """Whether a file is pickled weights without safetensors beside it; of a whole model, without any."""
    if path.suffix.lower() not in PICKLED:
        return False
    return path.parent not in sound if len(path.parts) == 2 else not sound


def identity(files: Mapping[str, tuple[int, str]]) -> str:
    """BLAKE2b-256 over names, sizes and SHA-256 of all files that weigh on the pictures: which model it is.

    world.json does not: it tells people of the model. Counting it would render every film anew for a
    reworded hint; what a profile takes from a card is part of its tasks' keys anyway. So is the adapter with
    which a shot ends with a picture.
    """
    digest = hashlib.blake2b(digest_size=32)
    for name, (size, sha256) in sorted(files.items()):
        if name not in (WORLD, ENDING_FILE):
            digest.update(f"{name}\0{size}\0{sha256}\0".encode())
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """The identity of a folder on this disk, all of which is read. Raises ValueError as `chosen` does."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return identity({name: _sum(folder / name) for name in chosen(found)})


def _sum(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
