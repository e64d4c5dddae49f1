"""What a folder that lies elsewhere holds, before any of it is fetched: names, sizes, hashes. Pure.

Decides: what tells a file from another of its name, and that no name leads out of the folder. Does not decide
which files are wanted (whoever mirrors them), or how a listing is had (manifests.origins).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

SUMS = "SHA256SUMS"  # of a folder: what `sha256sum` prints for its files
_SUM = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


@dataclass(frozen=True)
class File:
    """A file's bytes, its SHA-256 where its store or a SHA256SUMS tells it, and a tag that changes with it.

    A tag is a store's own, such as an ETag: it is compared with itself only.
    """

    size: int
    sha256: str = ""
    tag: str = ""


Listing = Mapping[str, File]  # by path inside the folder


def key_of(place: str, files: Listing) -> str:
    """A name for these files at this place, as far as a listing tells them from others."""
    told = [place, [[name, one.size, one.sha256, one.tag] for name, one in sorted(files.items())]]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def refuse_outside(place: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that leads out of the folder, or would where it is copied to."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or any(char in name for char in "\\\0\n"):
            raise ValueError(f"{place} holds {name!r}, which leads out of the folder")


def with_sums(place: str, files: Listing, text: str) -> dict[str, File]:
    """The files, with the SHA-256 that a SHA256SUMS tells of them. Raises ValueError for a line of no sum."""
    told = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _SUM.fullmatch(line)
        if line.strip() and not found:
            raise ValueError(f"{place}/{SUMS}, line {number}: {line[:80]!r} is not what `sha256sum` prints")
        if found:
            told[found[2]] = found[1].lower()
    return {name: replace(one, sha256=told.get(name, one.sha256)) for name, one in files.items()}
