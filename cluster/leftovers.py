"""What nobody needs any more in a store: the one definition of it, for the audit, the driver and `clean`.

    checkpoint   of a shot that is finished; or of an unfinished one, untouched for very long
    unfinished   what a writer staged or began to upload, and never came back to
    segment      of a ledger, merged into another by a driver that was killed before it took this one away
    artefact     bytes that no marker and no bundle names, and that are shown under no other name

Decides: what is left over. Does not decide: when it is taken away (jobs.clean). A conductor removes the
checkpoints of its shot itself, if it lives to finish it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from cluster.once import marker_key
from manifests.lying import Lying, files, unfinished
from manifests.segments import replaced
from manifests.store import Store, StoreError


@dataclass(frozen=True)
class Leftover:
    """Something that is left over, and why."""

    kind: str
    lying: Lying
    why: str


def finished_checkpoints(store: Store) -> Iterator[str]:
    """Checkpoints of shots that are finished, by key. A damaged marker is told by the film that needs it."""
    known: dict[str, bool] = {}
    for key in store.list_keys("checkpoints"):
        shot = key.split("/")[1]
        if shot not in known:
            known[shot] = is_finished(store, shot)
        if known[shot]:
            yield key


def is_finished(store: Store, shot: str) -> bool:
    """Whether a shot has its marker."""
    with suppress(StoreError):
        return store.read_marker(marker_key("shot", shot)) is not None
    return False


def leftovers(store: Store, older_than_s: float) -> Iterator[Leftover]:
    """All that is left over; what might yet be needed, only if it is so many seconds old. Raises OSError.

    While a job is rendered its artefacts have no marker yet: ask when none is.
    """
    finished = set(finished_checkpoints(store))
    for lying in files(store, "checkpoints"):
        if lying.key in finished:
            yield Leftover("checkpoint", lying, "its shot is finished")
        elif lying.age_s >= older_than_s:
            yield Leftover("checkpoint", lying, "nobody has gone on from it")
    for lying in unfinished(store):
        if lying.age_s >= older_than_s:
            yield Leftover("unfinished", lying, "its writer never came back to it")
    of_jobs = {each.key: each for each in files(store, "jobs")}
    for key in replaced(of_jobs):
        yield Leftover("segment", of_jobs[key], "its events are in a merged one")
    yield from _artefacts(store, older_than_s)


def _artefacts(store: Store, older_than_s: float) -> Iterator[Leftover]:
    """Those that nothing names; looked for first, so that what is named meanwhile is found to be."""
    old = [each for each in files(store, "cas") if each.age_s >= older_than_s and each.names == 1]
    named = set(_named(store)) if old else set()
    for lying in old:
        if lying.key.rsplit("/", 1)[1] not in named:
            yield Leftover("artefact", lying, "no marker names it")


def _named(store: Store) -> Iterator[str]:
    """Hashes that a marker or a bundle names. Raises StoreError where one of those cannot be read."""
    for key in store.list_keys("done"):
        yield from (store.read_marker(key) or {}).get("files", {}).values()
    for key in store.list_keys("jobs"):
        if key.split("/")[2:3] == ["quarantine"]:
            bundle = store.read_marker(key) or {}
            yield from (hash for each in bundle.get("inputs", ()) for hash in each["files"].values())
            yield from bundle.get("adapters", ())
            yield (bundle.get("checkpoint") or {}).get("artefact", "")
