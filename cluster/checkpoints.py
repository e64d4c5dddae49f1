"""Checkpoints of shots under way, each named by the steps behind it and by the sum of its bytes.

    checkpoints/TASK/STEPS-BLAKE2B.safetensors      put once, whole or not at all; BLAKE2b-256 in hex

A shot's earlier checkpoints stay until it is finished: where the last does not hold, another may.

Decides: which checkpoint a shot goes on from. Does not decide: when one is left, with what (conductor).
"""

import hashlib
import re

from cluster.logs import LOG
from manifests.store import Store

_READS = 3  # before bytes that came over a network count as damaged where they lie
_NAME = re.compile(r"/(\d{6,})-([0-9a-f]{64})\.safetensors$")


def save(store: Store, task: str, steps: int, data: bytes) -> None:
    """Leave a checkpoint; put-if-absent, since whoever saves these bytes gives them this name."""
    store.put_new(f"checkpoints/{task}/{steps:06}-{_sum(data)}.safetensors", data)


def last(store: Store, task: str) -> tuple[str, bytes] | None:
    """The name and bytes of the last checkpoint that holds; later ones are told in the log and discarded."""
    for key in reversed(store.list_keys(f"checkpoints/{task}")):
        data = _read(store, key)
        if data is not None and _holds(key, data):
            return key, data
        if data is not None:
            what = "%s is damaged, %d bytes of another sum: it is discarded, and its shot goes on from %s"
            LOG.warning(what, key, len(data), "an earlier one or begins anew", extra={"task": task[:8]})
            store.remove(key)
    return None


def clear(store: Store, task: str) -> None:
    """A finished shot needs none."""
    for key in store.list_keys(f"checkpoints/{task}"):
        store.remove(key)


def steps_of(key: str) -> int | None:
    """How many steps lie behind a checkpoint of this name; None for a name that tells no sum."""
    found = _NAME.search(key)
    return int(found[1]) if found else None


def _read(store: Store, key: str) -> bytes | None:
    """The bytes there, read again where they do not hold; None if somebody has cleared them away."""
    for _ in range(_READS - 1):
        data = store.read(key)
        if data is None or _holds(key, data):
            return data
    return store.read(key)


def _holds(key: str, data: bytes) -> bool:
    found = _NAME.search(key)
    return found is not None and found[2] == _sum(data)


def _sum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()
