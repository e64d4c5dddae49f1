"""A bucket of an S3-compatible service as the place of a store, over s3fs.

Decides how an object comes to exist once, also where requests fail, and replies are lost after they took
effect: a put carries a mark of its own in the object's metadata, by which a retry that is refused knows what
it had put itself. Does not decide what is tried again (patience), nor names, hashes or contents (store).
"""

import http.client
import mimetypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from manifests.patience import Result, code_of, patiently, status_of
from manifests.replies import by_reply

PART = 8 << 20  # bytes of a multipart transfer; with PARALLEL it bounds the memory of one transfer
PARALLEL = 4
MARK = "longtake-put"


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket; ``staging`` is a local folder for uploads in the making.

    Every call goes on for `patience_s` seconds while its trouble may pass; then it raises OSError.
    """

    fs: Any
    root: str  # bucket/prefix
    staging: Path
    patience_s: float

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return f"s3://{self.root}"

    def create(self, staged: Path, key: str) -> bool:
        """The object exists; True if it is ours, also if that reply was lost. Raises OSError."""
        mark = uuid4().hex  # one for all tries
        return self._patiently(lambda: self._create(staged, key, mark))

    def _create(self, staged: Path, key: str, mark: str) -> bool:
        transfer = {"chunksize": PART, "max_concurrency": PARALLEL, "Metadata": {MARK: mark}}
        try:
            self.fs.put_file(str(staged), self._at(key), mode="create", **transfer)  # sends If-None-Match
            return True
        except OSError as error:
            finished = code_of(error) == "NoSuchUpload"  # perhaps by an earlier try whose reply was lost
            if not finished and not isinstance(error, FileExistsError) and status_of(error) != 412:
                raise
            there = self._mark(key)
            if finished and there is None:
                raise ConnectionError(f"an upload of {key} vanished") from error
            return there == mark

    def _mark(self, key: str) -> str | None:
        """The mark of the put that made the object, "" if it has none; None if there is no object."""
        bucket, _, name = self._at(key).partition("/")
        try:
            head = self.fs.call_s3("head_object", Bucket=bucket, Key=name)
        except FileNotFoundError:
            return None
        return str(head["Metadata"].get(MARK, ""))

    def show(self, source: str, key: str) -> None:
        """``key`` is a copy of ``source``, made by the service, whatever it was before. Raises OSError."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"  # so that a browser plays it
        replace = {"MetadataDirective": "REPLACE", "ContentType": kind}
        self._patiently(lambda: self.fs.cp_file(self._at(source), self._at(key), **replace))

    def read(self, key: str) -> bytes | None:
        try:
            # By one request: with several s3fs would ask for the size first.
            return self._patiently(lambda: bytes(self.fs.cat_file(self._at(key), max_concurrency=1)))
        except FileNotFoundError:
            return None

    def fetch(self, key: str, path: Path) -> None:
        transfer = {"chunksize": PART, "max_concurrency": PARALLEL}
        self._patiently(lambda: self.fs.get_file(self._at(key), str(path), **transfer))

    def size(self, key: str) -> int | None:
        info = self._info(key)
        return None if info is None else int(info["size"])

    def written_s(self, key: str) -> float:
        """When the object was put by the service's clock, in whole seconds since 1970."""
        info = self._info(key)
        if info is None:
            raise FileNotFoundError(f"no {key} in {self.url}")
        return float(info["LastModified"].timestamp())

    def _info(self, key: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = self._patiently(lambda: self.fs.info(self._at(key)))
        except FileNotFoundError:
            return None
        return info if info["type"] == "file" else None

    def keys(self, prefix: str) -> list[str]:
        folder = f"{self._at(prefix)}/"
        found: list[str] = self._patiently(lambda: self.fs.find(folder))
        return sorted(p[len(self.root) + 1 :] for p in found if p.startswith(folder))

    def remove(self, key: str) -> None:
        self._patiently(lambda: self.fs.rm_file(self._at(key)))

    def _patiently(self, call: Callable[[], Result]) -> Result:
        def reached() -> Result:
            with reaching():
                return call()

        return patiently(reached, self.patience_s)

    def _at(self, key: str) -> str:
        return f"{self.root}/{key}"


@contextmanager
def reaching() -> Iterator[None]:
    """Errors of the S3 client that are no replies of the service become OSErrors; replies, what they mean."""
    from aiohttp import ClientError
    from botocore.exceptions import (  # type: ignore[import-untyped]  # as heavy as s3fs, which needs it
        BotoCoreError,
        NoCredentialsError,
    )
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    try:
        yield
    except NoCredentialsError as error:
        raise PermissionError(str(error)) from error
    except (BotoCoreError, ResponseParserError, ClientError, http.client.HTTPException) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise by_reply(error) from error.__cause__
