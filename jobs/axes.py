"""A job whose configuration leaves axes open gets them here, before it begins.

A gang's axes may change low bits: a job that goes on with other axes keeps what is done, and
draws the rest with other low bits. Who needs the same ones sets all three axes.
Decides: which of a job's shots count. Does not decide: which axes pay (cluster.choose).
"""

from dataclasses import replace

from cluster.calibration import measured
from cluster.choose import Asked, choose, placeable
from cluster.machine import Machine
from jobs.explain import open_shots
from jobs.preview import forecast
from jobs.run import Job
from jobs.sketch import sketches, work_of
from manifests.store import Store


def with_axes(job: Job, machine: Machine | None, store: Store) -> tuple[Job, str]:
    """The job with no axis left open, and why they are as they are; None is a cluster without GPUs.

    Raises NoFit where no gang holds the job's windows.
    """
    if machine is None:
        return _set(job, 1, 1, 1), "of one rank each: there are no GPUs"
    cluster, size, models = job.spec.cluster, forecast(job.films, store), sketches(job.stocked)
    work, film = work_of(size.loads, models), work_of(size.longest, models)
    if not work:
        return _set(job, 1, 1, 1), "of one rank each: nothing is left to denoise"
    asked = Asked(cluster.cfg, cluster.ring, cluster.ulysses)
    at_once = open_shots(cluster, size.to_do["films"], sum(work.values()))
    work = placeable(work, machine, asked) or work  # films that no gang holds fail alone, when they come up
    film = {strand: n for strand, n in film.items() if strand in work}
    choice = choose(work, film, machine, open_shots=at_once, asked=asked, measured=measured(store))
    axes = choice.best.axes
    return _set(job, axes.cfg, axes.ring, axes.ulysses), choice.reason


def _set(job: Job, cfg: int, ring: int, ulysses: int) -> Job:
    """The job with these where its configuration says 0."""
    cluster = job.spec.cluster
    settled = replace(
        cluster, cfg=cluster.cfg or cfg, ring=cluster.ring or ring, ulysses=cluster.ulysses or ulysses
    )
    return replace(job, spec=replace(job.spec, cluster=settled))
