"""Files that shots are given: whether they can be read, what a store calls them, and putting them there.

Decides when a file is read: once to check it, once to name it, once to store it. Does not decide where files
may lie (manifests.assets), how they are fitted to a model (engine.given) or what it takes (engine.takes).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.identity import Asset
from cluster.shots import GivenTask
from cluster.tasks import FilmTasks
from engine.given import clip_length, frame_times, read_picture
from engine.takes import CLIP, FIRST, LAST, SOURCE
from manifests.assets import find_asset
from manifests.findings import short
from manifests.store import Store

CACHED = 65_536  # files
Fault = tuple[str, str, str]  # code, message, hint


def column_of(role: str) -> str:
    """The manifest's column for what a shot is given."""
    return f"{role}_uri"


def given_of(shot: Mapping[str, Any]) -> dict[str, str]:
    """The files that a row's shot names, by what they are for."""
    named = {role: shot.get(column_of(role)) for role in (FIRST, LAST, CLIP, SOURCE)}
    return {role: uri for role, uri in named.items() if uri}


def asset_fault(role: str, uri: str, roots: tuple[Path, ...], n_frames: int, fps: Fraction) -> Fault | None:
    """What is wrong with a file that validation found below a root, for a shot of so many frames."""
    path = find_asset(uri, roots)
    found: int | str | None
    if isinstance(path, str):
        return path, f"{short(uri)!r}: no such file any more", "check the path"
    if role in (FIRST, LAST):
        fault, hint = _picture_fault(path, *_state(path)), "give a PNG, JPEG or WebP picture"
    else:
        found = _clip_frames(path, *_state(path), fps)
        fault, hint = (
            found if isinstance(found, str) else "",
            "give an MP4, MOV, WebM, MKV, AVI or MPEG video",
        )
    if fault:
        return "E314_ASSET_UNREADABLE", f"{short(uri)!r}: {fault}", hint
    if role == FIRST and n_frames < 2:
        message = (
            f"{short(uri)!r} is the first frame of a shot of {n_frames} frame, which leaves none to draw"
        )
        return "E319_NOTHING_TO_DRAW", message, "give the shot 2 frames at least, or no picture"
    if role == SOURCE and isinstance(found, int) and found < n_frames:
        message = f"{short(uri)!r} has {found} frames at {fps} frames a second, and the shot {n_frames}"
        return "E318_VIDEO_SHORT", message, f"shorten the shot to {found} frames, or give a longer video"
    return None


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is changed: its time of change in ns, and its size in bytes."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(CACHED)
def _picture_fault(path: Path, mtime_ns: int, size: int) -> str | None:
    """Why a picture cannot be read, if it cannot."""
    try:
        with path.open("rb") as file:
            read_picture(file, 16, 16)
    except (OSError, ValueError) as error:
        return str(error)
    return None


@lru_cache(CACHED)
def _clip_frames(path: Path, mtime_ns: int, size: int, fps: Fraction) -> int | str:
    """How many frames a clip has at this rate, or why it cannot be read."""
    try:
        return clip_length(frame_times(path), fps)
    except ValueError as error:
        return str(error)


def clip_frames(asset: Asset, fps: Fraction) -> int:
    """How many frames a clip has at this rate. Raises FileNotFoundError where it is one no more."""
    path = Path(asset.path)
    found = _clip_frames(path, *_state(path), fps)
    if isinstance(found, str):
        raise FileNotFoundError(f"{path} changed since the manifest was checked: {found}")
    return found


def asset_of(role: str, uri: str, roots: tuple[Path, ...]) -> Asset:
    """The file as a task has it. Raises FileNotFoundError where it is gone."""
    path = find_asset(uri, roots)
    if isinstance(path, str):
        raise FileNotFoundError(f"{uri} is gone since the manifest was checked")
    return Asset(role, _name(path, *_state(path)), str(path))


@lru_cache(CACHED)
def _name(path: Path, mtime_ns: int, size: int) -> str:
    """The name that a store gives to a file's bytes; read again only if the file was changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def with_assets(films: Iterable[FilmTasks], store: Store) -> Iterator[FilmTasks]:
    """The films, each once what it is given is in the store, where every worker finds it."""
    for film in films:
        assets = (
            asset for task in film.tasks.values() if isinstance(task, GivenTask) for asset in task.assets
        )
        for asset in assets:
            if store.has_artefact(asset.artefact) is None:
                store.put_file(Path(asset.path))
        yield film
