"""Which gangs are worth a trial before a job's axes are settled, and what that costs. Pure.

Arithmetic may be wrong by more than what lies between its two cheapest gangs. Where both times are normal
about what it says, with a standard deviation of s between them and d apart, knowing them first saves

    s φ(d / s) − d Φ(−d / s)        the expected value of perfect information (Raiffa and Schlaifer, 1961)

A trial costs the whole farm its time: processes start, weights are read, a window is predicted a few times.
Decides: which gangs are tried. Does not decide: how (rehearsal), when they stop before they are done
(whoever oversees them), or what becomes of the times (choose).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from cluster.choose import Choice, Forecast
from cluster.cost import GIB, Shape, Step
from cluster.strand import Work
from engine.parallel.axes import Axes

RIVALS = 2  # the cheapest gangs, which are tried
WARM = 3  # predictions that count, of which the median; one before them, which loads the weights, does not
ERROR = (
    0.1  # deviation of a gang's predicted time: of nine published speed-ups eight lie within twice as much
)
START_S = 30.0  # until a gang's processes live and have found each other
READ_GIB_S = 0.5  # weights from a node's disk; all ranks of a gang read them
MOST_S = 900.0  # that all trials of a job may take
NORMAL = NormalDist()


@dataclass(frozen=True)
class Trial:
    """A gang that predicts a window of this shape a few times; seconds are those it is expected to take."""

    shape: Shape
    axes: Axes
    seconds: float


class Overseer(Protocol):
    """Who pays for trials, and may end them at any moment."""

    def took(self, gang: str, seconds: float, gpu_s: float) -> None:
        """A gang was at a window for so long, with all its ranks together for gpu_s."""

    def had(self, gpu_s: float) -> None:
        """A gang is gone whose ranks were there for gpu_s, at work or idle."""

    def goes_on(self, gpu_s: float = 0.0) -> bool:
        """Whether to go on, with a call under way that has taken gpu_s until now."""

    def resumed(self) -> bool:
        """Wait as long as trials may go on later; whether they do."""


def trials(choice: Choice, work: Work) -> tuple[Trial, ...]:
    """Those of the two cheapest gangs that nobody measured, if knowing them saves more than they cost."""
    rivals = choice.candidates[:RIVALS]
    if len(rivals) < RIVALS or not work:
        return ()
    shape = heaviest(work, choice.best.steps)
    asked = [trial(one, shape) for one in rivals if not one.steps[shape].measured]
    cost_s = sum(one.seconds for one in asked)
    first, second = map(choice.goal_s, rivals)
    gain_s = gain(first, second, *(0.0 if one.steps[shape].measured else ERROR for one in rivals))
    return tuple(asked) if cost_s < gain_s and cost_s <= MOST_S else ()


def heaviest(work: Work, steps: Mapping[Shape, Step]) -> Shape:
    """The shape whose windows take most of the job."""
    seconds: dict[Shape, float] = {}
    for strand, n in work.items():
        spent = n * strand.gang_s(steps)
        seconds[strand.shape] = seconds.get(strand.shape, 0.0) + spent
    return max(seconds, key=lambda shape: seconds[shape])


def trial(one: Forecast, shape: Shape) -> Trial:
    """What a trial of these gangs is expected to take."""
    read_s = shape.weights_bytes / GIB / READ_GIB_S
    return Trial(shape, one.axes, START_S + read_s + (1 + WARM) * one.steps[shape].seconds)


def gain(first_s: float, second_s: float, first_error: float, second_error: float) -> float:
    """Seconds that knowing both times saves on average, if each is off by so much of itself; 0 or more."""
    deviation, apart = math.hypot(first_s * first_error, second_s * second_error), abs(second_s - first_s)
    if deviation == 0.0:
        return 0.0
    ratio = apart / deviation
    return max(0.0, deviation * NORMAL.pdf(ratio) - apart * NORMAL.cdf(-ratio))
