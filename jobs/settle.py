"""What a job's configuration leaves open, settled when it is claimed, for the cluster that it will run on.

Decides: who is asked, and what is said of the answer. Does not decide: which axes or which batch pay
(jobs.axes, jobs.batch).
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from cluster.logs import LOG
from jobs.places import opened

if TYPE_CHECKING:
    from cluster.shortage import Place
    from cluster.trials import Overseer
    from jobs.job import Job
    from jobs.spec import JobSpec


def refuse_gangs(spec: "JobSpec") -> None:
    """One process is one rank."""
    from jobs.refusal import SpecError

    asked = {name: getattr(spec.cluster, name) for name in ("cfg", "ring", "ulysses")}
    several = [f"cluster.{name}={size}" for name, size in asked.items() if size > 1]
    several += [f"profiles.{name}.model.zero=true" for name, one in spec.profiles.items() if one.model.zero]
    if several:
        raise SpecError(f"{', '.join(several)}: --local is a single process, and no gang: leave out either")


def settled_here(job: "Job", overseer: "Overseer", out: str) -> "tuple[Job, Place | None]":
    """The job for this process, and where it computes."""
    from cluster.shortage import place_on
    from engine.numerics import default_device

    device = job.spec.cluster.device
    place = place_on(default_device() if device == "auto" else device)
    return with_open_batch(job, out, local=True), place


def settled_on_ray(job: "Job", overseer: "Overseer", out: str) -> "tuple[Job, Place | None]":
    """The job for a Ray cluster, whose gangs may be tried first, and where its ranks compute."""
    job = with_open_axes(job, out, overseer)
    return with_open_batch(job, out, local=False), place_on_ray(job)


def place_on_ray(job: "Job") -> "Place | None":
    """Where the job's ranks compute on the cluster, as far as Ray tells; what finds no room, hiring tells."""
    from cluster.nodes import living_nodes
    from cluster.topology import TooSmall, fit, place_of
    from jobs.terms import setup_of

    nodes = living_nodes()
    with suppress(TooSmall):
        return place_of(fit(setup_of(job, ""), nodes), nodes)
    return None


def with_open_axes(job: "Job", out: str, overseer: "Overseer") -> "Job":
    """The job with the axes of its gangs, chosen for the cluster where its configuration leaves them open."""
    if all((job.spec.cluster.cfg, job.spec.cluster.ring, job.spec.cluster.ulysses)):
        return job
    from cluster.nodes import living_nodes
    from cluster.rehearsal import Rehearsal
    from cluster.topology import machine_of
    from jobs.axes import with_axes
    from jobs.terms import setup_of

    store = opened(out)
    rehearse = Rehearsal(setup_of(job, store.url), overseer) if job.spec.cluster.calibrate else None
    job, reason = with_axes(job, machine_of(living_nodes()), store, rehearse)
    _remark("gangs", reason, job)
    return job


def with_open_batch(job: "Job", out: str, local: bool) -> "Job":
    """The job with its batch, chosen for its gangs where its configuration leaves it open."""
    if job.spec.cluster.batch:
        return job
    from jobs.batch import with_batch

    nodes: list[dict[str, float]] = []
    if not local:
        from cluster.nodes import living_nodes

        nodes = living_nodes()
    job, reason = with_batch(job, nodes, opened(out))
    _remark("batch", reason, job)
    return job


def _remark(what: str, reason: str, job: "Job") -> None:
    """Say what was chosen for the job, and why."""
    if job.spec.log == "json":
        LOG.info("%s: %s", what, reason)
    else:
        print(f"{what}  {reason}")
