"""`plan --explain`: which axes pay for a manifest on a farm, what it would take, and why.

Decides: what is said of a choice. Does not decide: the choice (`cluster.choose`), or which settings would do
better (busier, wider).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any, Self

from cluster.batch import Pool, choose_batch
from cluster.choose import Asked, Choice, Forecast, NoFit, forecast
from cluster.cost import GIB, Measured
from cluster.machine import Machine
from cluster.sharing import named
from cluster.shortage import gib
from cluster.strand import Work
from jobs.busier import Demand, hours, open_shots, settings_of
from jobs.columns import aligned
from jobs.farm import EXAMPLES, load_farm
from jobs.spec import ClusterSpec
from jobs.wider import Widening

WIDTH = 108  # of a line
SHOWN = 6  # gangs of a farm; `-o json` has all


@dataclass(frozen=True)
class Explained:
    """One farm with the job on it: a choice, or why there is none."""

    farm: str
    machine: Machine
    choice: Choice | None
    configured: Forecast | None  # with the axes of the configuration, where the farm can hold them
    advice: str
    refusal: str = ""
    batch: int = 1  # windows a forward, of the best gangs
    batching: str = ""  # why
    wider: str = ""  # how idle gangs could widen overlaps


@dataclass(frozen=True)
class Explanation:
    """What is said of a job: its windows, how much film it is, and each farm with it."""

    farms: tuple[Explained, ...]
    work: Work
    n_films: int
    film_s: float

    @classmethod
    def of(
        cls,
        machines: Mapping[str, Machine],
        work: Work,
        film: Work,
        *,
        n_films: int,
        film_s: float,
        cluster: ClusterSpec,
        measured: Measured,
        widening: Widening,
    ) -> Self:
        """For every farm the best axes; film is the part of the work that its longest film is."""
        at_once = open_shots(cluster, n_films, sum(work.values()))
        stages = cluster.decoders, cluster.stage_gpus
        job = Demand(work, film, n_films, at_once, *stages, cluster.objective, measured)
        farms = (_explained(name, machine, job, cluster, widening) for name, machine in machines.items())
        return cls(tuple(farms), work, n_films, film_s)

    @property
    def json(self) -> dict[str, Any]:
        """For scripts."""
        farms = [_farm_json(one, self.n_films, self.film_s) for one in self.farms]
        return {"shapes": _shapes_json(self.work), "farms": farms}

    def show(self) -> None:
        """For people."""
        for one in self.farms:
            print("\n".join(_text(one, self.n_films, self.film_s)))


def farms(path: Path | None) -> dict[str, Machine]:
    """The farm of a file, else all examples. Raises SpecError."""
    paths: Sequence[Path] = EXAMPLES if path is None else [path]
    return {each.name: load_farm(each) for each in paths}


def _explained(
    name: str, machine: Machine, job: Demand, cluster: ClusterSpec, widening: Widening
) -> Explained:
    try:
        choice = job.choice(machine)
    except NoFit as error:
        return Explained(name, machine, None, None, "", str(error))
    asked = Asked(cluster.cfg, cluster.ring, cluster.ulysses)
    configured = next((one for one in choice.candidates if asked.allows(one.axes)), None)
    advice, best = job.advice(choice, machine), choice.best
    pool, goal = Pool(machine, best.axes, best.gangs, job.open_shots), job.film if job.sooner else None
    batch = choose_batch(job.work, pool, job.measured, goal)
    taking = partial(
        forecast,
        axes=best.axes,
        machine=machine,
        open_shots=job.open_shots,
        measured=job.measured,
        decoders=job.decoders,
    )
    wider = "" if advice else widening.advice(choice, job.work, taking)
    return Explained(name, machine, choice, configured, advice, "", *batch, wider)


def _farm_json(one: Explained, n_films: int, film_s: float) -> dict[str, Any]:
    facts: dict[str, Any] = {"farm": one.farm, "machine": asdict(one.machine), "refusal": one.refusal}
    if one.choice is None:
        return facts
    return facts | {
        "best": _figures(one.choice.best, n_films, film_s),
        "settings": settings_of(one.choice.best.axes),
        "reason": one.choice.reason,
        "batch": one.batch,
        "batching": one.batching,
        "advice": one.advice,
        "wider": one.wider,
        "configured": _figures(one.configured, n_films, film_s) if one.configured else None,
        "candidates": [_figures(each, n_films, film_s) for each in one.choice.candidates],
    }


def _figures(one: Forecast, n_films: int, film_s: float) -> dict[str, Any]:
    axes = {"cfg": one.axes.cfg, "ring": one.axes.ring, "ulysses": one.axes.ulysses}
    return {
        "axes": axes,
        "gangs": one.gangs,
        "gib": round(one.memory.gib, 2),
        "pixels_gib": round(one.memory.pixels_gib, 2),
        "gpu_s": round(one.gpu_s, 3),
        "decoding_gpu_s": round(one.decoding_s, 3),
        "seconds": round(one.seconds, 3),
        "idle": round(one.idle, 4),
        "longest_film_s": round(one.film_s, 3),
        "films_an_hour": round(3600 * n_films / one.seconds, 3) if one.seconds else None,
        "gpu_s_a_film_s": round(one.gpu_s / film_s, 3) if film_s else None,
        "window_step_s": {shape.name: round(step.seconds, 6) for shape, step in one.steps.items()},
        "measured": all(step.measured for step in one.steps.values()),
    }


def _text(one: Explained, n_films: int, film_s: float) -> Iterator[str]:
    """A farm's lines."""
    yield from fill(f"{one.farm}: {described(one.machine)}", WIDTH).splitlines()
    yield from _table(one.choice) if one.choice and one.choice.best.seconds else ()
    for said in _said(one, n_films, film_s):
        yield from fill(said, WIDTH, initial_indent="  ", subsequent_indent="    ").splitlines()
    yield ""


