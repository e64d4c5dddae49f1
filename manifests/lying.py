"""What lies in a store, with size and age: for whoever clears up, and nobody else.

Beside files at their keys there are those that writers have not finished: staged ones, on the disk of the
writer, and on S3 uploads in several parts, which no listing shows and which are paid for all the same.
Google and Azure drop theirs after a week.

Decides: what is there, and how it is taken away. Does not decide: what may be (cluster.leftovers).
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.bucket import Bucket, Upload
from manifests.places import Disk
from manifests.store import Store


@dataclass(frozen=True)
class Lying:
    """A file at a key, or an unfinished upload to it; `names` is under how many the same bytes are shown.

    `staged` is where a writer's own file is.
    """

    key: str
    size_bytes: int
    age_s: float
    names: int = 1
    upload: Upload | None = None
    staged: Path | None = None


def files(store: Store, prefix: str) -> Iterator[Lying]:
    """The files in a folder of the store, `cas` too, in no order. Raises OSError."""
    place = store.place
    if isinstance(place, Disk):
        yield from _on_disk(place, prefix)
        return
    now = time.time()
    for each in place.files(prefix):
        yield Lying(place.key_of(each.at), each.size_bytes, now - each.written_s)


def _on_disk(place: Disk, prefix: str) -> Iterator[Lying]:
    now = time.time()
    for at, _, names in os.walk(place.root / prefix):
        for name in names:
            path = Path(at, name)
            try:
                facts = path.stat()
            except FileNotFoundError:  # its owner was quicker
                continue
            key = str(path.relative_to(place.root))
            yield Lying(key, facts.st_size, now - facts.st_mtime, facts.st_nlink)


def unfinished(store: Store) -> Iterator[Lying]:
    """What writers staged or began to upload and have not finished. Raises OSError."""
    now = time.time()
    for path in sorted(store.place.staging.glob("*.tmp")):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        yield Lying(path.name, facts.st_size, now - facts.st_mtime, staged=path)
    place = store.place
    if isinstance(place, Bucket):
        for upload in place.uploads():
            yield Lying(place.key_of(upload.at), 0, now - upload.began_s, upload=upload)


def take_away(store: Store, lying: Lying) -> None:
    """Nothing lies there any more. Raises OSError."""
    place = store.place
    if lying.staged is not None:
        lying.staged.unlink(missing_ok=True)
    elif lying.upload is not None and isinstance(place, Bucket):
        place.abort(lying.upload)
    else:
        place.remove(lying.key)
