"""LoRA adapters that a profile allows: found, checked against its model, named by their bytes, stored.

Decides which adapters a shot has, and at which scales. Does not decide how they are set
(`engine.families.adapters`).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.identity import Adapter
from cluster.tasks import FilmTasks
from engine.camera import Camera
from engine.families.adapter_files import ENDING_FILE, check_fit, is_converted, shapes_of, weights_of
from engine.families.known import FAMILIES
from jobs.profile import ModelSpec, Profile
from jobs.refusal import SpecError
from manifests.assets import find_asset
from manifests.store import Store

Row = Mapping[str, Any]
FAULTS = {
    "E310_ASSET_404": "no such file",
    "E311_ASSET_OUTSIDE": "it is outside the allowed roots: name its folder in roots=[FOLDER]",
    "E312_ASSET_SCHEME": "only local paths are read",
}


def stocked_adapters(
    name: str, profile: Profile, folder: Path, family: str, roots: tuple[Path, ...]
) -> dict[str, Adapter]:
    """The profile's adapters by name.

    Raises SpecError for one that is absent, pickled or of another model.
    """
    found = {}
    for adapter, spec in profile.adapters.items():
        where = f"profiles.{name}.adapters.{adapter}"
        if not _takes_any(family, folder):
            able = ", ".join(key for key, known in FAMILIES.items() if known.adapters)
            raise SpecError(f"{where}: its model takes no adapters; models of one transformer of {able} do")
        if not _lie_as_they_are(profile.model):
            raise SpecError(
                f"{where}: adapters are added to weights that a rank holds whole, and as they are: leave "
                "model.zero, model.offload, model.quantise and model.compile out, or the adapters"
            )
        path = find_asset(spec.path, roots)
        if isinstance(path, str):
            raise SpecError(f"{where}.path={spec.path}: {FAULTS[path]}")
        try:
            found[adapter] = _adapter(path, spec.scale, folder)
        except ValueError as error:
            raise SpecError(f"{where}.path={spec.path}: {error}") from error
    return found


def ending_adapter(name: str, profile: Profile, folder: Path, family: str) -> Adapter | None:
    """The adapter of a model's own with which its shots end with a picture, if its folder holds one.

    None too where adapters are not added. Raises SpecError for one that is of another model.
    """
    path = folder / ENDING_FILE
    if not (path.is_file() and _takes_any(family, folder) and _lie_as_they_are(profile.model)):
        return None
    try:
        return _adapter(path, 1.0, folder)
    except ValueError as error:
        where = f"profiles.{name}.model.folder={profile.model.folder}"
        raise SpecError(f"{where}: {path.name}: {error}") from error


def _takes_any(family: str, folder: Path) -> bool:
    """Whether adapters were proven on such a model: of one transformer."""
    return FAMILIES[family].adapters and not (folder / "transformer_2").is_dir()


def _lie_as_they_are(model: ModelSpec) -> bool:
    """Whether a rank holds the weights whole, and as they were loaded, so that something can be added."""
    return not (model.zero or model.offload or model.quantise or model.compile)


def _adapter(path: Path, scale: float, folder: Path) -> Adapter:
    """The adapter in a file, named by its bytes. Raises ValueError where it is of another model."""
    shapes = shapes_of(path)
    if is_converted(shapes):
        check_fit(shapes, weights_of(folder))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    return Adapter(digest, scale, str(path))


def shot_adapters(
    row: Row, shot: Row, allowed: Mapping[str, Adapter], camera: Camera | None, ending: Adapter | None = None
) -> tuple[Adapter, ...]:
    """Those that the shot names, or else its row, and behind them the one named for its camera's move.

    Last comes that with which it ends with a picture, unless it names the same file.
    """
    asked = shot.get("adapters") if shot.get("adapters") is not None else row.get("adapters")
    scales = {each["name"]: each.get("scale") for each in asked or []}
    if camera is not None:
        moves = [name for name in allowed if name.replace("-", " ").replace("_", " ") == camera.direction]
        scales |= {name: None for name in moves if name not in scales}
    named = tuple(
        Adapter(allowed[name].artefact, allowed[name].scale if scale is None else scale, allowed[name].path)
        for name, scale in scales.items()
    )
    if ending is None or any(each.artefact == ending.artefact for each in named):
        return named
    return (*named, ending)


def with_adapters(films: Iterable[FilmTasks], store: Store) -> Iterator[FilmTasks]:
    """The films, each once its adapters are in the store, where every rank finds them."""
    for film in films:
        for segment in film.master.segments:
            for adapter in segment.source.adapters:
                if store.has_artefact(adapter.artefact) is None:
                    store.put_file(Path(adapter.path))
        yield film
