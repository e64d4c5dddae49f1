"""Content-addressed artefacts and put-if-absent markers, on local disk or S3.

Artefacts live at ``cas/{hash[:2]}/{hash}``, markers (small JSON objects) at the key the caller chose.
Both are published whole or not at all, and a published name is never replaced. fsspec's own "create"
mode on local disk is exists-then-write and lets several writers win, so local disk uses ``os.link``.
The test-suite covers local disk; S3 (through s3fs) is not covered by it.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.utils import get_protocol

_CHUNK = 1 << 20
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_HASH = re.compile(r"[0-9a-f]{64}")


class Corrupt(Exception):
    """Stored bytes do not have the hash they are stored under."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"artefact {expected} is corrupt: its bytes hash to {actual}")
        self.expected, self.actual = expected, actual


@dataclass(frozen=True)
class Store:
    """One tree of artefacts and markers; make it with ``open_store``."""

    url: str
    _fs: Any
    _root: str
    _staging: Path
    _publish_file: Callable[[Path, str], bool]

    def put_artefact(self, data: bytes | Path) -> str:
        """The bytes (or the file's) are stored under the returned BLAKE2b-256 hex. Raises OSError."""
        return self.put_file(data) if isinstance(data, Path) else self._put(io.BytesIO(data))

    def put_file(self, path: Path) -> str:
        """As ``put_artefact``, in constant memory; the hash is of the very bytes stored. Raises OSError."""
        with path.open("rb") as source:
            return self._put(source)

    def _put(self, source: BinaryIO) -> str:
        digest = hashlib.blake2b(digest_size=32)
        with self._staged() as out:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
            self._publish(out, _artefact_key(digest.hexdigest()))  # losing is fine: same name, same bytes
        return digest.hexdigest()

    def read_artefact(self, hash: str) -> bytes:
        """Returns bytes that have this hash. Raises Corrupt, FileNotFoundError, or ValueError (no hash)."""
        data: bytes = self._fs.cat_file(f"{self._root}/{_artefact_key(hash)}")
        actual = hashlib.blake2b(data, digest_size=32).hexdigest()
        if actual != hash:
            raise Corrupt(hash, actual)
        return data

    def put_marker(self, key: str, body: Mapping[str, object]) -> bool:
        """A marker exists at ``key``. True: we created it with ``body``; False: it was there, untouched.

        After a lost S3 reply a retry may answer False for our own marker: put an owner in the body and
        compare. Raises ValueError (bad key, NaN), TypeError (not JSON), OSError (unknown; safe to retry).
        """
        _check_key(key)
        data = json.dumps(dict(body), sort_keys=True, allow_nan=False).encode()  # never empty, even for {}
        with self._staged() as out:
            out.write(data)
            return self._publish(out, key)

    def read_marker(self, key: str) -> dict[str, Any] | None:
        """The marker's body, or None if there is none. Raises ValueError (bad key, not JSON)."""
        _check_key(key)
        try:
            body: dict[str, Any] = json.loads(self._fs.cat_file(f"{self._root}/{key}"))
        except FileNotFoundError:
            return None
        return body

    def list_markers(self, prefix: str) -> list[str]:
        """Sorted keys inside the folder ``prefix``, empty if there is none. Raises ValueError."""
        _check_key(prefix.removesuffix("/"))
        folder = f"{self._root}/{prefix.removesuffix('/')}/"
        return sorted(p[len(self._root) + 1 :] for p in self._fs.find(folder) if p.startswith(folder))

    @contextmanager
    def _staged(self) -> Iterator[BinaryIO]:
        """A new private file; gone afterwards unless the process dies, and no reader ever looks there."""
        self._staging.mkdir(parents=True, exist_ok=True)
        path = self._staging / f"{uuid.uuid4().hex}.tmp"
        try:
            with path.open("xb") as out:
                yield out
        finally:
            path.unlink(missing_ok=True)

    def _publish(self, out: BinaryIO, key: str) -> bool:
        out.flush()
        os.fsync(out.fileno())  # before the name exists, so that no name ever points at missing bytes
        return self._publish_file(Path(out.name), f"{self._root}/{key}")


def open_store(url: str) -> Store:
    """A store at a local path, ``file://`` or ``s3://`` URL; writes nothing. Raises ValueError otherwise."""
    protocol = get_protocol(url)
    if protocol not in ("file", "s3"):
        raise ValueError(f"cannot store at {url!r}: protocol {protocol!r} is not one of file, s3")
    # Uncached, because a cached listing would hide the markers of other processes.
    fs = fsspec.filesystem(protocol, use_listings_cache=False)
    root = str(fs._strip_protocol(url)).rstrip("/")
    if protocol == "file":  # staged in the same tree, because a link cannot cross filesystems
        return Store(url, fs, root, Path(root, ".staging"), partial(_link, Path(root)))
    return Store(url, fs, root, Path(tempfile.gettempdir()), partial(_upload, fs))


def _link(root: Path, staged: Path, target: str) -> bool:
    """The name ``target`` exists and is durable; True if it is ours. Raises OSError."""
    final = Path(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(staged, final)  # refuses an existing name, where rename would overwrite it
        won = True
    except FileExistsError:
        if final.is_dir():
            raise IsADirectoryError(f"{target!r} is a folder of other keys") from None
        # An NFS server may link, lose the reply and refuse the retry: the link count tells.
        won = staged.stat().st_nlink == 2
    staged.unlink()
    _sync(root, final.parent)  # a loser syncs too: it may build on a name the winner has not synced yet
    return won


def _sync(root: Path, folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if folder != root:
        _sync(root, folder.parent)


def _upload(fs: Any, staged: Path, target: str) -> bool:
    """The object exists; True if it is ours. The body goes with If-None-Match. Raises OSError."""
    try:
        if staged.stat().st_size <= _CHUNK:
            fs.pipe_file(target, staged.read_bytes(), mode="create")
        else:
            fs.put_file(str(staged), target, mode="create")
    except FileExistsError:
        return False
    return True


def _artefact_key(name: str) -> str:
    if not _HASH.fullmatch(name):
        raise ValueError(f"not a BLAKE2b-256 hex digest: {name!r}")
    return f"cas/{name[:2]}/{name}"


def _check_key(key: str) -> None:
    """Raises ValueError unless ``key`` stays inside the tree, away from artefacts and staging."""
    parts = key.split("/")
    if ".." in key or parts[0] == "cas" or not all(_SEGMENT.fullmatch(part) for part in parts):
        raise ValueError(f"bad marker key {key!r}: relative, [A-Za-z0-9._/-], no '..' or dot first, not cas/")
