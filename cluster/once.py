"""A task is done once: whoever puts its marker first has done it, everyone else takes that result.

The artefact is stored first, under its hash; then the marker by put-if-absent. So a marker never names
missing or half-written bytes, and a worker given up for lost can finish late without harm.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.identity import Task
from cluster.outcomes import Outcome
from manifests.store import Store

Made = tuple[Mapping[str, Path], Mapping[str, Any]]  # files by name, and facts


def marker_key(kind: str, key: str) -> str:
    """Where a task's marker lies."""
    return f"done/{kind}/{key[:2]}/{key}.json"


def found(store: Store, kind: str, key: str) -> Outcome | None:
    """A task's outcome if it was done before.

    Raises FileNotFoundError if an artefact of its marker is gone, or of another size than when it was put,
    and Unreadable, a StoreError, if the marker itself is damaged.
    """
    body = store.read_marker(marker_key(kind, key))
    if body is None:
        return None
    try:
        outcome = Outcome(key, kind, dict(body["files"]), body["facts"], body["seconds"], reused=True)
        sizes = {name: int(body["bytes"][name]) for name in outcome.files}
    except (KeyError, TypeError, ValueError) as error:
        raise store.unreadable(marker_key(kind, key), f"{type(error).__name__}: {error}") from error
    for name, hash in outcome.files.items():
        size = store.has_artefact(hash)
        if size != sizes[name]:
            now = "is gone from" if size is None else f"has {size} bytes instead of {sizes[name]} in"
            raise FileNotFoundError(
                f"the {name} of a finished {kind} {now} {store.url}: artefact {hash}; "
                f"restore it, or remove {marker_key(kind, key)} to have it made again"
            )
    return outcome


def found_task(store: Store, kind: str, key: str) -> Outcome:
    """The outcome of a needed task. Raises FileNotFoundError if it was not done."""
    outcome = found(store, kind, key)
    if outcome is None:
        raise FileNotFoundError(f"the {kind} {key} has no marker in {store.url}")
    return outcome


def found_file(store: Store, kind: str, key: str, name: str) -> str:
    """The hash of a file that a needed task left. Raises FileNotFoundError if it was not done."""
    return found_task(store, kind, key).files[name]


def done_once(store: Store, task: Task, make: Callable[[Path], Made]) -> Outcome:
    """The task's outcome, made now if nobody made it; `make` gets an empty folder that goes away after it."""
    before = found(store, task.kind, task.key)
    if before is not None:
        return before
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longtake-") as folder:
        files, facts = make(Path(folder))
        stored = {name: store.put_file(path) for name, path in files.items()}
    seconds = round(time.monotonic() - began, 3)
    return claim(store, task, Outcome(task.key, task.kind, stored, dict(facts), seconds))


def claim(store: Store, task: Task, outcome: Outcome) -> Outcome:
    """Put the marker of a task whose artefacts are stored; if another was first, its outcome counts."""
    attempt = uuid4().hex
    sizes = {name: store.has_artefact(hash) for name, hash in outcome.files.items()}
    body = {**asdict(outcome), "bytes": sizes, "attempt": attempt}
    if store.put_marker(marker_key(task.kind, task.key), body):
        return outcome
    winner = store.read_marker(marker_key(task.kind, task.key))
    if winner is not None and winner.get("attempt") == attempt:
        return outcome  # the first reply was lost, the retry met our own marker
    before = found(store, task.kind, task.key)
    assert before is not None, "a marker that refused ours can be read"
    return before
