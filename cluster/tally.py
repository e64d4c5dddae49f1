"""GPU-seconds by kind: what was kept, wasted and saved, and of what. Pure.

Decides: how seconds add up, and what a waste is called. Does not decide: whose they are (cluster.account).
"""

from dataclasses import dataclass, replace

from immutables import Map

from cluster.events import FilmDone
from cluster.outcomes import Failure, Outcome

CAUSES = {
    "LOST": "a worker was gone, and nobody knows of what",
    "REDONE": "done again from a checkpoint, since the shot had to be opened again",
    "LATE": "the answer came when nobody waited for it any more",
    "ENDED": "the film or the job was ended before the shot was done",
    "TRIED": "a gang predicted it to be timed, before the job's own gangs were chosen",
}
_ENDS = {"E930_CANCELLED", "E931_SKIPPED", "E940_BUDGET", "E941_BREAKER"}
US = 1_000_000  # microseconds in a second


@dataclass(frozen=True)
class Tally:
    """GPU-seconds of a job or of a film, in microseconds."""

    kept_us: int = 0
    saved_us: int = 0
    wasted: Map[str, int] = Map()
    before_us: int = 0  # of those kept, by earlier tries of the same film

    @property
    def wasted_us(self) -> int:
        """Of all causes."""
        return sum(self.wasted.values())

    @property
    def used_us(self) -> int:
        """All that has ended."""
        return self.kept_us + self.wasted_us

    def plus(self, us: int, cause: str) -> "Tally":
        """With so much more kept, where there is no cause, or else wasted."""
        if not us:
            return self
        if not cause:
            return replace(self, kept_us=self.kept_us + us)
        return replace(self, wasted=self.wasted.set(cause, self.wasted.get(cause, 0) + us))


@dataclass(frozen=True)
class Paid:
    """What the windows of a shot under way took, by step, and why they are done again where they are.

    `found`: its first canvas came from a checkpoint of an earlier run.
    """

    conductor: str = ""
    opening: int = 0  # 0 while it has no canvas
    steps: Map[int, int] = Map()
    cause: str = "REDONE"
    found: bool | None = None

    @property
    def us(self) -> int:
        """Of all steps."""
        return sum(self.steps.values())


def us_of(seconds: float, ranks: int) -> int:
    """GPU-microseconds of so many ranks; a clock that goes back counts nothing."""
    return max(0, round(seconds * US)) * ranks


def taken_us(result: Outcome | Failure | None) -> int:
    """What making a shot, or what was made of it, took, as its marker says; 0 where it says nothing."""
    return us_of(result.facts.get("gpu_s") or 0.0, 1) if isinstance(result, Outcome) else 0


def cause_of(film: FilmDone, shot: str) -> str:
    """Why a shot of a film that has ended came to nothing."""
    wanted = [film.results[task.key] for task in film.film.wanted]
    failure = next((f for f in (film.results.get(shot), *wanted) if isinstance(f, Failure)), None)
    if failure is None or failure.code in _ENDS:
        return "ENDED"
    return failure.error_class
