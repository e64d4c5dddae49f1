"""Which axes a job's gangs should have on a farm, how long the job will take with them, and why. Pure.

Every legal gang is a candidate, one model a GPU among them.
Decides: cfg, ring and ulysses of all gangs. Does not decide: how long shots take at least (strand), or how
many films are under way (dispatch.Limits).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.cost import Measured, Memory, Shape, Step, off_by, window_step
from cluster.decoding import beside_rank
from cluster.machine import Machine
from cluster.sharing import MANY, gangs_of, named, ranks_of
from cluster.shortage import Place, shortage
from cluster.strand import Strand, Work, shown_s
from engine.memory import Free
from engine.parallel.axes import Axes

OBJECTIVES = ("throughput", "latency")  # films an hour, or how soon the longest film is there
NEAR = 1.05  # times that differ by less are one time to this model, and the smaller gang is taken


@dataclass(frozen=True)
class Asked:
    """The axes that were set, 0 where the choice is free, and the ranks that all of a job's windows allow."""

    cfg: int = 0
    ring: int = 0
    ulysses: int = 0
    ranks: range = range(1, MANY)

    def allows(self, axes: Axes) -> bool:
        """Whether a gang is as asked."""
        wanted = zip((self.cfg, self.ring, self.ulysses), (axes.cfg, axes.ring, axes.ulysses), strict=True)
        return axes.ranks in self.ranks and all(want in (0, have) for want, have in wanted)


@dataclass(frozen=True)
class Forecast:
    """What a job takes with gangs of these axes.

    seconds are those of all windows and pixels on the farm, film_s those of the longest film alone; gpu_s
    counts the GPUs that are at work, decoding_s of them for pixels, idle is the share of all `gpus` that are
    not.
    """

    axes: Axes
    gangs: int
    gpus: int
    steps: Mapping[Shape, Step]
    memory: Memory
    gpu_s: float
    seconds: float
    film_s: float
    decoding_s: float

    @property
    def idle(self) -> float:
        """Share of the farm's GPUs, while the job lasts."""
        return max(0.0, 1.0 - self.gpu_s / (self.seconds * self.gpus)) if self.seconds else 0.0


@dataclass(frozen=True)
class Choice:
    """The forecast that was chosen, in one line why, and all that were possible, the best first."""

    best: Forecast
    reason: str
    candidates: tuple[Forecast, ...]
    objective: str = "throughput"

    def goal_s(self, one: Forecast) -> float:
        """The seconds that were to be few."""
        return goal_of(self.objective)(one)


class NoFit(Exception):
    """No gang of this farm can predict the job's windows; the message has the numbers and what to do."""


def choose(
    work: Work,
    film: Work,
    machine: Machine,
    *,
    open_shots: int,
    asked: Asked = Asked(),
    objective: str = "throughput",
    measured: Measured | None = None,
    decoders: int = 1,
) -> Choice:
    """The axes under which the job ends first, or its longest film alone. Raises NoFit.

    film is the longest film's part of the work; open_shots are as many as may be under way at once, of which
    so many decoders make pixels.
    """
    shapes = list(dict.fromkeys(strand.shape for strand in work))
    legal = [axes for axes in gangs_of(machine.gpus, shapes) if asked.allows(axes)]
    if not legal:
        raise NoFit(_illegal(asked, machine.gpus, shapes))
    fitting = [axes for axes in legal if _largest(work, axes).gib <= machine.memory_gib]
    if not fitting:
        raise NoFit(_too_large(work, legal, machine))
    forecasts = [forecast(work, film, axes, machine, open_shots, measured, decoders) for axes in fitting]
    goal = goal_of(objective)
    least = min(map(goal, forecasts))
    near = [one for one in forecasts if goal(one) <= least * NEAR]
    # where all else is near, the axis that needs fewer things to go well: ulysses rather than a ring
    best = min(near, key=lambda one: (one.axes.ranks, one.axes.ring, goal(one)))
    others = sorted(
        (one for one in forecasts if one is not best), key=lambda one: (goal(one), one.axes.ranks)
    )
    return Choice(best, _reason(best, others, legal, objective), (best, *others), objective)


def smallest(shapes: Sequence[Shape], asked: Asked) -> Axes:
    """The gang of fewest ranks that is as asked, of CPUs, of which nothing else is known. Raises NoFit."""
    most = 2 * max(asked.cfg, 1) * max(asked.ring, 1) * max(asked.ulysses, 1)
    for axes in gangs_of(most, shapes):
        if asked.allows(axes):
            return axes
    raise NoFit(_illegal(asked, most, shapes))


