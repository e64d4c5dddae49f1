"""Where films go: the store that a command names, opened so that its troubles are messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.outcome import UNREACHABLE
from jobs.refusal import Refused

if TYPE_CHECKING:
    from manifests.store import Store


def opened(url: str) -> "Store":
    """The store at a path or URL; nothing is written. Raises Refused for a URL that names no store.

    A person waits: what cannot be reached is told soon.
    """
    from manifests.patience import BRIEF_S
    from manifests.store import open_store

    try:
        return open_store(url, BRIEF_S)
    except ValueError as error:
        raise Refused(f"--out: {error}") from error


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Trouble on the way to a store is told as that: exit 9, not an error in the tool."""
    try:
        yield
    except OSError as error:
        raise Refused(f"cannot read {url}: {error}", UNREACHABLE) from error
