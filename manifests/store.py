"""Content-addressed artefacts, put-if-absent keys and reader-facing names, on local disk or an object store.

Artefacts live at ``cas/{hash[:2]}/{hash}``, markers (small JSON objects), ledger segments and published names
at the key the caller chose. Everything appears whole or not at all. A key that was put is never replaced;
only ``publish`` replaces, and atomically. How, is decided by ``manifests.places`` and ``manifests.bucket``.
"""

import hashlib
import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from manifests.bucket import Bucket
from manifests.full import writing
from manifests.keys import artefact_key, check_key, is_key
from manifests.measured import Measured, Told
from manifests.opening import place_of
from manifests.patience import PATIENT_S
from manifests.places import Disk, StoreError
from manifests.probe import probe

__all__ = ["Corrupt", "Store", "StoreError", "Unreadable", "open_store"]

_CHUNK = 1 << 20
_READS = 3  # before bytes that came over a network count as damaged where they lie
_Read = TypeVar("_Read")


class Corrupt(Exception):
    """Stored bytes do not have the hash they are stored under."""

    code, error_class = "E804_CORRUPT", "DATA"
    hint = "remove it, and the marker that names it (longtake verify JOB tells), and it is made again"

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
        return replace(self, _place=Measured(self.place, told))

    @property
    def place(self) -> Disk | Bucket:
        """Where it is, of which nobody is told."""
        return self._place.place if isinstance(self._place, Measured) else self._place

    def __reduce__(self) -> tuple[object, ...]:
        """Opened anew where it arrives: a client's connections, and what it was told, stay behind."""
        patience_s = self.place.patience_s if isinstance(self.place, Bucket) else PATIENT_S
        return open_store, (self.url, patience_s)

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
            key, staged = artefact_key(digest.hexdigest()), os.fstat(out.fileno())
            # Read-only, because a published film is this very file, and editors write where they may.
            os.fchmod(out.fileno(), staged.st_mode & 0o444)
            if self._place.size(key) not in (None, staged.st_size):
                self._place.remove(key)  # somebody has changed it since
            self._create(out, key)  # losing is fine: same name, same bytes
        return digest.hexdigest()

    def read_artefact(self, hash: str) -> bytes:
        """Returns bytes that have this hash. Raises Corrupt, FileNotFoundError, or ValueError (no hash)."""
        key = artefact_key(hash)

        def read() -> bytes:
            data = self._place.read(key)
            if data is None:
                raise FileNotFoundError(f"no artefact {hash} in {self.url}")
            _check_hash(hash, io.BytesIO(data))
            return data

        return _read_again(read)

    def fetch_artefact(self, hash: str, path: Path) -> None:
        """``path`` holds the artefact, whole and with this hash, or is untouched; constant memory.

        Raises Corrupt, FileNotFoundError, ValueError (no hash) or OSError.
        """
        key = artefact_key(hash)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")  # beside it, so that one rename publishes

        def fetch() -> None:
            self._place.fetch(key, part)
            with part.open("rb") as source:
                _check_hash(hash, source)

        try:
            _read_again(fetch)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def has_artefact(self, hash: str) -> int | None:
        """The artefact's size in bytes, or None if there is none. Raises ValueError (no hash), OSError."""
        return self._place.size(artefact_key(hash))

    def publish(self, hash: str, key: str) -> None:
        """``key``, such as ``films/water.hi-IN.mp4``, shows the artefact; an older one is replaced at once.

        On disk both are names of one file, which is read-only: copy it before editing it.
        Raises FileNotFoundError (no such artefact; ``key`` is as before), ValueError (bad key), OSError.
        """
        check_key(key)
        with writing(self.place):
            self._place.show(artefact_key(hash), key)

    def put_new(self, key: str, data: bytes) -> bool:
        """Something exists at ``key``. True: we created it with ``data``; False: it was there, untouched.

        A reply that is lost does not change that, unless a store drops an object's metadata: where it matters
        to whom a key belongs, put an owner in ``data`` and compare.
        Raises ValueError (bad key, or empty: some stores overwrite with those), OSError (safe to retry).
        """
        check_key(key)
        if not data:
            raise ValueError(f"nothing to put at {key!r}: 0 bytes")
        with self._staged() as out:
            out.write(data)
            return self._create(out, key)

    def read(self, key: str) -> bytes | None:
        """The bytes at ``key``, or None if there are none. Raises ValueError (bad key), OSError."""
        check_key(key)
        return self._place.read(key)

    def fetch(self, key: str, path: Path) -> bool:
        """``path`` is a file with the bytes at ``key``; False if there are none. Constant memory.

        Raises ValueError (bad key), OSError, after which ``path`` may hold some of them.
        """
        check_key(key)
        try:
            self._place.fetch(key, path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def put_marker(self, key: str, body: Mapping[str, object]) -> bool:
        """As ``put_new`` with ``body`` as JSON.

        Raises ValueError (bad key, NaN), TypeError (not JSON), OSError (unknown; safe to retry).
        """
        return self.put_new(key, json.dumps(dict(body), sort_keys=True, allow_nan=False).encode())

    def read_marker(self, key: str) -> dict[str, Any] | None:
        """The marker's body, or None if there is none. Raises Unreadable, ValueError (bad key), OSError."""
        check_key(key)
        return _read_again(lambda: self._marker(key))

    def _marker(self, key: str) -> dict[str, Any] | None:
        data = self._place.read(key)
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
        check_key(prefix.removesuffix("/"))
        return [key for key in self._place.keys(prefix.removesuffix("/")) if is_key(key)]

    def remove(self, key: str) -> None:
        """Nothing is at ``key``: for checkpoints and other scratch, never for markers. Raises as ``read``."""
        check_key(key)
        self._place.remove(key)

    def probe(self, need_bytes: int = 0) -> float:
        """The store does all that is asked of it here, tried, and ``need_bytes`` fit; nothing is left behind.

        Call it before rendering starts. Returns how many seconds its clock is ahead of this machine's.
        Raises StoreError with what is wrong, where, and what to do; of a store that lies, Lying.
        """
        return probe(self.place, need_bytes)

    def sweep_staging(self, older_than_s: float) -> int:
        """How many leftovers of killed writers, untouched for so many seconds, were removed. Raises OSError.

        Of an object store these are local to this machine; what it holds itself is `manifests.lying`'s.
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
        """A new private file; gone afterwards unless the process dies, and no reader ever looks there.

        Raises StoreFull, or DiskFull where the file lies on this node's own disk.
        """
        path = self._place.staging / f"{uuid.uuid4().hex}.tmp"
        try:
            with writing(self.place):
                self._place.staging.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as out:
                    yield out
        finally:
            path.unlink(missing_ok=True)

    def _create(self, out: BinaryIO, key: str) -> bool:
        out.flush()
        os.fsync(out.fileno())  # before the name exists, so that no name ever points at missing bytes
        return self._place.create(Path(out.name), key)


def open_store(url: str, patience_s: float = PATIENT_S) -> Store:
    """A store at a path or a URL: ``file://``, ``s3://``, ``gs://``, ``az://``, ``abfs://``; writes nothing.

    Services take endpoint and credentials from where their own tools do (AWS_*, GOOGLE_* or AZURE_STORAGE_*
    variables among them). One that cannot be reached, or answers that it is overloaded, is asked again for
    `patience_s` seconds. Raises ValueError for any other URL, and where a service's package is not installed.
    """
    return Store(url, place_of(url, patience_s))


def _read_again(read: Callable[[], _Read]) -> _Read:
    """What `read` returns; what comes damaged is read again, since it may have been damaged on its way."""
    for _ in range(_READS - 1):
        with suppress(Corrupt, Unreadable):
            return read()
    return read()


def _check_hash(expected: str, source: BinaryIO) -> None:
    digest = hashlib.blake2b(digest_size=32)
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise Corrupt(expected, digest.hexdigest())
