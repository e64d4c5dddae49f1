"""How a job begins in its store: its record, and what was settled of it when it was claimed.

    jobs/ID/job.json        what was asked: the manifest, its configuration, the versions of what renders it
    jobs/ID/settled.json    its gangs' axes and its batch, of which the configuration may leave some open

Both are put once, so that a job that goes on is what it was. Decides: which jobs are the same, and what of
earlier drivers is swept away. Does not decide: who renders a job (manifests.drivers), or what is settled
(jobs.settle).
"""

from collections.abc import Mapping
from typing import Any

from cluster.leftovers import finished_checkpoints
from engine.versions import versions
from jobs.job import Job
from jobs.refusal import Refused
from jobs.spec import as_plain
from manifests.store import Store

STALE_S = 86_400  # age at which a staged file is a dead writer's
OPEN = ("cfg", "ring", "ulysses", "batch")  # settings that are 0 where they are left open


def enrol(store: Store, job: Job) -> None:
    """Record the job under its id. Raises Refused if the id is of another manifest's job."""
    key, record = f"jobs/{job.job_id}/job.json", _record(job)
    if store.put_marker(key, record):
        return
    other = store.read_marker(key) or {}
    if other.get("manifest_digest") != record["manifest_digest"]:
        raise Refused(
            f"job {job.job_id} in {store.url} is of another manifest, {other.get('manifest')}, or of an "
            f"older state of it: give another --job-id, or none"
        )


def sweep(store: Store) -> None:
    """Remove what killed drivers left: staged files, and checkpoints of shots that are finished."""
    store.sweep_staging(STALE_S)
    for key in finished_checkpoints(store):
        store.remove(key)


def keep_settled(store: Store, job: Job) -> None:
    """Record what the job is rendered with, if that is not known of an earlier driver, and nothing is open.

    One process leaves axes open that it has no use for: a cluster that goes on with the job chooses them.
    """
    settled = {name: getattr(job.spec.cluster, name) for name in OPEN}
    if all(settled.values()):
        store.put_marker(_settled_key(job.job_id), settled)


def settled_of(store: Store, job_id: str) -> Mapping[str, int]:
    """What an earlier driver of the job settled, by OPEN; 0 of what none did."""
    found = store.read_marker(_settled_key(job_id)) or {}
    return {name: value if isinstance(value := found.get(name), int) else 0 for name in OPEN}


def _settled_key(job_id: str) -> str:
    return f"jobs/{job_id}/settled.json"


def _record(job: Job) -> dict[str, Any]:
    """What the job is, for `status` and for whoever asks next year how a film was made."""
    return {
        "job_id": job.job_id,
        "manifest": job.manifest.source,
        "manifest_digest": job.manifest.digest,
        "films": job.n_films,
        "versions": versions(),
        "spec": as_plain(job.spec),
    }
