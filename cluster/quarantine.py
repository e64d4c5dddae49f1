"""What is kept of a shot that was given up, so that its last step can be tried again alone, by anyone.

A bundle is JSON: the shot's task, what it failed with and where, the artefacts that it read, its last
checkpoint, the libraries. With the artefacts it is all that a step depends on (reproduce).

Decides: which failures leave a bundle, and what is in it. Does not decide: when a shot is given up (trouble).
"""

from collections.abc import Mapping
from typing import Any

from cluster import checkpoints
from cluster.once import found
from cluster.outcomes import Failure
from cluster.plain import to_plain
from cluster.shots import ShotTask
from manifests.store import Store, StoreError

VERSION = "quarantine/1.0"
CLASSES = ("POISON", "GPU_FAULT", "TIMEOUT", "BUG")
CODES = ("E621_NOT_FINITE",)


def deserves(failure: Failure) -> bool:
    """Whether a failure may come again from the same inputs, and nobody knows why."""
    return failure.error_class in CLASSES or failure.code in CODES


def folder(job_id: str, row_id: str, shot_id: str) -> str:
    """Where a shot's bundles lie."""
    return f"jobs/{job_id}/quarantine/{row_id}/{shot_id}"


def bundle(
    store: Store, job_id: str, row_id: str, task: ShotTask, failure: Failure, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """All that it takes to try the step again; `facts` are of the job. Raises OSError.

    The last checkpoint becomes an artefact of its own, which no later step of the shot replaces.
    """
    scene = failure.scene
    error = {"code": failure.code, "error_class": failure.error_class, "message": failure.message}
    return {
        "schema": VERSION,
        "job_id": job_id,
        "row_id": row_id,
        "shot_id": task.shot.shot_id,
        "seed": task.shot.seed,
        "key": task.key,
        "error": error,
        "at": to_plain(scene) if scene else {},
        "inputs": [_input(store, source.kind, source.key) for source in task.sources],
        "adapters": [adapter.artefact for adapter in task.adapters],
        "checkpoint": _checkpoint(store, task),
        "task": to_plain(task),
        **facts,
    }


def _input(store: Store, kind: str, key: str) -> dict[str, Any]:
    """An artefact that the shot reads: of a text's embedding, or of what it was given."""
    try:
        outcome = found(store, kind, key)
    except (FileNotFoundError, StoreError):
        outcome = None
    return {"kind": kind, "key": key, "files": dict(outcome.files) if outcome else {}}


def _checkpoint(store: Store, task: ShotTask) -> dict[str, Any] | None:
    """The shot's last checkpoint that holds: its name, which tells the step, and its bytes as an artefact."""
    saved = checkpoints.last(store, task.key)
    return {"key": saved[0], "artefact": store.put_artefact(saved[1])} if saved else None
