"""Content-addressed artefacts, put-if-absent keys and reader-facing names, on local disk or S3.

Artefacts live at ``cas/{hash[:2]}/{hash}``, markers (small JSON objects), ledger segments and published names
at the key the caller chose. Everything appears whole or not at all. A key that was put is never replaced;
only ``publish`` replaces, and atomically. How, is decided by ``manifests.places``.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.utils import get_protocol

from manifests.measured import Measured, Told
from manifests.places import Bucket, Disk, StoreError, plain_path

__all__ = ["Corrupt", "Store", "StoreError", "Unreadable", "open_store"]

_CHUNK = 1 << 20
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=-]*")
_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/(?!/)|(s3|file):(?!//)")  # a scheme without its //
_HASH = re.compile(r"[0-9a-f]{64}")


class Corrupt(Exception):
    """Stored bytes do not have the hash they are stored under."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(expected, actual)
        self.expected, self.actual = expected, actual

    def __str__(self) -> str:
        return f"artefact {self.expected} is corrupt: its bytes hash to {self.actual}"


class Unreadable(StoreError, ValueError):
    """Bytes at a key that are not what is put there. A ValueError too: reading again will not help."""


@dataclass(frozen=True)
class Store:
    """One tree of artefacts and keys; make it with ``open_store``. It can be sent to other processes."""

    url: str
    _place: Disk | Bucket | Measured

    def measured(self, told: Told) -> "Store":
        """The same store, in this process: `told` is called after every call of its place."""
        place = self._place.place if isinstance(self._place, Measured) else self._place
        return replace(self, _place=Measured(place, told))

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
            out.flush()
            key, staged = _artefact_key(digest.hexdigest()), os.fstat(out.fileno())
            # Read-only, because a published film is this very file, and editors write where they may.
            os.fchmod(out.fileno(), staged.st_mode & 0o444)
            if self._place.size(key) not in (None, staged.st_size):
                self._place.remove(key)  # somebody has changed it since
            self._create(out, key)  # losing is fine: same name, same bytes
        return digest.hexdigest()

    def read_artefact(self, hash: str) -> bytes:
        """Returns bytes that have this hash. Raises Corrupt, FileNotFoundError, or ValueError (no hash)."""
        data = self._place.read(_artefact_key(hash))
        if data is None:
            raise FileNotFoundError(f"no artefact {hash} in {self.url}")
        _check_hash(hash, io.BytesIO(data))
        return data

    def fetch_artefact(self, hash: str, path: Path) -> None:
        """``path`` holds the artefact, whole and with this hash, or is untouched; constant memory.

        Raises Corrupt, FileNotFoundError, ValueError (no hash) or OSError.
        """
        key = _artefact_key(hash)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")  # beside it, so that one rename publishes
        try:
            self._place.fetch(key, part)
            with part.open("rb") as source:
                _check_hash(hash, source)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def has_artefact(self, hash: str) -> int | None:
        """The artefact's size in bytes, or None if there is none. Raises ValueError (no hash), OSError."""
        return self._place.size(_artefact_key(hash))

    def publish(self, hash: str, key: str) -> None:
        """``key``, such as ``films/water.hi-IN.mp4``, shows the artefact; an older one is replaced at once.

        On disk both are names of one file, which is read-only: copy it before editing it.
        Raises FileNotFoundError (no such artefact; ``key`` is as before), ValueError (bad key), OSError.
        """
        _check_key(key)
        self._place.show(_artefact_key(hash), key)

    def put_new(self, key: str, data: bytes) -> bool:
        """Something exists at ``key``. True: we created it with ``data``; False: it was there, untouched.

        After a lost S3 reply a retry may answer False for our own bytes: read and compare.
        Raises ValueError (bad key, or empty: some stores overwrite with those), OSError (safe to retry).
        """
        _check_key(key)
        if not data:
            raise ValueError(f"nothing to put at {key!r}: 0 bytes")
        with self._staged() as out:
            out.write(data)
            return self._create(out, key)

    def read(self, key: str) -> bytes | None:
        """The bytes at ``key``, or None if there are none. Raises ValueError (bad key), OSError."""
        _check_key(key)
        return self._place.read(key)

    def put_marker(self, key: str, body: Mapping[str, object]) -> bool:
        """As ``put_new`` with ``body`` as JSON; put an owner in it to know a lost reply by.

        Raises ValueError (bad key, NaN), TypeError (not JSON), OSError (unknown; safe to retry).
        """
        return self.put_new(key, json.dumps(dict(body), sort_keys=True, allow_nan=False).encode())

    def read_marker(self, key: str) -> dict[str, Any] | None:
        """The marker's body, or None if there is none. Raises Unreadable, ValueError (bad key), OSError."""
        data = self.read(key)
        if data is None:
            return None
        try:
            body = json.loads(data)
        except ValueError as error:
            raise self.unreadable(key, f"{len(data)} bytes, {error}") from error
        if not isinstance(body, dict):
            raise self.unreadable(key, "no JSON object")
        return body

    def unreadable(self, key: str, why: str) -> Unreadable:
        """The error of a marker whose bytes are not what is put there."""
        what, todo = f"the marker {key} cannot be read, {why}", "remove it and give the same command again"
        return Unreadable(what, self.url, todo)

    def list_keys(self, prefix: str) -> list[str]:
        """Sorted keys inside the folder ``prefix``, empty if there is none. Raises ValueError, OSError.

        Names that are no keys, such as ``.DS_Store`` and ``.nfs…``, are not ours and are left out.
        """
        _check_key(prefix.removesuffix("/"))
        return [key for key in self._place.keys(prefix.removesuffix("/")) if _is_key(key)]

    def remove(self, key: str) -> None:
        """Nothing is at ``key``: for checkpoints and other scratch, never for markers. Raises as ``read``."""
        _check_key(key)
        self._place.remove(key)

    def probe(self, need_bytes: int = 0) -> None:
        """The store can be created, written once and read, and ``need_bytes`` fit; leaves nothing behind.

        Call it before rendering starts. Raises StoreError with what is wrong, where, and what to do.
        """
        self._place.probe(need_bytes)

    def sweep_staging(self, older_than_s: float) -> int:
        """How many leftovers of killed writers, untouched for so many seconds, were removed. Raises OSError.

        On S3 these are local to this machine; unfinished multipart uploads need a rule of the bucket.
        """
        swept, horizon = 0, time.time() - older_than_s
        for path in self._place.staging.glob("*.tmp"):
            try:
                if path.stat().st_mtime < horizon:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:  # its writer, or another janitor, was quicker
                continue
        return swept

    @contextmanager
    def _staged(self) -> Iterator[BinaryIO]:
        """A new private file; gone afterwards unless the process dies, and no reader ever looks there."""
        self._place.staging.mkdir(parents=True, exist_ok=True)
        path = self._place.staging / f"{uuid.uuid4().hex}.tmp"
        try:
            with path.open("xb") as out:
                yield out
        finally:
            path.unlink(missing_ok=True)

    def _create(self, out: BinaryIO, key: str) -> bool:
        out.flush()
        os.fsync(out.fileno())  # before the name exists, so that no name ever points at missing bytes
        return self._place.create(Path(out.name), key)


