"""S3 and services like it, over s3fs. Decides: how S3 is asked, and what its errors mean."""

import http.client
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from manifests.bucket import PARALLEL, PART, Stored, Upload
from manifests.replies import UploadGone, meant

MARK = "longtake-put"
TRANSFER = {"chunksize": PART, "max_concurrency": PARALLEL}
# Bodies that came damaged, as the service says with a status of 400.
DAMAGED = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"})


@dataclass(frozen=True)
class S3:
    """A `manifests.bucket.Service`."""

    fs: Any
    bucket_word = "bucket"
    credentials = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    endpoint = "AWS_ENDPOINT_URL"

    def put(self, path: Path, at: str, mark: str) -> None:
        # Sends If-None-Match.
        self.fs.put_file(str(path), at, mode="create", Metadata={MARK: mark}, **TRANSFER)

    def look(self, at: str) -> Stored:
        bucket, _, key = at.partition("/")
        head = self.fs.call_s3("head_object", Bucket=bucket, Key=key)
        mark = str(head["Metadata"].get(MARK, ""))
        return Stored(at, int(head["ContentLength"]), head["LastModified"].timestamp(), mark)

    def copy(self, source: str, at: str, kind: str) -> None:
        self.fs.cp_file(source, at, MetadataDirective="REPLACE", ContentType=kind)

    def read(self, at: str) -> bytes:
        return bytes(self.fs.cat_file(at, max_concurrency=1))  # else s3fs would ask for the size first

    def fetch(self, at: str, path: Path) -> None:
        self.fs.get_file(at, str(path), **TRANSFER)

    def find(self, folder: str) -> Iterator[Stored]:
        for at, info in self.fs.find(f"{folder}/", detail=True).items():
            if at.startswith(f"{folder}/"):  # s3fs takes an object of the folder's name for its only file
                yield Stored(at, int(info["size"]), info["LastModified"].timestamp())

    def remove(self, at: str) -> None:
        self.fs.rm_file(at)

    def uploads(self, root: str) -> Iterator[Upload]:
        bucket, _, prefix = root.partition("/")
        asked, more = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}, True
        while more:
            reply = self.fs.call_s3("list_multipart_uploads", **asked)
            for each in reply.get("Uploads", []):
                yield Upload(f"{bucket}/{each['Key']}", each["UploadId"], each["Initiated"].timestamp())
            more = bool(reply.get("IsTruncated"))
            asked |= {name: reply.get(f"Next{name}", "") for name in ("KeyMarker", "UploadIdMarker") if more}

    def abort(self, upload: Upload) -> None:
        bucket, _, key = upload.at.partition("/")
        self.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.id)

    def translated(self) -> AbstractContextManager[None]:
        return translated()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the client that are no replies of the service become OSErrors; replies, what they mean."""
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


def connect(url: str) -> tuple[S3, str]:
    """The service, and bucket/prefix. botocore retries parts of one, with jitter; Bucket whole calls."""
    retries = {"retries": {"mode": "standard"}}
    # Uncached, because a cached listing would hide the keys of other processes.
    fs = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=retries)
    fs.retries = 2  # of s3fs, without jitter: beside the two other kinds, its five could be waits of minutes
    return S3(fs), str(fs._strip_protocol(url))


def by_reply(error: OSError) -> OSError:
    """What the reply that s3fs made an error of means; the same error where there is none, or s3fs knew."""
    reply: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    status = reply.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = str(reply.get("Error", {}).get("Code", ""))
    if code == "NoSuchUpload":
        return UploadGone(str(error))
    if code in DAMAGED:
        return ConnectionError(f"{error} ({code})")
    known = isinstance(error, (FileNotFoundError, FileExistsError, PermissionError))
    return error if known or not isinstance(status, int) else meant(status, str(error))
