"""Keys of a store: relative paths of plain letters, which mean the same on a disk and in any bucket."""

import re

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=-]*")
_HASH = re.compile(r"[0-9a-f]{64}")


def artefact_key(name: str) -> str:
    """Where the artefact of this hash is. Raises ValueError."""
    if not _HASH.fullmatch(name):
        raise ValueError(f"not a BLAKE2b-256 hex digest: {name!r}")
    return f"cas/{name[:2]}/{name}"


def check_key(key: str) -> None:
    """Raises ValueError unless ``key`` stays inside the tree, away from artefacts and staging."""
    if not is_key(key):
        raise ValueError(f"bad key {key!r}: relative, [A-Za-z0-9._=/-], no '..' or dot first, not cas/")


def is_key(key: str) -> bool:
    """Whether it is one that anything but an artefact may have."""
    parts = key.split("/")
    return ".." not in key and parts[0] != "cas" and all(_SEGMENT.fullmatch(part) for part in parts)
