"""What a place must do before anything is rendered into it, tried: put once, read, list, show, remove.

A store that takes a second put of one key lets two drivers overwrite each other, and says nothing of it: so
it is tried here, one put after another and several at once, and never believed.

Decides: what is tried, and what is wrong with a place that fails. Does not decide how it is done (places,
bucket).
"""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier

from manifests.bucket import Bucket
from manifests.patience import BRIEF_S
from manifests.places import Disk, StoreError, shown_size

WRITERS = 4  # at once
REFUSING = (
    "use a store that honours put-if-absent (If-None-Match, on Google ifGenerationMatch), "
    "or two drivers may overwrite each other"
)


class Lying(StoreError):
    """A store that answers well, and has not done what it says."""

    code = "E804_STORE_LIES"


def probe(place: Disk | Bucket, need_bytes: int = 0) -> float:
    """Raises StoreError unless files can be put once here, read, listed and removed, and as many bytes fit.

    Returns how many seconds the place's clock is ahead of this machine's. Leaves nothing behind.
    """
    if isinstance(place, Disk):
        with _ground(place, need_bytes) as trial:
            return _try(Disk(trial), trial, str(place.root))
    with _ground(Disk(place.staging), 0):  # where uploads are made; a bucket is never too small
        pass
    with tempfile.TemporaryDirectory() as folder:
        brief = replace(place, patience_s=min(place.patience_s, BRIEF_S))
        try:
            return _try(brief, Path(folder), place.url)
        except OSError as error:
            raise _explained(place, error) from error


@contextmanager
def _ground(disk: Disk, need_bytes: int) -> Iterator[Path]:
    """A folder of its own name where the store is or will be: nobody else looks there. Raises StoreError."""
    try:
        ground = next(p for p in (disk.root, *disk.root.parents) if os.path.lexists(p))
        if not ground.is_dir():
            raise StoreError(
                f"{ground} is not a folder", str(disk.root), "name a folder, or one that can be made"
            )
        _check_room(disk, shutil.disk_usage(ground).free, need_bytes)
        trial = ground / f".longtake-probe-{uuid.uuid4().hex}"
        try:
            trial.mkdir()
            yield trial
        finally:
            shutil.rmtree(trial, ignore_errors=True)
    except OSError as error:
        # Also where the filesystem has no hard links: "Operation not permitted".
        todo = f"name a folder that user {os.geteuid()} may write, on a filesystem with hard links"
        raise StoreError(f"cannot write here: {error.strerror}", str(disk.root), todo) from error


def _check_room(disk: Disk, free_bytes: int, need_bytes: int) -> None:
    if free_bytes < need_bytes:
        what = f"{shown_size(free_bytes)} free, {shown_size(need_bytes)} needed"
        raise StoreError(what, str(disk.root), "make room, or name a folder on a larger disk")
    for folder in (disk.root / "cas", disk.staging):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, f"{folder} is not writable")


def _try(place: Disk | Bucket, scratch: Path, where: str) -> float:
    """The whole trial, below one key that nobody else has. Raises Lying or OSError."""
    folder = f".longtake-probe-{uuid.uuid4().hex}"
    # A film is shown under a name of another kind than its artefact's, and so is the copy.
    once, race, shown = (f"{folder}/{name}" for name in ("once", "race", "shown.mp4"))
    try:
        skew_s = _expect_refusal(place, once, scratch, where)
        _expect_one_winner(place, race, scratch, where)
        place.show(once, shown)
        _expect(place.read(shown) == place.read(once), "a copy is not what was copied", where)
        _expect(place.keys(folder) == [once, race, shown], "a key that was just put is not listed", where)
    finally:
        removed = _removed(place, (once, race, shown))
    _expect(not removed or place.keys(folder) == [], "a key that was removed is still listed", where)
    return skew_s


def _expect_refusal(place: Disk | Bucket, key: str, scratch: Path, where: str) -> float:
    """Put a key twice: the second put must be refused, and change nothing. The place's clock against ours."""
    began_s = time.time()
    wins = [place.create(_staged(scratch, body), key) for body in (b"first", b"second")]
    _expect(wins == [True, False], "a second put of the same key was not refused", where, REFUSING)
    _expect(place.read(key) == b"first", "a refused put has changed what was there", where, REFUSING)
    return _skew_s(place.written_s(key), began_s, time.time())


def _skew_s(written_s: float, began_s: float, ended_s: float) -> float:
    """By how much a clock in whole seconds is ahead: 0 if what it says may have been between two moments."""
    if written_s < began_s - 1:
        return written_s - began_s
    return max(0.0, written_s - ended_s)


def _expect_one_winner(place: Disk | Bucket, key: str, scratch: Path, where: str) -> None:
    """Put a key by several writers at once: one must win, and what it put be there."""
    barrier = Barrier(WRITERS)

    def write(body: bytes) -> bool:
        staged = _staged(scratch, body)
        barrier.wait(60)
        return place.create(staged, key)

    bodies = [b"writer %d" % number for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        wins = list(pool.map(write, bodies))
    won = [body for body, win in zip(bodies, wins, strict=True) if win]
    what = f"of {WRITERS} puts of one key at once {len(won)} were told that they had won"
    _expect(len(won) == 1, what, where, REFUSING)
    _expect(place.read(key) == won[0], "what is there is not what the winner put", where, REFUSING)


def _staged(scratch: Path, body: bytes) -> Path:
    path = scratch / f"{uuid.uuid4().hex}.tmp"
    path.write_bytes(body)
    return path


def _expect(true: bool, what: str, where: str, todo: str = "use a store that is strongly consistent") -> None:
    if not true:
        raise Lying(what, where, todo)


def _removed(place: Disk | Bucket, keys: tuple[str, ...]) -> bool:
    """Whether they are gone: a write-once bucket is sound, and keeps a few bytes."""
    with suppress(PermissionError):
        for key in keys:
            place.remove(key)
        return True
    return False


def _explained(place: Bucket, error: OSError) -> StoreError:
    """Trouble with a bucket, and what to do about it."""
    service, name = place.service, place.root.split("/")[0]
    if isinstance(error, FileNotFoundError):
        what = f"there is no {service.bucket_word} {name!r}"
        return StoreError(what, place.url, "create it or correct the URL")
    if isinstance(error, PermissionError):
        todo = f"check {service.credentials}; allow put, get, list and delete"
        return StoreError(f"credentials are refused: {error}", place.url, todo)
    if isinstance(error, (ConnectionError, TimeoutError)):
        todo = f"check {service.endpoint}, the network and that the service is up"
        return StoreError(f"cannot be reached: {error}", place.url, todo)
    todo = f"check the {service.bucket_word} and its service"
    return StoreError(f"cannot be used: {error}", place.url, todo)
