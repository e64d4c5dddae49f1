"""The two kinds of place that a store can be in: a folder, or a bucket of an S3-compatible service.

Decides how a name comes to exist once, how it is replaced whole, and what is wrong with a place that cannot
be used. Does not decide names, hashes or contents: that is ``manifests.store``, the only way in.
fsspec's own "create" mode on local disk is exists-then-write and lets several writers win, hence ``os.link``.
"""

import mimetypes
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from manifests.replies import by_reply

_PART = 8 << 20  # of a multipart transfer; with _PARALLEL it bounds the memory of one transfer
_PARALLEL = 4
_PAUSES_S = (0.1, 0.3, 1.0, 3.0)  # after 409 or 503: another writer is at it, or we are too fast


class StoreError(Exception):
    """A store that cannot be used as it is: what is wrong, where, and what to do about it."""

    code = "E801_STORE"

    def __init__(self, what: str, where: str, todo: str) -> None:
        super().__init__(what, where, todo)  # all three, so that it survives being pickled between processes
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.todo}"


@dataclass(frozen=True)
class Disk:
    """A folder on a filesystem with hard links."""

    root: Path

    @property
    def staging(self) -> Path:
        return self.root / ".staging"  # in the same tree, because a link cannot cross filesystems

    def create(self, staged: Path, key: str) -> bool:
        """``key`` exists and is durable; True if it is ours. Raises OSError."""
        final = self.root / key
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(staged, final)  # refuses an existing name, where rename would overwrite it
            won = True
        except FileExistsError:
            if final.is_dir():
                raise IsADirectoryError(f"{str(final)!r} is a folder of other keys") from None
            # An NFS server may link, lose the reply and refuse the retry: the link count tells.
            won = staged.stat().st_nlink == 2
        staged.unlink()
        self._sync(final.parent)  # a loser syncs too: it may build on a name the winner has not synced yet
        return won

    def show(self, source: str, key: str) -> None:
        """``key`` is one more name of the file ``source``, whatever it was before. Raises OSError."""
        final, name = self.root / key, self.staging / f"{uuid.uuid4().hex}.tmp"
        self.staging.mkdir(parents=True, exist_ok=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.root / source, name)
            os.replace(name, final)
        finally:
            name.unlink(missing_ok=True)  # replace leaves it where both are names of one file already
        self._sync(final.parent)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, key: str, path: Path) -> None:
        shutil.copyfile(self.root / key, path)

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> list[str]:
        tree = os.walk(self.root / prefix)
        return sorted(str(Path(at, name).relative_to(self.root)) for at, _, names in tree for name in names)

    def remove(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def probe(self, need_bytes: int) -> None:
        """Raises StoreError unless files can be created here once, and ``need_bytes`` more fit."""
        try:
            ground = next(p for p in (self.root, *self.root.parents) if os.path.lexists(p))
            if not ground.is_dir():
                todo = "name a folder, or one that can be made"
                raise StoreError(f"{ground} is not a folder", str(self.root), todo)
            self._check_free(shutil.disk_usage(ground).free, need_bytes)
            self._check_writing(ground)
        except OSError as error:
            # Also where the filesystem has no hard links: "Operation not permitted".
            todo = f"name a folder that user {os.geteuid()} may write, on a filesystem with hard links"
            raise StoreError(f"cannot write here: {error.strerror}", str(self.root), todo) from error

    def _check_free(self, free_bytes: int, need_bytes: int) -> None:
        if free_bytes < need_bytes:
            what = f"{shown_size(free_bytes)} free, {shown_size(need_bytes)} needed"
            raise StoreError(what, str(self.root), "make room, or name a folder on a larger disk")

    def _check_writing(self, ground: Path) -> None:
        """Try in a folder with a name of its own: nobody else ever looks there, so it can be taken away."""
        for folder in (self.root / "cas", self.staging):
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(0, f"{folder} is not writable")
        trial = ground / f".longtake-probe-{uuid.uuid4().hex}"
        try:
            trial.mkdir()
            _expect_one_winner(Disk(trial), trial, str(self.root))
        finally:
            shutil.rmtree(trial, ignore_errors=True)

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder != self.root:
            self._sync(folder.parent)


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket, over s3fs; ``staging`` is a local folder for uploads in the making."""

    fs: Any
    root: str  # bucket/prefix
    staging: Path

    def create(self, staged: Path, key: str) -> bool:
        """The object exists; True if it is ours. The body goes with If-None-Match. Raises OSError."""
        for pause_s in (*_PAUSES_S, None):
            try:
                with reaching():
                    self.fs.put_file(
                        str(staged), self._at(key), mode="create", chunksize=_PART, max_concurrency=_PARALLEL
                    )
                return True
            except OSError as error:
                if isinstance(error, FileExistsError) or _status(error) == 412:
                    return False
                if _status(error) not in (409, 503) or pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last pause is None")

    def show(self, source: str, key: str) -> None:
        """``key`` is a copy of ``source``, made by the service, whatever it was before. Raises OSError."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"  # so that a browser plays it
        with reaching():
            self.fs.cp_file(self._at(source), self._at(key), MetadataDirective="REPLACE", ContentType=kind)

    def read(self, key: str) -> bytes | None:
        try:
            with reaching():
                data: bytes = self.fs.cat_file(self._at(key))
        except FileNotFoundError:
            return None
        return data

    def fetch(self, key: str, path: Path) -> None:
        with reaching():
            self.fs.get_file(self._at(key), str(path), chunksize=_PART, max_concurrency=_PARALLEL)

    def size(self, key: str) -> int | None:
        try:
            with reaching():
                return int(self.fs.info(self._at(key))["size"])
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> list[str]:
        folder = f"{self._at(prefix)}/"
        with reaching():
            found = self.fs.find(folder)
        return sorted(p[len(self.root) + 1 :] for p in found if p.startswith(folder))

    def probe(self, need_bytes: int) -> None:
        """Raises StoreError unless objects can be put here once and read. A bucket is never too small."""
        Disk(self.staging).probe(0)
        with tempfile.TemporaryDirectory() as folder:
            try:
                _expect_one_winner(self, Path(folder), f"s3://{self.root}")
            except OSError as error:
                raise self._explained(error) from error

    def _explained(self, error: OSError) -> StoreError:
        where, bucket = f"s3://{self.root}", self.root.split("/")[0]
        if isinstance(error, FileNotFoundError):
            return StoreError(f"there is no bucket {bucket!r}", where, "create it or correct the URL")
        if isinstance(error, PermissionError):
            todo = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; allow put, get and list"
            return StoreError(f"credentials are refused: {error}", where, todo)
        if isinstance(error, ConnectionError):
            todo = "check AWS_ENDPOINT_URL, the network and that the service is up"
            return StoreError(f"cannot be reached: {error}", where, todo)
        return StoreError(f"cannot be used: {error}", where, "check the bucket and its service")

    def remove(self, key: str) -> None:
        with reaching():
            self.fs.rm_file(self._at(key))

    def _at(self, key: str) -> str:
        return f"{self.root}/{key}"


def _expect_one_winner(place: Disk | Bucket, scratch: Path, where: str) -> None:
    """Put a key twice; raises StoreError unless the second is refused and changes nothing, or OSError."""
    key, bodies, wins = f".longtake-probe-{uuid.uuid4().hex}", (b"first", b"second"), []
    try:
        for body in bodies:
            staged = scratch / f"{uuid.uuid4().hex}.tmp"
            staged.write_bytes(body)
            wins.append(place.create(staged, key))
        if wins != [True, False] or place.read(key) != bodies[0]:
            todo = "use a store that honours If-None-Match, or two drivers may overwrite each other"
            raise StoreError("a second put of the same key was not refused", where, todo)
    finally:
        if wins:
            with suppress(PermissionError):  # a write-once bucket is sound, and keeps a few bytes
                place.remove(key)


@contextmanager
def reaching() -> Iterator[None]:
    """Errors of the S3 client that are no replies of the service become OSErrors; replies, what they mean."""
    from botocore.exceptions import (  # type: ignore[import-untyped]  # as heavy as s3fs, which needs it
        BotoCoreError,
        NoCredentialsError,
    )

    try:
        yield
    except NoCredentialsError as error:
        raise PermissionError(str(error)) from error
    except BotoCoreError as error:
        raise ConnectionError(str(error)) from error
    except OSError as error:
        raise by_reply(error) from error.__cause__


def _status(error: OSError) -> int | None:
    """The HTTP status that s3fs made the error of."""
    reply: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    status: int | None = reply.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def plain_path(place: str) -> str:
    """The path that a file:// URL names, in which %20 is a space (RFC 8089); any other place as it is."""
    return unquote(place.removeprefix("file://")) if place.startswith("file://") else place


def shown_size(count_bytes: int) -> str:
    """A number of bytes for people."""
    unit, name = (2**30, "GiB") if count_bytes >= 2**30 else (2**20, "MiB")
    return f"{count_bytes / unit:.2f} {name}"
