"""A bucket of an object store as the place of a store, whichever service it is of.

Decides how an object comes to exist once, also where requests fail, and replies are lost after they took
effect: a put carries a mark of its own in the object's metadata, by which a retry that is refused knows what
it had put itself. Does not decide how a service is asked (s3, gcs, azure), what is tried again (patience),
nor names, hashes or contents (store).
"""

import mimetypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from manifests.patience import Result, patiently
from manifests.replies import UploadGone

PART = 8 << 20  # bytes of an upload in parts
PARALLEL = 4  # parts at once; with PART it bounds the memory of one transfer


@dataclass(frozen=True)
class Stored:
    """An object as its service tells of it: bucket/key, and when it was put by the service's clock (s, 1970).

    `mark` is that of the put which made it; "" where it has none, or was not asked for.
    """

    at: str
    size_bytes: int
    written_s: float
    mark: str = ""


@dataclass(frozen=True)
class Upload:
    """An unfinished upload in parts to bucket/key, which no listing shows."""

    at: str
    id: str
    began_s: float


class Service(Protocol):
    """One object store by its own client: all that differs. `at` is always bucket/key.

    Calls raise OSErrors by the classes of `manifests.replies` where they are made in `translated`.
    """

    bucket_word: str  # what people there call a bucket
    credentials: str  # what tells who we are,
    endpoint: str  # and where the service is

    def put(self, path: Path, at: str, mark: str) -> None:
        """The file is the object, which was not there. Raises FileExistsError if it was; UploadGone."""

    def look(self, at: str) -> Stored:
        """The object with its mark. Raises FileNotFoundError."""

    def copy(self, source: str, at: str, kind: str) -> None:
        """The object is a copy of another one, of this content type. Raises FileNotFoundError."""

    def read(self, at: str) -> bytes:
        """The object's bytes. Raises FileNotFoundError."""

    def fetch(self, at: str, path: Path) -> None:
        """The file has the object's bytes, in bounded memory. Raises FileNotFoundError."""

    def find(self, folder: str) -> Iterator[Stored]:
        """The objects whose names begin with bucket/folder/."""

    def remove(self, at: str) -> None:
        """The object is gone. May raise FileNotFoundError if it was not there."""

    def uploads(self, root: str) -> Iterator[Upload]:
        """Those below bucket/prefix, of a service that keeps and lists them: most drop them themselves."""
        return iter(())

    def abort(self, upload: Upload) -> None:
        """It is gone, with its parts."""
        raise ValueError(f"{upload.at}: a service that lists uploads ends them too")

    def translated(self) -> AbstractContextManager[None]:
        """Inside, the client's errors become OSErrors."""


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket; ``staging`` is a local folder for uploads in the making.

    Every call goes on for `patience_s` seconds while its trouble may pass; then it raises OSError.
    """

    service: Service
    url: str  # for people
    root: str  # bucket/prefix
    staging: Path
    patience_s: float

    def create(self, staged: Path, key: str) -> bool:
        """The object exists; True if it is ours, also if that reply was lost. Raises OSError."""
        mark = uuid4().hex  # one for all tries
        return patiently(lambda: self._create(staged, key, mark), self.patience_s)

    def _create(self, staged: Path, key: str, mark: str) -> bool:
        try:
            with self.service.translated():
                self.service.put(staged, self._at(key), mark)
            return True
        except (FileExistsError, UploadGone) as refused:
            try:
                with self.service.translated():
                    return self.service.look(self._at(key)).mark == mark
            except FileNotFoundError:
                if isinstance(refused, UploadGone):
                    raise refused from None
                return False

    def show(self, source: str, key: str) -> None:
        """``key`` is a copy of ``source``, made by the service, whatever it was before. Raises OSError."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"  # so that a browser plays it
        self._patiently(lambda: self.service.copy(self._at(source), self._at(key), kind))

    def read(self, key: str) -> bytes | None:
        try:
            return self._patiently(lambda: self.service.read(self._at(key)))
        except FileNotFoundError:
            return None

    def fetch(self, key: str, path: Path) -> None:
        self._patiently(lambda: self.service.fetch(self._at(key), path))

    def size(self, key: str) -> int | None:
        try:
            return self._look(key).size_bytes
        except FileNotFoundError:
            return None

    def written_s(self, key: str) -> float:
        """When the object was put by the service's clock, in whole seconds since 1970."""
        return self._look(key).written_s

    def _look(self, key: str) -> Stored:
        return self._patiently(lambda: self.service.look(self._at(key)))

    def keys(self, prefix: str) -> list[str]:
        return sorted(self.key_of(each.at) for each in self.files(prefix))

    def files(self, prefix: str) -> list[Stored]:
        """What lies in a folder, in no order."""
        return self._patiently(lambda: list(self.service.find(self._at(prefix))))

    def remove(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._patiently(lambda: self.service.remove(self._at(key)))

    def uploads(self) -> list[Upload]:
        """What was begun here in parts and not ended, where the service keeps it until it is told."""
        return self._patiently(lambda: list(self.service.uploads(self.root)))

    def abort(self, upload: Upload) -> None:
        self._patiently(lambda: self.service.abort(upload))

    def key_of(self, at: str) -> str:
        """The key of bucket/prefix/key."""
        return at[len(self.root) + 1 :]

    def _patiently(self, call: Callable[[], Result]) -> Result:
        def reached() -> Result:
            with self.service.translated():
                return call()

        return patiently(reached, self.patience_s)

    def _at(self, key: str) -> str:
        return f"{self.root}/{key}"
