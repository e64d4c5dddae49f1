"""Where a profile's model lies, and what of it planning reads: the folder itself, or an outline of it.

Decides: when a remote folder's weights are read through to know their identity. Does not decide what is said
of a model (engine.families.facts), or how it comes to a node (cluster.copies).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from engine.families.files import chosen, folder_digest, identity
from manifests.listing import SUMS
from manifests.origins import origin_of
from manifests.outline import Outline, cache_folder, outline, read_through
from manifests.places import shown_size

CHALK = Path(__file__).parent.parent / "engine" / "chalk" / "weights"


@dataclass(frozen=True)
class Found:
    """A model's folder: how every node is told it, what planning reads, which model it is.

    `outline` is None for a folder on this disk; `listing` is the key of an outline, "" without one.
    """

    name: str
    digest: str = ""
    outline: Path | None = None
    listing: str = ""

    @property
    def folder(self) -> Path:
        """What planning reads."""
        return self.outline or Path(self.name)

    def told(self, error: Exception) -> str:
        """An error about the folder, in words that name where it lies and not its outline."""
        return str(error).replace(str(self.outline), self.name) if self.outline else str(error)


def find_folder(folder: str, cache: str = "auto", *, digest: bool = False, exact: bool = True) -> Found:
    """The folder that a profile names; with its digest, for which a folder on this disk is read whole.

    The digest of weights that lie elsewhere, and whose hashes nobody tells, takes reading them whole too. Who
    needs no task's key may do without: if not `exact`, it then tells these files from others, but is not
    theirs. Raises OSError, ValueError, or StoreError for a place that cannot be reached.
    """
    origin = origin_of(folder)
    if folder == "chalk" or isinstance(origin, Path):
        path = CHALK if folder == "chalk" else Path(folder).expanduser().resolve()
        return Found(str(path), folder_digest(path) if digest else "")
    found = outline(origin, cache_folder(cache), chosen)
    if digest and exact and found.unread:
        found = _read(found)
    known = found.key if found.unread else identity({n: (f.size, f.sha256) for n, f in found.files.items()})
    return Found(found.origin.url, known if digest else "", found.folder, found.key)


def _read(found: Outline) -> Outline:
    """The outline with all hashes; whoever waits for it is told for what."""
    size = shown_size(sum(file.size for file in found.unread.values()))
    print(
        f"reading {size} of weights at {found.origin.url} once, to know which they are; "
        f"a {SUMS} file beside model_index.json saves this",
        file=sys.stderr,
    )
    return read_through(found)
