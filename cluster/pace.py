"""How fast a job goes, and when what is left of it will be done, by what it did in the last minutes. Pure.

A job's pace is of all its gangs together, so it follows them as they come and go. It is measured over minutes
in which work was given out; the loading of weights before the first prediction is no part of it. What comes
after the last prediction (decoding, joining, voice, signing) takes what it took so far.

Decides: the prediction. Does not decide: what is done about it (dropping).
"""

from dataclasses import dataclass, replace

from immutables import Map

from cluster.outcomes import Outcome

MARK_S = 10.0  # between two marks
MARKS = 60  # that are kept: ten minutes
LEAST_S = 30.0  # over which a pace is one
TAIL = ("segment", "master", "version")  # what follows a film's last prediction, each after the other


@dataclass(frozen=True)
class Pace:
    """Predictions so far, some moments with their number then, and per kind how many tasks took how long."""

    predicted: int = 0
    marks: tuple[tuple[float, int], ...] = ()
    took: Map[str, tuple[int, float]] = Map()

    def more(self, n: int) -> "Pace":
        """After n more predictions that were of use."""
        return replace(self, predicted=self.predicted + n)

    def at(self, now_s: float, held: bool) -> "Pace":
        """As time passes; while no work is given out nothing is measured."""
        if held or not self.predicted:
            return replace(self, marks=()) if self.marks else self
        if self.marks and now_s - self.marks[-1][0] < MARK_S:
            return self
        return replace(self, marks=(*self.marks[-MARKS + 1 :], (now_s, self.predicted)))

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
    def tail_s(self) -> float:
        """Seconds from a film's last prediction to its end."""
        return sum(seconds / n for n, seconds in self.took.values())

    def ends_in_s(self, left: int) -> float | None:
        """Seconds until so many predictions and what follows the last are done; None while it is unknown."""
        if not left:
            return self.tail_s
        return None if self.per_s is None else left / self.per_s + self.tail_s