def forecast(
    work: Work,
    film: Work,
    axes: Axes,
    machine: Machine,
    open_shots: int,
    measured: Measured | None = None,
    decoders: int = 1,
) -> Forecast:
    """What the work takes on as many gangs of these axes as the farm holds, and so many decoders."""
    shapes = list(dict.fromkeys(shape for strand in work for shape, *_ in strand.runs))
    steps = {shape: _step(shape, axes, machine, measured) for shape in shapes}
    gangs = machine.nodes * (machine.gpus // axes.ranks)
    gang_s = sum(n * strand.gang_s(steps) for strand, n in work.items())
    decoding_s = sum(n * strand.decoding_s(machine) for strand, n in work.items())
    return Forecast(
        axes,
        gangs,
        machine.n_gpus,
        steps,
        _largest(work, axes),
        gang_s * axes.ranks + decoding_s,
        shown_s(work, steps, axes, machine, open_shots, decoders),
        shown_s(film, steps, axes, machine, open_shots, decoders),
        decoding_s,
    )


def _step(shape: Shape, axes: Axes, machine: Machine, measured: Measured | None) -> Step:
    """A window of these gangs: as measured, else by arithmetic as far as that was right of other gangs."""
    step = window_step(shape, axes, machine, measured)
    if step.measured or not measured:
        return step
    return step.times(off_by(shape, gangs_of(machine.gpus, [shape]), machine, measured))


def open_shots_for(work: Work, gangs: int) -> int:
    """How many shots, of all there are, must be under way for their windows to keep so many gangs at work."""
    windows = sum(n * strand.course.n_predictions for strand, n in work.items())
    alone = sum(n * strand.course.n_steps for strand, n in work.items())
    return min(-(-gangs * alone // windows), sum(work.values())) if windows else 1


def goal_of(objective: str) -> Callable[[Forecast], float]:
    """What is to be short: the whole job, or its longest film alone."""
    return (lambda one: one.film_s) if objective == "latency" else (lambda one: one.seconds)


def _largest(work: Iterable[Strand], axes: Axes) -> Memory:
    """The memory of the shots that need most."""
    return max((one.memory(axes) for one in work), key=lambda needed: needed.gib, default=Memory(0, 0))


# What is said to people.


def _reason(best: Forecast, others: Sequence[Forecast], legal: Sequence[Axes], objective: str) -> str:
    """Why this gang, in one line."""
    if len(legal) == 1:
        return f"{named(best.axes)}: no other gang is possible here"
    goal = goal_of(objective)
    what = "the longest film" if objective == "latency" else "the job"
    if best.axes.ranks == 1:
        rivals = [
            f"; {named(one.axes)} takes {goal(one) / goal(best):.2f} times as long" for one in others[:1]
        ]
        busy = f"it fits, and {1 - best.idle:.0%} of the GPUs are at work"
        return f"{named(best.axes)}: {busy}{''.join(rivals)}"
    alone = next((one for one in others if one.axes.ranks == 1), None)
    if alone is None:
        short = "one GPU alone does not hold it; of the gangs that do"
        barred = "one rank alone is not what was asked for; of the gangs that are"
        why = short if any(axes.ranks == 1 for axes in legal) else barred
        return f"{named(best.axes)}: {why} this ends {what} first"
    gain = f"{goal(alone) / goal(best):.2f} times as fast as one model a GPU"
    return f"{named(best.axes)}: {what} is {gain}, which leaves {alone.idle:.0%} of the GPUs idle"


def _illegal(asked: Asked, gpus: int, shapes: Sequence[Shape]) -> str:
    """No gang of nodes of so many GPUs is as asked."""
    if barred := _barred(asked, gpus, shapes):
        return barred
    cfg, ring, ulysses = asked.cfg or 1, asked.ring or 1, asked.ulysses or 1
    heads = min((shape.denoiser.heads for shape in shapes), default=1)
    branches = min((shape.branches for shape in shapes), default=1)
    return (
        f"cluster.cfg={cfg} × ring={ring} × ulysses={ulysses} = {cfg * ring * ulysses} ranks: "
        f"no node of {gpus} GPUs holds such a gang, or no window can be shared by it ({heads} heads, "
        f"{branches} branches of guidance); 0 leaves the choice free"
    )


def _barred(asked: Asked, gpus: int, shapes: Sequence[Shape]) -> str:
    """Why windows cannot be predicted whatever the axes; "" where it is these axes that do not serve."""
    of_shapes = ranks_of(shapes)
    least, end = max(asked.ranks.start, of_shapes.start), min(asked.ranks.stop, of_shapes.stop)
    zero = "model.zero=true shares weights out over two ranks or more"
    if least >= end:
        return (
            f"{zero}, and model.compile=true and sampling.cache=first_block are for gangs of one: render the "
            "films of either by a job of their own"
        )
    if least > gpus:
        return f"{zero}, and no node has more than one GPU: use model.offload=memory"
    return ""


def _too_large(work: Work, legal: Sequence[Axes], machine: Machine) -> str:
    """What does not fit, by how much, and what would."""
    axes = min(legal, key=lambda one: _largest(work, one).gib)
    strand = max(work, key=lambda one: one.memory(axes).gib)
    shape = replace(strand.shape, batch=strand.course.widest)
    place = Place(Free(machine.memory_gib, "the GPU"), machine.gpus)
    short = shortage(shape, axes, place)
    if short is None and strand.pixels is not None:
        short = strand.pixels.shortage(beside_rank(place, shape, axes))
    assert short is not None, "its least need is more than there is"
    return f"{short.message}: {short.hint}"


def placeable(work: Work, machine: Machine, asked: Asked = Asked()) -> Work:
    """The part of the work that some gang of the farm can hold."""

    def fits(strand: Strand) -> bool:
        legal = (axes for axes in gangs_of(machine.gpus, [strand.shape]) if asked.allows(axes))
        return any(strand.memory(axes).gib <= machine.memory_gib for axes in legal)

    return {strand: n for strand, n in work.items() if fits(strand)}
