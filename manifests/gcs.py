"""Google Cloud Storage over gcsfs. Decides: how it is asked, and what its errors mean.

A put sends ifGenerationMatch=0, which is gcsfs' own mode "create"; of an upload in parts the service looks at
it again with the last part. An upload that is not ended is not listed, costs nothing and is gone in a week.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from json import JSONDecodeError
from pathlib import Path
from types import MethodType
from typing import Any

from fsspec.asyn import sync

from manifests.bucket import PART, Service, Stored
from manifests.replies import UploadGone, meant

MARK = "longtake-put"
KIND = "application/octet-stream"
WAIT_S = {"sock_connect": 10.0, "sock_read": 60.0}  # gcsfs itself bounds whole transfers, large ones too


@dataclass(frozen=True)
class GCS(Service):
    """Google Cloud Storage by gcsfs."""

    fs: Any
    bucket_word = "bucket"
    credentials = "GOOGLE_APPLICATION_CREDENTIALS"
    endpoint = "STORAGE_EMULATOR_HOST"

    def put(self, path: Path, at: str, mark: str) -> None:
        from gcsfs.core import simple_upload

        if path.stat().st_size > PART:
            return self._put_parts(path, at, mark)
        self._core(simple_upload, *_split(at), path.read_bytes(), {MARK: mark}, mode="create")

    def _put_parts(self, path: Path, at: str, mark: str) -> None:
        from gcsfs.core import initiate_upload, upload_chunk
        from gcsfs.retry import HttpError

        begun = self._core(initiate_upload, *_split(at), KIND, {MARK: mark}, mode="create")
        size, reply = path.stat().st_size, None
        with path.open("rb") as source:
            for offset in range(0, size, PART):
                try:
                    reply = self._core(upload_chunk, begun, source.read(PART), offset, size, KIND)
                except (FileNotFoundError, HttpError) as error:  # gcsfs' errors for 404, and 410
                    if getattr(error, "code", 404) not in (404, 410):
                        raise
                    raise UploadGone(f"an upload to {at} is not known any more") from error
        if reply is None:
            raise ConnectionError(f"an upload to {at} was not ended by its last part")

    def _core(self, call: Any, *given: Any, **named: Any) -> Any:
        """A function of gcsfs' core: its put_file sends a request more where one has failed."""
        return sync(self.fs.loop, call, self.fs, *given, **named)

    def look(self, at: str) -> Stored:
        return _stored(self.fs.call("GET", "b/{}/o/{}", *_split(at), json_out=True), at)

    def copy(self, source: str, at: str, kind: str) -> None:
        # gcsfs' cp_file cannot tell a content type. A large copy takes several requests, as the reply says.
        token: str | None = None
        while True:
            told = self.fs.call(
                "POST", "b/{}/o/{}/rewriteTo/b/{}/o/{}", *_split(source), *_split(at),
                json={"contentType": kind}, rewriteToken=token, json_out=True,
            )  # fmt: skip
            if told["done"]:
                return
            token = told["rewriteToken"]

    def read(self, at: str) -> bytes:
        headers, data = self.fs.call("GET", self.fs.url(at))
        sums = ",".join(headers.getall("X-Goog-Hash", []))  # several headers, or one with commas
        said = dict(part.partition("=")[::2] for part in sums.split(","))
        md5 = b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        if said.get("md5", md5) != md5:
            raise ConnectionError(f"{at} came damaged: its MD5 is {md5}, not {said['md5']}")
        return bytes(data)

    def fetch(self, at: str, path: Path) -> None:
        self.fs.get_file(at, str(path), concurrency=1)  # else gcsfs would ask for the size first

    def find(self, folder: str) -> Iterator[Stored]:
        for at, told in self.fs.find(folder, detail=True).items():
            if at.startswith(f"{folder}/"):
                yield _stored(told, at)

    def remove(self, at: str) -> None:
        self.fs.rm_file(at)

    def translated(self) -> AbstractContextManager[None]:
        return translated()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of gcsfs, which keeps no status of some replies, and of what it stands on become OSErrors."""
    from aiohttp import ClientError
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests import RequestException

    try:
        yield
    except HttpError as error:
        raise meant(int(error.code or 0), str(error)) from error
    except (ClientError, RequestException, TransportError) as error:  # requests': what it makes of a 502
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    except GoogleAuthError as error:
        raise PermissionError(str(error)) from error
    except OSError as error:
        if str(error).startswith("Forbidden"):
            raise PermissionError(str(error)) from error
        raise
    except JSONDecodeError as error:
        raise ConnectionError(f"a reply that is no JSON: {error}") from error
    except ValueError as error:
        if str(error).startswith("Bad Request"):  # a reply whose message has the word "invalid"
            raise OSError(str(error)) from error
        raise


def connect(url: str) -> tuple[GCS, str]:
    """The service, and bucket/prefix; credentials are looked for as Google's tools do. Raises ImportError."""
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem  # not gcsfs' own choice, which asks by gRPC what kind a bucket is

    # Uncached, because a cached listing would hide the keys of other processes.
    fs = GCSFileSystem(use_listings_cache=False, requests_timeout=ClientTimeout(total=None, **WAIT_S))
    for name in ("_request", "_get_file_request"):
        # Without gcsfs' six tries, which take a minute whatever a caller's patience is.
        setattr(fs, name, MethodType(getattr(GCSFileSystem, name).__wrapped__, fs))
    return GCS(fs), str(fs._strip_protocol(url))


def _stored(told: dict[str, Any], at: str) -> Stored:
    written_s = datetime.fromisoformat(told["timeCreated"]).timestamp()
    return Stored(at, int(told["size"]), written_s, str(told.get("metadata", {}).get(MARK, "")))


def _split(at: str) -> tuple[str, str]:
    bucket, _, key = at.partition("/")
    return bucket, key