def open_store(url: str) -> Store:
    """A store at a local path, ``file://`` or ``s3://`` URL; writes nothing. Raises ValueError otherwise.

    S3 takes endpoint and credentials from the usual AWS_* variables.
    """
    _check_url(url)
    protocol = get_protocol(url)
    if protocol not in ("file", "s3"):
        raise ValueError(f"cannot store at {url!r}: protocol {protocol!r} is not one of file, s3")
    if protocol == "file":
        return Store(url, Disk(Path(fsspec.filesystem("file")._strip_protocol(plain_path(url)))))
    # Uncached, because a cached listing would hide the keys of other processes.
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    root = str(fs._strip_protocol(url)).strip("/")
    if not root:
        raise ValueError(f"cannot store at {url!r}: no bucket; give s3://bucket/prefix")
    return Store(url, Bucket(fs, root, Path(tempfile.gettempdir(), f"longtake-staging-{os.getuid()}")))


def _check_url(url: str) -> None:
    """Raises ValueError for what would be taken for a path but cannot be meant as one."""
    if not url.removeprefix("file://").strip():
        raise ValueError(f"cannot store at {url!r}: it names no place; . is the folder you are in")
    if "\0" in url:
        raise ValueError(f"cannot store at {url!r}: no path has a NUL character")
    if _ONE_SLASH.match(url):
        scheme, rest = url.split(":", 1)
        meant = f"{scheme}://{rest.lstrip('/')}"
        raise ValueError(f"cannot store at {url!r}: give {meant} for a URL, or ./{url} for a folder")


def _check_hash(expected: str, source: BinaryIO) -> None:
    digest = hashlib.blake2b(digest_size=32)
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise Corrupt(expected, digest.hexdigest())


def _artefact_key(name: str) -> str:
    if not _HASH.fullmatch(name):
        raise ValueError(f"not a BLAKE2b-256 hex digest: {name!r}")
    return f"cas/{name[:2]}/{name}"


def _check_key(key: str) -> None:
    """Raises ValueError unless ``key`` stays inside the tree, away from artefacts and staging."""
    if not _is_key(key):
        raise ValueError(f"bad key {key!r}: relative, [A-Za-z0-9._=/-], no '..' or dot first, not cas/")


def _is_key(key: str) -> bool:
    parts = key.split("/")
    return ".." not in key and parts[0] != "cas" and all(_SEGMENT.fullmatch(part) for part in parts)
