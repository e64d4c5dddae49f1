"""A whole copy of a folder that lies elsewhere, made once on a node by whichever process is first.

The others wait for it. It is made beside its place and renamed when it is whole, so that nobody ever sees
half of it; what was fetched before a kill is kept and checked, not fetched again.
Decides: when a copy is whole, and that there is room for it. Does not decide which files are wanted, or
whether they are the right ones: the caller says both.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from manifests.full import DiskFull, is_full
from manifests.listing import File, Listing, key_of
from manifests.origins import Origin
from manifests.outline import STALE_S, Choose
from manifests.places import StoreError, shown_size

Check = Callable[[Path, dict[str, tuple[int, str]]], None]  # of the copy's files: size and SHA-256


class Changed(ValueError):
    """What lies at the origin is not what the job was planned with. Trying again will not help."""

    code = "E623_MODEL_CHANGED"
    hint = "give the same command again, which plans with what is there now"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"the files at {self.url} are not those that the job was planned with"


def mirror(origin: Origin, place: Path, key: str, choose: Choose, check: Check) -> None:
    """`place` holds the chosen files of a folder, each as long as there and with the hash that is told.

    `key` is that of the outline that was planned with, "" for any. `check` raises for a copy that is not what
    was wanted, which is then taken away. Raises Changed, StoreError where the origin or this disk is no use,
    FileNotFoundError, ValueError, OSError.
    """
    if place.is_dir():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_of(place)):  # let go of by the system when its holder is killed
        if place.is_dir():
            return
        _sweep(place)
        staged = _staged_of(place)
        staged.mkdir(exist_ok=True)
        sums = _filled(origin, staged, key, choose)
        try:
            check(staged, sums)
        except Exception:
            shutil.rmtree(staged)
            raise
        _sync(staged)
        os.rename(staged, place)


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _staged_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


def _filled(origin: Origin, staged: Path, key: str, choose: Choose) -> dict[str, tuple[int, str]]:
    """Fetch what is not there yet. The size and SHA-256 of every file, as they are told at the origin."""
    origin, listed = origin.look()
    files = {name: listed[name] for name in choose(listed)}
    if key and key != key_of(origin.url, files):
        raise Changed(origin.url)
    absent = {name: one for name, one in files.items() if _size(staged / name) != one.size}
    with _room(origin.url, sum(one.size for one in absent.values()), staged):
        if absent:
            origin.fetch(list(absent), staged)
    _prune(staged, files)
    return {name: _checked(staged / name, name, one, origin.url) for name, one in files.items()}


@contextmanager
def _room(url: str, need_bytes: int, staged: Path) -> Iterator[None]:
    """Raise StoreError where the disk is too small for what is fetched, before it or in the middle."""
    refuse_lack(url, need_bytes, shutil.disk_usage(staged).free, staged)
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        refuse_lack(url, need_bytes, 0, staged)


def refuse_lack(url: str, need_bytes: int, free_bytes: int, staged: Path) -> None:
    """Raise DiskFull, with both numbers and the setting, where there is less room than is needed."""
    if free_bytes < need_bytes:
        what = f"{shown_size(need_bytes)} more are needed for {url}, and {shown_size(free_bytes)} are free"
        todo = "make room, or name a folder on a larger disk of every node: cluster.cache=FOLDER"
        raise DiskFull(what, str(staged.parent), todo)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _checked(path: Path, name: str, told: File, url: str) -> tuple[int, str]:
    """A copied file's size and SHA-256. Raises StoreError, and removes it, where others were told."""
    with path.open("rb") as file:
        size, sha256 = path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    wrong = f"{size:,} bytes of {told.size:,}" if size != told.size else ""
    if not wrong and told.sha256 not in ("", sha256):
        wrong = f"SHA-256 {sha256} instead of {told.sha256}"
    if wrong:
        path.unlink()
        todo = "give the same command again; if this comes again, the file or its SHA256SUMS there is damaged"
        raise StoreError(f"{name} arrived with {wrong}", url, todo)
    return size, sha256


def _prune(staged: Path, files: Listing) -> None:
    """Take away what is not of the folder, such as halves of files."""
    for path in staged.rglob("*"):
        if path.is_file() and path.relative_to(staged).as_posix() not in files:
            path.unlink()


def _sweep(place: Path) -> None:
    """Take away what processes left of other copies that were killed long ago and never tried again."""
    for left in place.parent.glob("*.part"):
        other = left.with_suffix("")
        with suppress(Timeout, FileNotFoundError):  # it is being made, or another process was quicker
            if other != place and time.time() - _touched(left) > STALE_S:
                with FileLock(_lock_of(other), timeout=0):
                    shutil.rmtree(left, ignore_errors=True)


def _touched(folder: Path) -> float:
    """When anything in a folder was last written, in seconds of the system's clock."""
    return max((path.stat().st_mtime for path in folder.rglob("*")), default=folder.stat().st_mtime)


def _sync(folder: Path) -> None:
    """Its files are on disk before it has its name."""
    for path in sorted(folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
