"""A job whose configuration leaves axes open gets them here, before its first film is begun.

A gang's axes may change low bits, and what was measured changes from day to day. So a job that goes on keeps
the axes that it chose first, as long as a node holds such a gang, else those that it chose where none did.
Who needs the same bits of two jobs sets all.
Decides: which of a job's shots count, and which is tried. Does not decide: which axes pay (cluster.choose),
or which gangs are worth a trial (cluster.trials).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from cluster.calibration import keep, measured
from cluster.choose import Asked, Choice, NoFit, choose, placeable, smallest
from cluster.cost import Shape
from cluster.loop import known
from cluster.machine import Machine
from cluster.sharing import ranks_of
from cluster.shots import ShotTask
from cluster.sketch import load_of, shape_of
from cluster.strand import Work
from cluster.tasks import FilmTasks
from cluster.trials import Trial, trials
from engine.parallel.axes import Axes
from jobs.adapters import with_adapters
from jobs.assets import with_assets
from jobs.busier import open_shots
from jobs.enrol import settled_of
from jobs.job import Job
from jobs.size import forecast
from jobs.sketch import sketches, work_of
from manifests.store import Store

Rehearse = Callable[
    [Sequence[Trial], ShotTask], Mapping[str, Any]
]  # what gangs took for a shot's first window


def with_axes(
    job: Job, machine: Machine | None, store: Store, rehearse: Rehearse | None = None
) -> tuple[Job, str]:
    """The job with no axis left open, and why they are as they are; None is a cluster without GPUs.

    `rehearse` tries gangs where that pays; None has none tried. Raises NoFit where no gang holds the job's
    windows, or none is what all of them are for.
    """
    if machine is None and not any(one.model.zero for one in job.stocked.values()):
        return _set(job, 1, 1, 1), "of one rank each: there are no GPUs"
    cluster, size, models = job.spec.cluster, forecast(job.films, store), sketches(job.stocked)
    work, film = (work_of(loads, models, cluster.stage_gpus > 0) for loads in (size.loads, size.longest))
    if not work:
        return _set(job, 1, 1, 1), "of one rank each: nothing is left to denoise"
    shapes = [strand.shape for strand in work]
    asked = Asked(cluster.cfg, cluster.ring, cluster.ulysses, ranks_of(shapes))
    if machine is None:
        return _settled(job, smallest(shapes, asked), "of the fewest ranks that will do: there are no GPUs")
    at_once = open_shots(cluster, size.to_do["films"], sum(work.values()))
    work = placeable(work, machine, asked) or work  # films that no gang holds fail alone, when they come up
    film = {strand: n for strand, n in film.items() if strand in work} or work
    choice = partial(
        choose,
        work,
        film,
        machine,
        open_shots=at_once,
        objective=cluster.objective,
        decoders=cluster.decoders,
    )
    for begun in _recorded(job, store, asked.ranks):
        with suppress(NoFit):  # on another cluster
            again = choice(asked=begun, measured=measured(store))
            return _settled(job, again.best.axes, "as when the job began")
    first = choice(asked=asked, measured=measured(store))
    told = _tried(job, first, work, store, rehearse) if rehearse else ""
    best = choice(asked=asked, measured=measured(store)) if told else first
    return _settled(job, best.best.axes, best.reason + told)


def _tried(job: Job, choice: Choice, work: Work, store: Store, rehearse: Rehearse) -> str:
    """Have the gangs tried that are worth it, and keep what they took; what is said of that."""
    asked = trials(choice, work)
    shot = sample(job, asked[0].shape, store) if asked else None
    if shot is None:
        return ""
    table = rehearse(asked, shot)
    keep(store, table)
    return f"; of {len(asked)} gangs that were tried, {len(table)} told their time"


def sample(job: Job, shape: Shape, store: Store) -> ShotTask | None:
    """A shot of the job that is to be rendered in windows of this shape, with its files in the store."""
    models = sketches(job.stocked)
    for film in job.films:
        left = film.unfinished(known(store, film)).values()
        for task in left:
            if isinstance(task, ShotTask) and shape_of(load_of(task), models[task.model]) == shape:
                return _with_files(film, task, store)
    return None


def _with_files(film: FilmTasks, task: ShotTask, store: Store) -> ShotTask:
    for _ in with_adapters(with_assets([film], store), store):
        pass
    return task


def _recorded(job: Job, store: Store, ranks: range) -> list[Asked]:
    """The axes that this job had on each cluster, the first ones first; none if it has not begun."""
    sizes = (
        [getattr(job.spec.cluster, name) or began[name] for name in ("cfg", "ring", "ulysses")]
        for began in settled_of(store, job.job_id)
    )
    return [Asked(cfg, ring, ulysses, ranks) for cfg, ring, ulysses in sizes if min(cfg, ring, ulysses) > 0]


def _settled(job: Job, axes: Axes, reason: str) -> tuple[Job, str]:
    return _set(job, axes.cfg, axes.ring, axes.ulysses), reason


def _set(job: Job, cfg: int, ring: int, ulysses: int) -> Job:
    """The job with these where its configuration says 0."""
    cluster = job.spec.cluster
    settled = replace(
        cluster, cfg=cluster.cfg or cfg, ring=cluster.ring or ring, ulysses=cluster.ulysses or ulysses
    )
    return replace(job, spec=replace(job.spec, cluster=settled))
