"""How a job begins in its store: its record, and what was settled of it when it was claimed.

    jobs/ID/job.json        what was asked: the manifest, its configuration, the versions of what renders it
    jobs/ID/settled/        its gangs' axes and its batch, of which the configuration may leave some open, by
                            the epoch of the driver that chose them

The record is put once, and so is a choice, so that a job that goes on is what it was. There are several of
them only where a job was moved to a cluster that holds no gang of those before. Decides: which jobs are the
same, and what of earlier drivers is swept away. Does not decide: who renders a job (manifests.drivers), or
what is settled (jobs.settle).
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


def keep_settled(store: Store, job: Job, epoch: int) -> None:
    """Record what the job is rendered with, if that is not known of an earlier driver, and nothing is open.

    One process leaves axes open that it has no use for: a cluster that goes on with the job chooses them.
    """
    settled = {name: getattr(job.spec.cluster, name) for name in OPEN}
    if all(settled.values()) and settled not in settled_of(store, job.job_id):
        store.put_marker(f"{_settled(job.job_id)}/{epoch:06}.json", settled)


def settled_of(store: Store, job_id: str) -> list[Mapping[str, int]]:
    """What drivers of the job settled, by OPEN, the first choice first."""
    found = [store.read_marker(key) or {} for key in sorted(store.list_keys(_settled(job_id)))]
    whole = [{name: each[name] for name in OPEN} for each in found if each.keys() >= set(OPEN)]
    return [each for each in whole if all(isinstance(value, int) for value in each.values())]


def _settled(job_id: str) -> str:
    return f"jobs/{job_id}/settled"


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
