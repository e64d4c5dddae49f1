"""A job whose configuration leaves the batch open gets it here, before its first film is begun.

The batch may change low bits, and what was measured changes from day to day. So a job that goes on keeps the
batch that it has had with its axes. Decides: which of a job's shots count. Does not decide: which batch pays
(cluster.batch).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.batch import Pool, choose_batch
from cluster.calibration import measured
from cluster.topology import Resources, fit, machine_of
from engine.parallel.axes import ALONE
from jobs.busier import open_shots
from jobs.enrol import settled_of
from jobs.job import Job
from jobs.size import forecast
from jobs.sketch import sketches, work_of
from jobs.terms import setup_of
from manifests.store import Store


def with_batch(job: Job, nodes: Sequence[Resources], store: Store) -> tuple[Job, str]:
    """The job with a batch, and why it is that; no nodes are this process alone.

    Raises TooSmall where the nodes do not hold the job's gangs.
    """
    if kept := _kept(job, store):
        return _set(job, kept), f"{kept} as when the job began"
    cluster, size, models = job.spec.cluster, forecast(job.films, store), sketches(job.stocked)
    work, film = (work_of(loads, models, cluster.stage_gpus > 0) for loads in (size.loads, size.longest))
    if not work:
        return _set(job, 1), "1 window a forward: nothing is left to denoise"
    at_once = open_shots(cluster, size.to_do["films"], sum(work.values()))
    goal = film if cluster.objective == "latency" else None
    batch, reason = choose_batch(work, _pool(job, nodes, store, at_once), measured(store), goal)
    return _set(job, batch), reason


def _kept(job: Job, store: Store) -> int:
    """The batch that the job has had with these axes, 0 where it has had none."""

    def is_so(began: Mapping[str, int]) -> bool:
        axes = ((getattr(job.spec.cluster, name), began[name]) for name in ("cfg", "ring", "ulysses"))
        return all(size in (0, had) for size, had in axes)

    return next((began["batch"] for began in settled_of(store, job.job_id) if is_so(began)), 0)


def _pool(job: Job, nodes: Sequence[Resources], store: Store, open_shots: int) -> Pool:
    """The gangs that the job will have."""
    if not nodes:
        return Pool(None, ALONE, 1, open_shots)
    setup = fit(setup_of(job, store.url), nodes)
    return Pool(machine_of(nodes) if setup.device == "cuda" else None, setup.axes, setup.gangs, open_shots)


def _set(job: Job, batch: int) -> Job:
    cluster = replace(job.spec.cluster, batch=batch)
    return replace(job, spec=replace(job.spec, cluster=cluster))
