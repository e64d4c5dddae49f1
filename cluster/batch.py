"""How many windows of a step share a forward, whether that pays, and why. Pure.

A forward of small windows does not fill a GPU: its blocks last as long as their kernels take to start, so
that several in one take hardly longer than one alone. Large windows fill it, and gain nothing. And windows
that share a forward are not shared out over gangs, which may then be idle.
Decides: the batch of all shots of a job. Does not decide: which windows of a step it is (phases.Course).
"""

from collections import Counter
from dataclasses import dataclass, replace

from cluster.choose import NEAR
from cluster.cost import Measured, Shape, Step, estimate, measured_s
from cluster.machine import Machine
from cluster.strand import Strand, Work, span
from engine.parallel.axes import Axes
from engine.phases import Course

CPU = "cpu"  # what ranks call their device there
MOST = 8  # windows that may share a forward
CLEARLY = 0.9  # of a job's time: what saves less is not worth other low bits


@dataclass(frozen=True)
class Pool:
    """So many gangs of these axes, and how many shots are under way for them; machine is None on CPUs."""

    machine: Machine | None
    axes: Axes
    gangs: int
    open_shots: int


def choose_batch(work: Work, pool: Pool, measured: Measured, film: Work | None = None) -> tuple[int, str]:
    """The batch under which the job ends first, if clearly, else 1; and why, in one line.

    With `film`, the part of the work that one film is, that under which this ends first.
    """
    goal, what = (work, "the job") if film is None else (film, "the longest film")
    times = {n: _goal_s(work, goal, pool, measured, n) for n in range(1, MOST + 1)}
    alone, others = times[1], {n: seconds for n, seconds in times.items() if n > 1 and seconds is not None}
    if not alone or not others:
        return 1, "1 window a forward: how long several take was not measured, or they do not fit"
    least = min(others.values())
    if least > CLEARLY * alone:
        return 1, f"1 window a forward: with more of them {what} takes {least / alone:.2f} times as long"
    best = min(n for n, seconds in others.items() if seconds <= least * NEAR)
    return best, f"{best} windows a forward: {what} takes {others[best] / alone:.2f} of the time"


def _goal_s(work: Work, goal: Work, pool: Pool, measured: Measured, batch: int) -> float | None:
    """Seconds of the part that counts; None where they are not known, or a GPU does not hold all forwards."""
    steps: dict[Shape, Step] = {}
    for strand in work:
        for shape in dict.fromkeys(shape for shape, *_ in strand.runs):
            seconds = _forward_s(strand, shape, pool, measured, batch)
            if seconds is None:
                return None
            steps[shape] = Step(seconds)
    return span(_in_parts(goal, batch), steps, pool.gangs, pool.open_shots)


def _forward_s(strand: Strand, shape: Shape, pool: Pool, measured: Measured, batch: int) -> float | None:
    """Seconds of a forward of so many windows of a strand's, against what the same source says of one."""
    device = pool.machine.gpu if pool.machine else CPU
    one, known = (measured_s(shape, pool.axes, device, measured, n) for n in (1, batch))
    if one is not None and known is not None:
        return known
    if pool.machine is None or strand.memory(pool.axes, batch).gib > pool.machine.memory_gib:
        return None
    by_one, by_all = (estimate(shape, pool.axes, pool.machine, n).seconds for n in (1, batch))
    return (by_one if one is None else one) * by_all / by_one


def _in_parts(work: Work, batch: int) -> Work:
    """The work with parts of a step in place of its windows; a last one counts as if it were no smaller."""
    parts: Counter[Strand] = Counter()
    for strand, n in work.items():
        legs = tuple((steps, -(-windows // batch)) for steps, windows in strand.course.legs)
        parts[replace(strand, course=Course(legs))] += n
    return parts
