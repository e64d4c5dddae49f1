"""Films that are not begun for want of time or money: the least urgent ones, and never one that was begun.

A film is held against the deadline when it would be begun, and not before: until then what is ahead of it may
go faster, and gangs may come. It ends, and so do all under way behind it, where there is no time for it and
all that is more urgent, at the best pace that these gangs have had; while no pace is known there is. Films to
come are weighed again, each when it would be begun. Once the deadline has passed no film is begun any more.

Decides: who is dropped, by which prediction. Does not decide: how fast the job goes (pace), or when a film
would be begun (dispatch).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cluster.events import Action
from cluster.films import ended
from cluster.outcomes import Failure
from cluster.shots import ShotTask
from cluster.state import Film, State, Step

DEADLINE, SOFT = "E942_DEADLINE", "E943_SOFT_BUDGET"


def pressed(state: State, rows: Iterable[str]) -> Step:
    """These films are about to be begun: if there is no time for them, they end and all behind them."""
    films = [state.films[row] for row in rows]
    if state.limits.deadline_s == float("inf") or any(film.begun for film in films):
        return state, []
    first = min(films, key=lambda film: film.standing)
    late_s = _late_s(state, first)
    if late_s is None or late_s <= 0:
        return state, []
    behind = [film for film in state.films.values() if not film.begun and film.standing >= first.standing]
    behind.sort(key=lambda film: film.standing, reverse=True)
    return _dropped(state, [film.made.row_id for film in behind], _late(late_s))


def _late_s(state: State, film: Film) -> float | None:
    """How long after the deadline a film would be done at best; None while that is not known."""
    per_s, left_s = state.pace.best_per_s, state.limits.deadline_s - state.now_s
    if per_s is None:
        return None
    return _left(state, film) / per_s + state.pace.tail_s - left_s


def _left(state: State, film: Film) -> int:
    """Predictions that a film and all more urgent ones still need; those of a shared shot count once."""
    first = [each.needed for each in state.films.values() if each.standing <= film.standing]
    keys = frozenset[str]().union(*first)
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


def overdue(state: State) -> Step:
    """No film is begun after the deadline."""
    if state.cut is not None or state.held or state.now_s < state.limits.deadline_s:
        return state, []
    return _closed(state, _late())


def overspent(state: State) -> Step:
    """No film is begun after a soft budget."""
    soft_gpu_s = state.limits.soft_gpu_s
    if state.spent_gpu_s < soft_gpu_s or (state.cut is not None and state.cut.code == SOFT):
        return state, []
    return _closed(state, _spent(state.spent_gpu_s, soft_gpu_s))


def _closed(state: State, failure: Failure) -> Step:
    """No film is begun any more: those that were go on, all others end, and so do those to come."""
    unbegun = [row for row, film in state.films.items() if not film.begun]
    return _dropped(replace(state, cut=failure), sorted(unbegun), failure)


def ends_early(state: State) -> list[Failure]:
    """With what a job ends before its end: nothing, or one failure. A deadline ends films, and no job."""
    spent = state.cut if state.cut is not None and state.cut.code == SOFT else None
    ending = state.closing or spent
    return [ending] if ending else []


def _dropped(state: State, rows: Sequence[str], failure: Failure) -> Step:
    """These films end."""
    actions = list[Action]()
    for row in rows:
        state, more = ended(state, row, failure)
        actions += more
    return state, actions


def _late(late_s: float | None = None) -> Failure:
    message = "dropped for the deadline, which has passed"
    if late_s is not None:
        best = "at the best pace that the job's gangs have had"
        message = f"dropped for the deadline: it would be done {_span(late_s)} late, {best}"
    hint = "give the same command again with a later deadline, or raise its priority and retry it"
    return Failure(DEADLINE, message, hint, "DROPPED")


def _spent(spent_gpu_s: float, soft_gpu_s: float) -> Failure:
    """With which films end that a soft budget leaves no room for."""
    message = f"not begun: the job's gangs took {spent_gpu_s:,.0f} of the {soft_gpu_s:,.0f} GPU-seconds"
    hint = "raise cluster.soft_gpu_s, or longtake budget --soft, and retry; what is done stays done"
    return Failure(SOFT, f"{message} after which no film is begun", hint, "DROPPED")


def _span(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