def _said(one: Explained, n_films: int, film_s: float) -> Iterator[str]:
    """The sentences about a farm."""
    if one.choice is None:
        yield f"cannot be rendered there: {one.refusal}"
        return
    best = one.choice.best
    if not best.seconds:
        yield "nothing is left to denoise"
        return
    yield " ".join(settings_of(best.axes))
    yield one.choice.reason
    if best.memory.pixels_gib:
        yield (
            f"of GiB/GPU {gib(best.memory.pixels_gib)} are for the pixels of a decoder beside a rank; "
            "cluster.stage_gpus=0 has them made on the CPU"
        )
    if one.batch > 1:
        yield f"cluster.batch={one.batch}, {one.batching}"
    pixels = f", {best.decoding_s:,.3g} of them to decode" if best.decoding_s else ""
    yield (
        f"{hours(best.seconds)} of denoising{' and decoding' * bool(pixels)}, "
        f"{3600 * n_films / best.seconds:,.2f} films an hour; "
        f"{best.gpu_s:,.0f} GPU seconds{pixels}, {best.gpu_s / film_s:,.3g} a second of film"
    )
    if one.configured is not None and one.configured.axes != best.axes:
        yield f"as configured, {named(one.configured.axes)}: {hours(one.configured.seconds)}"
    yield from filter(None, (one.advice, one.wider))


def _table(choice: Choice) -> Iterator[str]:
    """The best gangs, one a line."""
    head = ("gang", "gangs", "s/window step", "GiB/GPU", "GPUs at work", "the job", "longest film")
    rows = [head, *(_cells(one) for one in choice.candidates[:SHOWN])]
    return (f"  {line}" for line in aligned(rows))


def _cells(one: Forecast) -> tuple[str, ...]:
    slowest = max(one.steps.values(), key=lambda step: step.seconds)
    return (
        named(one.axes),
        str(one.gangs),
        f"{'measured ' * slowest.measured}{slowest.seconds:.3g}",
        f"{one.memory.gib:.1f}",
        f"{1 - one.idle:.0%}",
        hours(one.seconds),
        hours(one.film_s),
    )


def described(machine: Machine) -> str:
    """A farm in one line."""
    nodes = f"{machine.nodes} nodes of " if machine.nodes > 1 else ""
    gpus = f"{machine.gpus} GPUs" if machine.gpus > 1 else "1 GPU"
    links = f", {machine.inside_gb_s:g} GB/s inside" if machine.gpus > 1 else ""
    links += f" and {machine.between_gb_s:g} GB/s between nodes" if machine.nodes > 1 else ""
    kind = f"{machine.gpu}, " if machine.gpu else ""
    speed = f"{machine.efficiency * machine.tflops:,.0f} of {machine.tflops:,.0f} TFLOP/s"
    return f"{nodes}{gpus} ({kind}{machine.memory_gib:g} GiB, {speed}){links}"


def _shapes_json(work: Work) -> dict[str, Any]:
    """The windows that are predicted."""
    return {
        shape.name: {
            "latent_frames": shape.frames,
            "tokens": shape.sequence,
            "branches": shape.branches,
            "weights_gib": round(shape.weights_bytes / GIB, 3),
        }
        for shape in dict.fromkeys(shape for strand in work for shape, *_ in strand.runs)
    }
