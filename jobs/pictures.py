"""Pictures that shots start from: whether they can be read, what a store calls them, and putting them there.

Decides when a picture's file is read: once to check it, once to name it, once to store it. Does not decide
where pictures may lie (manifests.images) or how one is fitted to a model (engine.given).
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from cluster.tasks import FilmTasks, GivenTask, Model
from engine.given import read_picture
from manifests.findings import short
from manifests.images import find_image
from manifests.store import Store

CACHED = 65_536  # pictures


@lru_cache(CACHED)
def picture_fault(uri: str, roots: tuple[Path, ...]) -> tuple[str, str, str] | None:
    """Code, message and hint of what is wrong with a picture that validation found below a root."""
    path = find_image(uri, roots)
    if isinstance(path, str):
        return path, f"{short(uri)!r}: no such file any more", "check the path"
    try:
        with path.open("rb") as file:
            read_picture(file, 16, 16)
    except (OSError, ValueError) as error:
        return "E314_ASSET_UNREADABLE", f"{short(uri)!r}: {error}", "give a PNG, JPEG or WebP picture"
    return None


def given_task(uri: str, roots: tuple[Path, ...], model: Model, height_px: int, width_px: int) -> GivenTask:
    """The task that encodes a picture. Raises FileNotFoundError where it is gone."""
    path = find_image(uri, roots)
    if isinstance(path, str):
        raise FileNotFoundError(f"{uri} is gone since the manifest was checked")
    stat = path.stat()
    name = _name(path, stat.st_mtime_ns, stat.st_size)
    return GivenTask(model, name, str(path), height_px, width_px)


@lru_cache(CACHED)
def _name(path: Path, mtime_ns: int, size: int) -> str:
    """The name that a store gives to a file's bytes; read again only if the file was changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def with_pictures(films: Iterable[FilmTasks], store: Store) -> Iterator[FilmTasks]:
    """The films, each once its pictures are in the store, where every worker finds them."""
    for film in films:
        for task in film.tasks.values():
            if isinstance(task, GivenTask) and store.has_artefact(task.image) is None:
                store.put_file(Path(task.path))
        yield film
