"""The outline of a folder that lies elsewhere: all that planning reads of it, as a folder on this disk.

Small files are there whole, and so is all at the top, such as an adapter. Weights of a part have their true
length and header, but no content: the rest of the file is a hole, which takes no room on disk and reads as
zeros. So whoever looks at headers and lengths sees what is at its origin, and nobody may compute with it.
Decides: what is fetched of which file, and when it is fetched again. Does not decide which files are wanted.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from manifests.listing import File, key_of
from manifests.origins import InStore, Offline, OnHub, Origin

Choose = Callable[[Iterable[str]], Sequence[str]]  # of a folder's files, those that are wanted
WEIGHTS = ".safetensors"
STALE_S = 86_400  # after which what a killed process left is taken away
_LENGTH_BYTES = 8  # little-endian, of the header of a safetensors file
_LARGEST_HEADER = 100_000_000
_AT_ONCE = 8  # files


@dataclass(frozen=True)
class Outline:
    """Where it is, of what, and its files: small ones with their SHA-256, weights where it is known."""

    origin: Origin
    folder: Path
    key: str
    files: dict[str, File]

    @property
    def unread(self) -> dict[str, File]:
        """Files whose hash nobody knows yet."""
        return {name: one for name, one in self.files.items() if not one.sha256}


def cache_folder(setting: str) -> Path:
    """Where this node keeps copies: as set, or for auto in $XDG_CACHE_HOME, else in ~/.cache."""
    if setting != "auto":
        return Path(setting).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "longtake"


def outline(origin: Origin, cache: Path, choose: Choose) -> Outline:
    """The outline of a folder as it is now, from the cache if it was made before.

    Raises FileNotFoundError where there is no folder, ValueError for one that cannot be meant, StoreError
    where it cannot be reached, OSError for this disk.
    """
    origin, listed = _look(origin, cache)
    files = {name: listed[name] for name in choose(listed)}
    key = key_of(origin.url, files)
    home = cache / "outlines" / key
    if not home.is_dir():
        _make(origin, files, home)
    told = json.loads((home / "files.json").read_text(encoding="utf-8"))
    return Outline(origin, home / "folder", key, {name: File(**one) for name, one in told.items()})


def found_outline(cache: Path, key: str) -> Path | None:
    """The folder of an outline that is here, if it is."""
    folder = cache / "outlines" / key / "folder"
    return folder if key and folder.is_dir() else None


def read_through(found: Outline) -> Outline:
    """The outline with every hash known: what nobody told is read at its origin once, and noted for later."""
    names = list(found.unread)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        sums = dict(zip(names, threads.map(found.origin.sha256, names), strict=True))
    files = {n: replace(one, sha256=sums.get(n, one.sha256)) for n, one in found.files.items()}
    _write(found.folder.parent / "files.json", {name: asdict(one) for name, one in files.items()})
    return replace(found, files=files)


def _look(origin: Origin, cache: Path) -> tuple[Origin, dict[str, File]]:
    """The folder's listing; of the hub the last one that was seen, where it must not be asked."""
    if isinstance(origin, InStore):
        return origin.look()
    seen = cache / "seen" / f"{blake2b(origin.url.encode(), digest_size=16).hexdigest()}.json"
    try:
        pinned, files = origin.look()
    except Offline:
        if not seen.is_file():
            raise
        told = json.loads(seen.read_text(encoding="utf-8"))
        return OnHub(told["repo"], told["revision"]), {n: File(**one) for n, one in told["files"].items()}
    plain = asdict(pinned) | {"files": {name: asdict(one) for name, one in files.items()}}
    for name in {origin.url, pinned.url}:
        key = blake2b(name.encode(), digest_size=16).hexdigest()
        _write(cache / "seen" / f"{key}.json", plain)
    return pinned, files


def _make(origin: Origin, files: dict[str, File], home: Path) -> None:
    """Fetch an outline beside its place, and put it there at once; another process may be first."""
    home.parent.mkdir(parents=True, exist_ok=True)
    _sweep(home.parent)
    staged = home.with_name(f"{uuid.uuid4().hex}.part")
    try:
        small = [name for name in files if not _is_hollow(name)]
        (staged / "folder").mkdir(parents=True)
        origin.fetch(small, staged / "folder")
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            large = filter(_is_hollow, files)
            list(threads.map(lambda name: _hollow(origin, name, files[name], staged / "folder"), large))
        sums = {name: sha256((staged / "folder" / name).read_bytes()).hexdigest() for name in small}
        told = {name: asdict(replace(one, sha256=sums.get(name, one.sha256))) for name, one in files.items()}
        _write(staged / "files.json", told)
        if not home.is_dir():
            os.rename(staged, home)
    except OSError:
        if not home.is_dir():  # else another process put it there a moment ago
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_hollow(name: str) -> bool:
    """Whether a file is weights of a part, of which the header is enough."""
    return name.endswith(WEIGHTS) and "/" in name


def _hollow(origin: Origin, name: str, file: File, folder: Path) -> None:
    """A file of weights with its length and its header alone."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    start = origin.start(name, _LENGTH_BYTES) if file.size else b""  # stores refuse a range of nothing
    whole = _LENGTH_BYTES + int.from_bytes(start, "little")
    if _LENGTH_BYTES < whole <= min(file.size, _LARGEST_HEADER):
        start = origin.start(name, whole)
    path.write_bytes(start)
    os.truncate(path, file.size)


def _sweep(folder: Path) -> None:
    """Take away what killed processes left."""
    for left in folder.glob("*.part"):
        with suppress(FileNotFoundError):  # another process was quicker
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _write(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{uuid.uuid4().hex}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, path)
