"""Whether gangs that a job leaves idle could widen its overlaps for nothing, and what is said of that.

How a shot is cut into windows is part of the shot. Did it follow the gangs that are there, the same job would
be drawn anew on another cluster, so it is a person's to set: window.gangs. Decides: whether to advise it, by
what it costs. Does not decide: how wide overlaps get (engine.phases).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from cluster.choose import Choice, Forecast
from cluster.identity import Model
from cluster.sketch import Sketch
from cluster.strand import Work
from jobs.job import Job
from jobs.size import forecast
from jobs.sketch import work_of
from manifests.store import Store

IDLE = 0.05  # of the GPUs, from which on there is something to spend
SAME = 1.01  # of a time that is no longer


@dataclass(frozen=True)
class Widening:
    """A job with its shots cut for so many gangs: the work that it is then, and that of its longest film."""

    profiles: tuple[str, ...]
    work: Callable[[int], tuple[Work, Work]]

    def advice(self, choice: Choice, work: Work, taking: Callable[[Work, Work], Forecast]) -> str:
        """What to set, and what would come of it; "" where that takes longer, or changes nothing.

        `taking` foretells what other work, and its longest film, take on the gangs that were chosen.
        """
        best = choice.best
        if best.gangs < 2 or best.idle < IDLE:
            return ""
        wide, film = self.work(best.gangs)
        before, after, then = steps_of(work), steps_of(wide), taking(wide, film)
        if after <= before or choice.goal_s(then) > SAME * choice.goal_s(best):
            return ""
        settings = " ".join(f"profiles.{name}.window.gangs={best.gangs}" for name in self.profiles)
        return (
            f"{settings} would widen overlaps on GPUs that are idle: {after:,} window steps instead of "
            f"{before:,} take the same time, with {1 - then.idle:.0%} of the GPUs at work instead of "
            f"{1 - best.idle:.0%}; it draws other shots, so set it before the first"
        )


def widening(job: Job, store: Store | None, models: dict[Model, Sketch], beside: bool) -> Widening:
    """How a job's work is counted anew, as far as it is not in the store."""

    @lru_cache
    def work(gangs: int) -> tuple[Work, Work]:
        stocked = {
            name: replace(one, profile=replace(one.profile, window=replace(one.profile.window, gangs=gangs)))
            for name, one in job.stocked.items()
        }
        wide = replace(job, stocked=stocked)
        size = forecast(wide.films, store) if store else wide.census()
        all_of_it, longest = (work_of(loads, models, beside) for loads in (size.loads, size.longest))
        return all_of_it, longest

    return Widening(tuple(job.stocked), work)


def steps_of(work: Work) -> int:
    """Predictions of all windows."""
    return sum(n * strand.course.n_predictions for strand, n in work.items())
