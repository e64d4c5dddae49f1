"""How fast a job goes, and when what is left of it will be done, by what it did in the last minutes. Pure.

A job's pace is of all its gangs together. It is measured over minutes of steady work: work was given out, and
about as many gangs were there. So it is not known while gangs come at first, nor right after a pause or the
loss of many. The loading of weights before a gang's first prediction is no part of it. What comes after the
last prediction (decoding, joining, voice, signing) takes what it took so far.

Decides: the prediction. Does not decide: what is done about it (dropping).
"""

from dataclasses import dataclass, replace

from immutables import Map

from cluster.outcomes import Outcome

MARK_S = 10.0  # between two marks
MARKS = 60  # that are kept: ten minutes
LEAST_S = 300.0  # over which a pace is one
STEADY = 0.1  # more or less of the gangs are about as many
TAIL = ("segment", "master", "version")  # what follows a film's last prediction, each after the other


@dataclass(frozen=True)
class Pace:
    """Predictions so far, some moments with their number then, and per kind how many tasks took how long.

    The moments are the last ones of steady work with so many gangs, after `loaded` predictions, by when each
    has made one. `best` is of one gang a second.
    """

    predicted: int = 0
    marks: tuple[tuple[float, int], ...] = ()
    took: Map[str, tuple[int, float]] = Map()
    gangs: int = 0
    loaded: int = 0
    best: float = 0.0  # as many marks as are kept are what it is measured over

    def more(self, n: int) -> "Pace":
        """After n more predictions that were of use."""
        return replace(self, predicted=self.predicted + n)

    def at(self, now_s: float, gangs: int, held: bool) -> "Pace":
        """As time passes, with so many gangs there; while no work is given out nothing is measured."""
        if held or abs(gangs - self.gangs) > STEADY * self.gangs:
            return replace(self, marks=(), gangs=gangs, loaded=self.predicted + gangs)
        if self.predicted < self.loaded or (self.marks and now_s - self.marks[-1][0] < MARK_S):
            return self
        marks = (*self.marks[-MARKS + 1 :], (now_s, self.predicted))
        return replace(self, marks=marks, gangs=max(gangs, self.gangs))._with_best()

    def _with_best(self) -> "Pace":
        """The last minutes may have been the best."""
        if len(self.marks) < MARKS or self.per_s is None or not self.gangs:
            return self
        return replace(self, best=max(self.best, self.per_s / self.gangs))

    def after(self, outcome: Outcome) -> "Pace":
        """After a task was done, and not found."""
        if outcome.reused or outcome.kind not in TAIL:
            return self
        n, seconds = self.took.get(outcome.kind, (0, 0.0))
        return replace(self, took=self.took.set(outcome.kind, (n + 1, seconds + outcome.seconds)))

    @property
    def per_s(self) -> float | None:
        """Predictions a second; None while that is not known."""
        if not self.marks or self.marks[-1][0] - self.marks[0][0] < LEAST_S:
            return None
        (first_s, first), (last_s, last) = self.marks[0], self.marks[-1]
        return (last - first) / (last_s - first_s) or None

    @property
    def best_per_s(self) -> float | None:
        """Predictions a second of the gangs that are there, at their best; None while no pace is known."""
        return None if self.per_s is None else max(self.per_s, self.best * self.gangs)

    @property
    def tail_s(self) -> float:
        """Seconds from a film's last prediction to its end."""
        return sum(seconds / n for n, seconds in self.took.values())

    def ends_in_s(self, left: int) -> float | None:
        """Seconds until so many predictions and what follows the last are done; None while it is unknown."""
        if not left:
            return self.tail_s
        return None if self.per_s is None else left / self.per_s + self.tail_s
