"""Disks without room: the store's own, which is everybody's trouble, or one of a node, which is that node's.

Decides: whose disk it is, what is free there and what to do. Does not decide what a task makes of it.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.bucket import Bucket
from manifests.places import Disk, StoreError, shown_size


class StoreFull(StoreError):
    """There is no room left in a store: for any writer, until somebody makes room."""

    code, error_class = "E802_STORE_FULL", "STORE_FULL"


class DiskFull(StoreError):
    """There is no room left on this node's own disk, where things lie before they are stored."""

    code, error_class = "E803_DISK_FULL", "DISK_FULL"


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or what a user may take of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(folder: Path) -> DiskFull:
    """What to say where a folder of this node has no room left."""
    free = shown_size(shutil.disk_usage(folder).free)
    todo = "make room on this node, or have its TMPDIR name a folder on a larger disk"
    return DiskFull(f"the node's disk is full: {free} are free", str(folder), todo)


@contextmanager
def writing(place: Disk | Bucket) -> Iterator[None]:
    """Raises StoreFull where a write to a place finds no room; DiskFull where its staging is elsewhere."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        if not isinstance(place, Disk):
            raise disk_full(place.staging) from error
        free = shown_size(shutil.disk_usage(place.root).free)
        todo = "make room there, and give the same command again; what is done stays done"
        what = f"the store's disk is full ({error.strerror}): {free} are free"
        raise StoreFull(what, str(place.root), todo) from error
