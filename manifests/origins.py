"""Where a folder may lie: on this disk, in a store, or on the Hugging Face hub; read as files and ranges.

Decides: how it is listed and fetched, and what trouble on the way means to a person. Does not decide which
files are fetched, whether they came whole or where to (manifests.outline, manifests.mirror).
"""

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.utils import get_protocol

from manifests.full import is_full
from manifests.listing import SUMS, File, refuse_outside, with_sums
from manifests.opening import translated
from manifests.places import StoreError, plain_path

_HUB_ID = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
_AT_ACCOUNT = re.compile(r"(abfss?|az)://[a-z0-9-]+@")  # Azure's container@account.host
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "created", "LastModified", "last_modified")
_BLOCK = 8 << 20  # of a file that is read through


class Offline(StoreError):
    """The hub is not asked, because the environment says so."""


@dataclass(frozen=True)
class InStore:
    """A folder at a URL that fsspec reads: s3://, gs://, az://, file://…"""

    url: str

    @cached_property
    def _at(self) -> tuple[Any, str]:
        """The filesystem, and the folder's path in it. Raises ValueError for a URL that cannot be read."""
        if "@" in self.url.partition("://")[2].partition("/")[0] and not _AT_ACCOUNT.match(self.url):
            raise ValueError("a URL with credentials in it is refused: give them by the environment")
        try:
            fs, root = fsspec.url_to_fs(plain_path(self.url))
        except (ImportError, ValueError) as error:
            raise ValueError(f"{self.url} cannot be read here: {error}") from error
        return fs, str(root).rstrip("/")

    def look(self) -> tuple["InStore", dict[str, File]]:
        """This place, and its files. Raises FileNotFoundError, ValueError or StoreError."""
        fs, root = self._at
        with self._reached():
            fs.invalidate_cache()
            infos = fs.find(root, detail=True)
            inside = {path[len(root) :].lstrip("/"): info for path, info in infos.items()}
            files = {name: _file(info) for name, info in inside.items() if name}
            if not files:
                raise FileNotFoundError
            refuse_outside(self.url, files)
            if SUMS in files:
                text = fs.cat_file(f"{root}/{SUMS}").decode("utf-8", "replace")
                files = with_sums(self.url, files, text)
        return self, files

    def start(self, name: str, n_bytes: int) -> bytes:
        """The first bytes of a file, which may be shorter."""
        fs, root = self._at
        with self._reached():
            data: bytes = fs.cat_file(f"{root}/{name}", start=0, end=n_bytes)
        return data

    def fetch(self, names: Sequence[str], folder: Path) -> None:
        """The files are in `folder`, each under its name only once it is there; other names may be too."""
        fs, root = self._at
        at_once = {"chunksize": _BLOCK, "max_concurrency": 4} if self._is_s3 else {}
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            with self._reached():
                fs.get_file(f"{root}/{name}", str(part), **at_once)
            os.replace(part, path)

    def sha256(self, name: str) -> str:
        """A file's hash, for which all of it is read, and nothing kept."""
        fs, root = self._at
        with self._reached(), fs.open(f"{root}/{name}", "rb", block_size=_BLOCK) as file:
            return _sha256(file)

    @property
    def _is_s3(self) -> bool:
        return get_protocol(self.url) in ("s3", "s3a")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Trouble on the way is told as that; a full disk here stays an OSError."""
        try:
            with translated(get_protocol(self.url)):
                yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is nothing at {self.url}") from error
        except OSError as error:
            raise _explained(self.url, error) from error


@dataclass(frozen=True)
class OnHub:
    """A repository of models on the Hugging Face hub, at a branch, a tag or a commit."""

    repo: str
    revision: str

    @property
    def url(self) -> str:
        """Its name, as it is given and recorded."""
        return f"{self.repo}@{self.revision}"

    def look(self) -> tuple["OnHub", dict[str, File]]:
        """The repository at the commit that its revision is now, and its files, most with their SHA-256."""
        from huggingface_hub import HfApi

        with self._reached():
            info = HfApi().model_info(self.repo, revision=self.revision, files_metadata=True)
        files = {
            one.rfilename: File(one.size or 0, one.lfs.sha256 if one.lfs else "", one.blob_id or "")
            for one in info.siblings or ()
        }
        refuse_outside(self.url, files)
        return replace(self, revision=str(info.sha)), files

    def start(self, name: str, n_bytes: int) -> bytes:
        """The first bytes of a file, which may be shorter."""
        with self._reached(), self._open(name) as file:
            data: bytes = file.read(n_bytes)
        return data

    def fetch(self, names: Sequence[str], folder: Path) -> None:
        """As `InStore.fetch`; what was fetched before it was cut off goes on."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        wanted = [glob.escape(name) for name in names]
        with self._reached():
            snapshot_download(self.repo, revision=self.revision, local_dir=folder, allow_patterns=wanted)
        shutil.rmtree(folder / ".cache", ignore_errors=True)

    def sha256(self, name: str) -> str:
        """As `InStore.sha256`."""
        with self._reached(), self._open(name) as file:
            return _sha256(file)

    def _open(self, name: str) -> Any:
        from huggingface_hub import HfFileSystem

        return HfFileSystem().open(f"{self.url}/{name}", "rb", cache_type="none")  # what is read, no more

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What the hub answers, as what it means."""
        from huggingface_hub import constants, errors

        try:
            yield
        except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise _unknown(self.url, error) from error
        except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # its client's, not exported
            if constants.is_offline_mode():
                todo = "unset it, plan once with the hub in reach, or give a folder on this disk"
                raise Offline("HF_HUB_OFFLINE is set, and no copy is here", self.url, todo) from error
            trouble = error if isinstance(error, OSError) else ConnectionError(str(error))
            raise _explained(self.url, trouble) from error


Origin = InStore | OnHub


def origin_of(place: str) -> Path | Origin:
    """A folder by how it is named: a URL, a path, or a hub id (`org/name`, `org/name@revision`).

    A folder that is there goes before a repository of the same name; hf:// says that the hub is meant.
    """
    if "://" in place and not place.startswith("hf://"):
        return InStore(place)
    path, named = Path(place).expanduser(), _HUB_ID.fullmatch(place)
    if named is None or path.is_dir() or place.startswith((".", "~")):
        return path
    return OnHub(named[1], named[2] or "main")


def _sha256(file: BinaryIO) -> str:
    """The hash of what is left of a file, of which one block at a time is in memory."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _file(info: dict[str, Any]) -> File:
    """A file as its store lists it."""
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    return File(int(info["size"]), tag=tag.strip('"'))


def _explained(url: str, error: OSError) -> OSError | StoreError:
    """Trouble on the way to a store, and what to do about it; a full disk is one of this node, and stays."""
    if is_full(error):
        return error
    said = " ".join(str(error).split())[:300]
    if isinstance(error, PermissionError):
        return StoreError(f"access is refused: {said}", url, "check its credentials: get and list are needed")
    if isinstance(error, (ConnectionError, TimeoutError)):
        return StoreError(f"it cannot be reached: {said}", url, "check the network and its endpoint")
    return StoreError(f"it cannot be read: {said}", url, "check the place and its service")


def _unknown(url: str, error: OSError) -> Exception:
    """A repository that is not there, or not for us."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return StoreError("it is gated", url, "accept its licence on its page, and set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"the hub has no such revision: {url}")
    return FileNotFoundError(
        f"neither is {url.partition('@')[0]} a folder here, nor has the hub a model of this name for us; "
        "give a folder's path, or set HF_TOKEN"
    )
