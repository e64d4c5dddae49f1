"""Azure Blob Storage over adlfs, which finds account and credentials, and the client that adlfs stands on.

A put sends If-None-Match: *, of an upload in parts with the list that ends it. adlfs itself can neither mark
what it puts nor check what it reads. Blocks of an upload that is not ended are not listed and gone in a week.
Decides: how Azure is asked, and what its errors mean.
"""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from manifests.bucket import PART, Service, Stored
from manifests.replies import UploadGone, meant

MARK = "longtake_put"  # a name in C#, as all names of metadata there
CHECKED = {"validate_content": True}  # a sum goes with all bytes, both ways
# No tries of its own, the first of them after 15 s; reads checked by sums come in pieces of 4 MiB.
SETTINGS: dict[str, Any] = {"retry_total": 0, "connection_timeout": 10, "read_timeout": 60}
COPYING_S = 0.2  # between two looks


@dataclass(frozen=True)
class Azure(Service):
    """Azure Blob Storage; `client` is a BlobServiceClient."""

    client: Any
    bucket_word = "container"
    credentials = "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and _KEY or a login,"
    endpoint = "the account's name, AZURE_STORAGE_CONNECTION_STRING"

    def put(self, path: Path, at: str, mark: str) -> None:
        from azure.core.exceptions import HttpResponseError

        put = self._put_parts if path.stat().st_size > PART else self._put_whole
        try:
            put(path, self._blob(at), mark)
        except HttpResponseError as error:
            if _code(error) == "BlobAlreadyExists":
                raise FileExistsError(f"there is a blob {at}") from error
            if _code(error) == "InvalidBlockList":
                raise UploadGone(f"an upload to {at} has lost its blocks") from error
            raise

    def _put_whole(self, path: Path, blob: Any, mark: str) -> None:
        with path.open("rb") as source:
            blob.upload_blob(source, overwrite=False, metadata={MARK: mark}, **CHECKED)

    def _put_parts(self, path: Path, blob: Any, mark: str) -> None:
        """Blocks are named after the mark: two writers' blocks with the client's own names would mix."""
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        blocks = list[BlobBlock]()
        with path.open("rb") as source:
            while part := source.read(PART):
                name = b64encode(f"{mark}{len(blocks):06}".encode()).decode()
                blob.stage_block(name, part, **CHECKED)
                blocks.append(BlobBlock(name))
        missing = {"match_condition": MatchConditions.IfMissing}
        blob.commit_block_list(blocks, metadata={MARK: mark}, **missing)

    def look(self, at: str) -> Stored:
        return _stored(self._blob(at).get_blob_properties(), at)

    def copy(self, source: str, at: str, kind: str) -> None:
        """The source is told its type first: a copy has its source's, and would at first be of another."""
        old, new = self._blob(source), self._blob(at)
        settings = old.get_blob_properties().content_settings
        if settings.content_type != kind:
            settings.content_type = kind
            old.set_http_headers(settings)
        status = new.start_copy_from_url(old.url)["copy_status"]
        while status == "pending":
            time.sleep(COPYING_S)
            status = new.get_blob_properties().copy.status
        if status != "success":
            raise ConnectionError(f"a copy of {source} to {at} is {status}")

    def read(self, at: str) -> bytes:
        with _while_read(at):
            return bytes(self._blob(at).download_blob(**CHECKED).readall())

    def fetch(self, at: str, path: Path) -> None:
        with path.open("wb") as target, _while_read(at):
            self._blob(at).download_blob(**CHECKED).readinto(target)

    def find(self, folder: str) -> Iterator[Stored]:
        container, _, prefix = f"{folder}/".partition("/")
        listed = self.client.get_container_client(container).list_blobs(prefix, include=["metadata"])
        for blob in listed:
            if "hdi_isfolder" not in (blob.metadata or {}):  # of accounts with folders
                yield _stored(blob, f"{container}/{blob.name}")

    def remove(self, at: str) -> None:
        self._blob(at).delete_blob()

    def _blob(self, at: str) -> Any:
        container, _, key = at.partition("/")
        return self.client.get_blob_client(container, key)

    def translated(self) -> AbstractContextManager[None]:
        return translated()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of Azure's client become OSErrors; replies, what they mean."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
    from requests import RequestException  # which the client lets through where a body breaks off

    try:
        yield
    except HttpResponseError as error:
        if (error.status_code or 0) < 400:  # no reply, or a good one that broke off
            kind = PermissionError if isinstance(error, ClientAuthenticationError) else ConnectionError
            raise kind(_said(error)) from error
        if _code(error) in ("BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"):
            raise PermissionError(_said(error)) from error
        raise meant(int(error.status_code), _said(error)) from error
    except (AzureError, RequestException) as error:  # no reply, or bytes that are not of their sum
        raise ConnectionError(f"{type(error).__name__}: {_said(error)}") from error


def connect(url: str) -> tuple[Azure, str]:
    """The service, and container/prefix. Raises ImportError; ValueError where no account is named."""
    import adlfs  # noqa: F401  # so that it is this that is told to be missing
    from azure.storage.blob import BlobServiceClient

    try:
        fs, root = fsspec.url_to_fs(url)
    except ValueError as error:
        todo = "set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME"
        raise ValueError(f"no account to reach ({error}); {todo}") from error
    found = fs.service_client
    return Azure(BlobServiceClient(found.url, fs.sync_credential or found.credential, **SETTINGS)), str(root)


def _stored(told: Any, at: str) -> Stored:
    return Stored(at, int(told.size), told.last_modified.timestamp(), (told.metadata or {}).get(MARK, ""))


@contextmanager
def _while_read(at: str) -> Iterator[None]:
    """A large blob is read in pieces of one version: another one in their midst is trouble that passes."""
    from azure.core.exceptions import ResourceModifiedError

    try:
        yield
    except ResourceModifiedError as error:
        raise ConnectionError(f"{at} was replaced while it was read") from error


def _code(error: Any) -> str:
    code = getattr(error, "error_code", "")  # of a reply
    return str(getattr(code, "value", code))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
