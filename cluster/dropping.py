"""Films that are not begun for want of time or money: the least urgent ones, and never one that was begun.

A film is held against the deadline when it is drawn, and again every few seconds; once it has passed, also
while no pace is known. Those to come are less urgent than those drawn, so once one is dropped all that are no
more urgent are dropped as they are drawn.

Decides: who is dropped, by which prediction. Does not decide: how fast the job goes (pace).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.events import Action, Admitted, Event, Ticked
from cluster.films import ended
from cluster.outcomes import Failure
from cluster.shots import ShotTask
from cluster.state import Cut, State, Step

DEADLINE, SOFT = "E942_DEADLINE", "E943_SOFT_BUDGET"
WEIGH_S = 10.0  # between two looks at all films under way
EVERYONE = (-float("inf"), 0)


@dataclass(frozen=True)
class Load:
    """A film: its predictions that are left. Those of a shared shot are of the most urgent film alone."""

    row: str
    left: int
    begun: bool


def surplus(loads: Sequence[Load], fits: int) -> list[str]:
    """The films, least urgent first, without which what is left fits; as many as there are where it cannot.

    `loads` has the most urgent film first, `fits` is how many predictions there is time for.
    """
    left, dropped = sum(load.left for load in loads), list[str]()
    for load in reversed(loads):
        if left <= fits:
            break
        if not load.begun:
            dropped.append(load.row)
            left -= load.left
    return dropped


def loads_of(state: State) -> list[Load]:
    """The films under way, the most urgent first."""
    counted: set[str] = set()
    return [
        Load(film.made.row_id, _left(state, film.needed - counted, counted), film.begun)
        for film in sorted(state.films.values(), key=lambda film: film.standing)
    ]


def _left(state: State, keys: frozenset[str], counted: set[str]) -> int:
    """Predictions that these tasks still need; they are counted now."""
    counted |= keys
    return sum(_predictions(state, key) for key in keys if key not in state.results)


def _predictions(state: State, key: str) -> int:
    task = state.tasks[key]
    if not isinstance(task, ShotTask):
        return 0
    course, canvas = task.course, state.canvases.get(key)
    if canvas is None or canvas.step < 0:
        return course.n_predictions
    left = sum(len(course.predictions_of(canvas.step, part)) for part in canvas.missing)
    return course.n_predictions - course.before(canvas.step + 1) + left


def pressed(state: State, event: Event) -> Step:
    """After an event: the films end for which there is no time."""
    per_s, left_s = state.pace.per_s, state.limits.deadline_s - state.now_s
    if left_s == float("inf") or state.held or (per_s is None and left_s > 0):
        return state, []
    drawn = isinstance(event, Admitted) and event.film.row_id in state.films
    if not drawn and not (isinstance(event, Ticked) and state.now_s >= state.weigh_s):
        return state, []
    loads, fits = loads_of(state), int(max(left_s - state.pace.tail_s, 0.0) * (per_s or 0.0))
    state = replace(state, weigh_s=state.now_s + WEIGH_S)
    dropped = surplus(loads, fits)
    if not dropped:
        return state, []
    late_s = sum(load.left for load in loads) / per_s + state.pace.tail_s - left_s if per_s else None
    return _dropped(state, dropped, min(state.films[row].standing for row in dropped), _late(late_s))


def closed(state: State, failure: Failure) -> Step:
    """No film is begun any more: those that were go on, all others end."""
    unbegun = [row for row, film in state.films.items() if not film.begun]
    return _dropped(state, sorted(unbegun), EVERYONE, failure)


def ends_early(state: State) -> list[Failure]:
    """With what a job ends before its end: nothing, or one failure. A deadline ends films, and no job."""
    spent = state.cut is not None and state.cut.failure.code == SOFT
    ending = state.closing or (state.cut.failure if state.cut and spent else None)
    return [ending] if ending else []


def _dropped(state: State, rows: Sequence[str], standing: tuple[float, int], failure: Failure) -> Step:
    """These films end, and all to come that stand behind."""
    if state.cut is not None:
        standing = min(standing, state.cut.standing)
    state, actions = replace(state, cut=Cut(standing, failure)), list[Action]()
    for row in rows:
        state, more = ended(state, row, failure)
        actions += more
    return state, actions


def _late(late_s: float | None) -> Failure:
    message = "dropped for the deadline, which has passed"
    if late_s is not None:
        message = f"dropped for the deadline: with all films under way the job would end {_span(late_s)} late"
    hint = "give the same command again with a later deadline, or raise its priority and retry it"
    return Failure(DEADLINE, message, hint, "DROPPED")


def overspent(spent_gpu_s: float, soft_gpu_s: float) -> Failure:
    """With which films end that a soft budget leaves no room for."""
    message = f"not begun: the job's gangs took {spent_gpu_s:,.0f} of the {soft_gpu_s:,.0f} GPU-seconds"
    hint = "raise cluster.soft_gpu_s, or longtake budget --soft, and retry; what is done stays done"
    return Failure(SOFT, f"{message} after which no film is begun", hint, "DROPPED")


def _span(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
