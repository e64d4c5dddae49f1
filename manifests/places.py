"""A folder as the place of a store, and the error that tells what is wrong with any place.

Decides how a name comes to exist once on a disk, and how it is replaced whole. Does not decide names, hashes
or contents: that is ``manifests.store``, the only way in; nor what a place must be able to do (probe).
fsspec's own "create" mode on local disk is exists-then-write and lets several writers win, hence ``os.link``.
"""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote


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

    def written_s(self, key: str) -> float:
        """When the file was written by its filesystem's clock, perhaps a server's: seconds since 1970."""
        return (self.root / key).stat().st_mtime

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder != self.root:
            self._sync(folder.parent)


def plain_path(place: str) -> str:
    """The path that a file:// URL names, in which %20 is a space (RFC 8089); any other place as it is."""
    return unquote(place.removeprefix("file://")) if place.startswith("file://") else place


def shown_size(count_bytes: int) -> str:
    """A number of bytes for people."""
    unit, name = (2**30, "GiB") if count_bytes >= 2**30 else (2**20, "MiB")
    return f"{count_bytes / unit:.2f} {name}"
