"""Whether more shots under way, or more decoders, would keep more GPUs at work, and what is said of that.

Decides: how many shots a job lets be under way, and whether to advise more. Does not decide: which gangs pay
(cluster.choose), or what else idle gangs could be used for (wider).
"""

from dataclasses import dataclass

from cluster.choose import Choice, Forecast, choose, forecast, open_shots_for
from cluster.cost import Measured
from cluster.crew import Setup
from cluster.machine import Machine
from cluster.strand import Work
from cluster.topology import stages_beside
from engine.parallel.axes import Axes
from jobs.spec import ClusterSpec

WORTH = 0.95  # of the time that other settings would have to save to be named
DECODERS = 2  # for each GPU, at most, where they compute on CPUs
PER_CONDUCTOR = Setup.canvases_per_conductor


@dataclass(frozen=True)
class Demand:
    """What a choice depends on beside the farm."""

    work: Work
    film: Work
    n_films: int
    open_shots: int
    decoders: int
    stage_gpus: float  # of a GPU that the encoder and each decoder take
    objective: str
    measured: Measured

    @property
    def sooner(self) -> bool:
        """Whether it is the longest film that is to be there soon."""
        return self.objective == "latency"

    def choice(self, machine: Machine) -> Choice:
        """The axes of a farm, with as much under way as is let. Raises NoFit."""
        return choose(
            self.work,
            self.film,
            machine,
            open_shots=self.open_shots,
            objective=self.objective,
            measured=self.measured,
            decoders=self.decoders,
        )

    def advice(self, choice: Choice, machine: Machine) -> str:
        """More shots under way, or more decoders, where they would fill GPUs that are idle now; else ""."""
        if self.sooner:
            return ""
        n_shots, most = sum(self.work.values()), max(self._room(machine), self.decoders)
        free = choose(
            self.work, self.film, machine, open_shots=n_shots, measured=self.measured, decoders=most
        ).best
        n_open = max(open_shots_for(self.work, free.gangs), self.open_shots)

        def by(decoders: int) -> Forecast:
            return forecast(self.work, self.film, free.axes, machine, n_open, self.measured, decoders)

        decoders = self.decoders
        while decoders < most and by(decoders).seconds * WORTH > free.seconds:
            decoders = min(2 * decoders, most)
        better = by(decoders)
        if better.seconds >= WORTH * choice.best.seconds:
            return ""
        settings = self._opened(n_open, n_shots) if n_open > self.open_shots else []
        settings += [f"cluster.decoders={decoders}"] if decoders > self.decoders else []
        times = f"{hours(better.seconds)} instead of {hours(choice.best.seconds)}"
        return f"{' '.join([*settings, *settings_of(better.axes)])} would keep more GPUs at work: {times}"

    def _room(self, machine: Machine) -> int:
        """How many decoders a run on this farm allows."""
        if not self.stage_gpus:
            return DECODERS * machine.n_gpus
        return stages_beside(self.stage_gpus, machine.n_gpus) - 1  # the encoder has its place there too

    def _opened(self, n_open: int, n_shots: int) -> list[str]:
        """What lets so many shots be under way at once."""
        n_films, n_conductors = -(-n_open * self.n_films // n_shots), -(-n_open // PER_CONDUCTOR)
        settings = [f"cluster.max_canvases={n_open}", f"cluster.max_films={n_films}"]
        return settings + [f"cluster.conductors={n_conductors}"] * (n_conductors > 1)


def open_shots(cluster: ClusterSpec, n_films: int, n_shots: int) -> int:
    """How many shots a job lets be under way at once."""
    of_films = -(-cluster.max_films * n_shots // n_films) if n_films else 1
    return min(cluster.max_canvases, cluster.conductors * PER_CONDUCTOR, of_films)


def settings_of(axes: Axes) -> list[str]:
    """The axes as a configuration says them."""
    return [f"cluster.cfg={axes.cfg}", f"cluster.ring={axes.ring}", f"cluster.ulysses={axes.ulysses}"]


def hours(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
