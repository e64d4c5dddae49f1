"""Models that lie elsewhere, as folders on this node: whole for who computes, in outline for who reads.

A copy is named by its model's digest, so that one fetched from anywhere serves every job that renders with
the same files; `cache` is cluster.cache. Copies may be deleted whenever nobody loads from them.
Decides: that a copy is the very model that the job was planned with. Does not decide how it is fetched
(manifests.mirror), or which files are a model (engine.families.files).
"""

from functools import partial
from pathlib import Path

from cluster.identity import Model
from engine.families.files import chosen, identity
from manifests.mirror import Changed, mirror
from manifests.origins import origin_of
from manifests.outline import cache_folder, found_outline, outline


def whole(model: Model, cache: str = "auto") -> Path:
    """The model's folder with all its weights, mirrored to this node if need be. Raises as `mirror`."""
    origin = origin_of(model.folder)
    if isinstance(origin, Path):
        return origin
    place = _copy(model, cache)
    mirror(origin, place, model.listing, chosen, partial(_check, model))
    return place


def outlined(model: Model, cache: str = "auto") -> Path:
    """The model's folder, of whose weights nothing is read. Raises Changed, or as `outline`."""
    origin = origin_of(model.folder)
    if isinstance(origin, Path):
        return origin
    if (place := _copy(model, cache)).is_dir():
        return place
    here = found_outline(cache_folder(cache), model.listing)
    if here is None:
        found = outline(origin, cache_folder(cache), chosen)
        if found.key != model.listing:
            raise Changed(model.folder)
        here = found.folder
    return here


def _copy(model: Model, cache: str) -> Path:
    """Where a model's whole copy is, or will be."""
    return cache_folder(cache) / "models" / model.digest


def _check(model: Model, folder: Path, files: dict[str, tuple[int, str]]) -> None:
    """Raise Changed for a copy that is not the model."""
    if identity(files) != model.digest:
        raise Changed(model.folder)
