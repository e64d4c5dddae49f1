"""Decides who does what next: `(state, event) -> (state, actions)` on frozen data. No Ray, no clock.

A film's tasks wait until what they need is done. Most tasks are one call of one worker. A shot is a
conversation: a conductor opens its canvas, then at every step each part of the step goes to any idle gang,
and when the last prediction is in, the conductor advances. Windows of all open shots wait in one queue.

Back-pressure: a shot opens only while fewer than `max_canvases` shots are open or wait to be decoded, so a
slow decoder stops the denoising ahead of it rather than filling the disk.

Does not decide: how a worker is reached, started or found dead (crew), or what a failure means to a person.
"""

from collections.abc import Callable
from dataclasses import replace

from immutables import Map

from cluster.affinity import AHEAD, opened, pairing, timed, with_model
from cluster.dropping import SOFT, overdue, overspent, pressed
from cluster.events import (
    Action,
    Admitted,
    Advance,
    Budgeted,
    Done,
    Draining,
    Ended,
    Event,
    Held,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Ranked,
    Reprieved,
    Resumed,
    Run,
    Ticked,
    Turned,
    Yielding,
)
from cluster.films import begun, ended, put_back, reranked, with_begun, with_result
from cluster.hosts import did_well, forgiven, pair
from cluster.ladder import eased
from cluster.orders import CANCELLED
from cluster.shots import ShotTask
from cluster.staff import bench, hired, left, loaded, relieved, yielding
from cluster.state import GANG, ROLES, Canvas, Limits, State, Step, Worker
from cluster.stopping import early
from cluster.suspects import CONDUCTOR, in_line, passed, place
from cluster.trouble import lost, raised, woken
from cluster.upstream import followed, left_waiting, received

__all__ = ["GANG", "ROLES", "Canvas", "Limits", "State", "Worker", "decide"]


def decide(state: State, event: Event) -> Step:
    """Take up one event, then give every idle worker what it can do."""
    state, actions = followed(*_HANDLERS[type(event)](state, event))
    for wanting in (_overrun, overspent, overdue, relieved):
        state, ends = followed(*wanting(state))
        actions += ends
    if state.held:
        return state, actions
    state, windows = _assign_windows(state)
    state, tasks = followed(*_assign_tasks(state))
    return state, [*actions, *windows, *tasks]


# Taking up events. A worker given up for lost may still answer: what counts is who is believed to be at it.


def _admit(state: State, event: Admitted) -> Step:
    """A film for which a canvas is free is begun as soon as its prompts are there, and weighed now."""
    state, actions = received(state, event.film, event.results)
    row = event.film.row_id
    if row not in state.films or state.held or not _has_room(state):
        return state, actions
    state, ends = pressed(state, [row])
    return state, [*actions, *ends]


def _hire(state: State, event: Hired) -> Step:
    return hired(state, event.worker, Worker(event.role, event.capacity, host=event.host)), []


def _turn(state: State, event: Turned) -> Step:
    canvas = state.canvases.get(event.shot)
    if canvas is None or canvas.opening != event.opening:
        return state, []
    state = passed(state, event.shot, event.step)
    canvas = state.canvases[event.shot]
    missing = frozenset(canvas.task.course.parts_at(event.step))
    canvas = replace(canvas, step=event.step, missing=missing)
    windows = state.windows.put(*((canvas.rank, window) for window in canvas.windows))
    return replace(state, canvases=state.canvases.set(event.shot, canvas), windows=windows), []


def _predicted(state: State, event: Predicted) -> Step:
    window = event.window
    if state.predicting.get(window) != event.gang:
        return state, []
    state = loaded(replace(state, predicting=state.predicting.delete(window)), event.gang, -1)
    if event.fared is not None:
        state = did_well(timed(state, event.gang, event.fared.seconds), event.gang)
    canvas = state.canvases.get(window.shot)
    if canvas is None or canvas.opening != window.opening:
        return state, []
    canvas = replace(canvas, missing=canvas.missing - {window.part})
    n = len(canvas.task.course.predictions_of(window.step, window.part))
    state = replace(state, canvases=state.canvases.set(window.shot, canvas), pace=state.pace.more(n))
    if canvas.missing:
        return state, []
    return state, [Advance(canvas.conductor, canvas.task, canvas.opening, canvas.step)]


def _done(state: State, event: Done) -> Step:
    if state.running.get(event.key) == event.worker:
        state, _ = put_back(state, event.key)  # its conductor has closed the canvas itself
        state = did_well(state, event.worker)
    # Otherwise a worker given up for lost was only late: its marker is as good as any.
    state = replace(state, pace=state.pace.after(event.outcome))
    return with_result(state, event.key, event.outcome)


def _tick(state: State, event: Ticked) -> Step:
    spent_gpu_s = max(state.spent_gpu_s, event.spent_gpu_s)
    state = replace(state, now_s=max(state.now_s, event.now_s), spent_gpu_s=spent_gpu_s)
    state = woken(forgiven(state))
    return replace(state, pace=state.pace.at(state.now_s, state.gangs, state.held)), []


# Orders, of a person or of a limit.


def _hold(state: State, event: Held) -> Step:
    return replace(state, holds=state.holds | {event.reason}), []


def _resume(state: State, event: Resumed) -> Step:
    """Also after a cancel, which is of a person too; a budget or a deadline stays."""
    taken_back = state.closing is not None and state.closing.code == CANCELLED
    closing = None if taken_back else state.closing
    return replace(state, holds=state.holds - {event.reason}, closing=closing), []


def _end(state: State, event: Ended) -> Step:
    """Films end as they are, or all do, those to come among them."""
    actions: list[Action] = []
    if event.rows is None:
        state = replace(state, closing=event.failure)
    else:
        state = replace(state, endings=state.endings.update(dict.fromkeys(event.rows, event.failure)))
    rows = list(state.films) if event.rows is None else event.rows
    for row in sorted(row for row in rows if row in state.films):
        state, more = ended(state, row, event.failure)
        actions += more
    state, more = left_waiting(state, event.rows)
    return state, [*actions, *more]


def _budget(state: State, event: Budgeted) -> Step:
    """A hard budget, or a soft one, which opens the job again to films that have not come yet."""
    if not event.soft:
        return replace(state, limits=replace(state.limits, budget_gpu_s=event.gpu_s)), []
    opened = state.cut is not None and state.cut.code == SOFT
    limits = replace(state.limits, soft_gpu_s=event.gpu_s)
    return replace(state, limits=limits, cut=None if opened else state.cut), []


def _reprieve(state: State, event: Reprieved) -> Step:
    endings = Map({row: failure for row, failure in state.endings.items() if row not in event.rows})
    return replace(state, endings=endings), []


def _rank(state: State, event: Ranked) -> Step:
    state = replace(state, urgent=state.urgent.update(dict.fromkeys(event.rows, event.priority)))
    for row in sorted(row for row in event.rows if row in state.films):
        state = reranked(state, row, event.priority)
    return state, []


def _drain(state: State, event: Draining) -> Step:
    """Shots move to conductors elsewhere, from where they are; calls under way end by themselves."""
    actions: list[Action] = []
    state = left(bench(replace(state, draining=state.draining | {event.host}), event.host), event.host)
    for key, canvas in sorted(state.canvases.items()):
        if state.workers[canvas.conductor].host == event.host:
            state, dropped = put_back(state, key, save=True)
            actions += dropped
    return state, actions


def _yield(state: State, event: Yielding) -> Step:
    return yielding(state, event.worker), []


def _overrun(state: State) -> Step:
    """The job ends early if it should."""
    if state.closing is not None or (failure := early(state)) is None:
        return state, []
    return _end(state, Ended(None, failure))


_HANDLERS: dict[type, Callable[..., Step]] = {
    Admitted: _admit,
    Hired: _hire,
    Turned: _turn,
    Predicted: _predicted,
    Done: _done,
    Raised: raised,
    Lost: lost,
    Ticked: _tick,
    Held: _hold,
    Resumed: _resume,
    Ended: _end,
    Budgeted: _budget,
    Reprieved: _reprieve,
    Ranked: _rank,
    Draining: _drain,
    Yielding: _yield,
}


# Giving out work: the first in line to the least busy, on another host where one may be to blame.


def _assign_windows(state: State) -> Step:
    actions: list[Action] = []
    while state.windows and (gangs := state.idle.get(GANG)):
        found = pairing(state, gangs)
        if found is None:
            break
        at, gang = found
        entry = _, window = state.windows[at]
        windows, predicting = state.windows.taken(entry), state.predicting.set(window, gang)
        state = replace(state, windows=windows, predicting=predicting)
        task = state.canvases[window.shot].task
        state = with_model(loaded(state, gang, +1), gang, task.model)
        actions.append(Predict(gang, task, window))
    return state, actions


def _assign_tasks(state: State) -> Step:
    state, actions = _assign_suspects(state) if state.suspects else (state, [])
    for role in sorted(state.ready):
        while (line := state.ready.get(role)) and (idle := state.idle.get(role)):
            if role == CONDUCTOR and not _has_room(state):
                break
            keys = [key for _, key in line[: AHEAD + len(state.suspects)] if key not in state.suspects]
            found = pair(state, keys[:AHEAD], idle) if keys else None
            if found is None:
                break
            at, worker = found
            state, more = _begin_in_time(state, keys[at], worker)
            actions += more
    return state, actions


def _assign_suspects(state: State) -> Step:
    """Before all others, as their conductors may be taken from those."""
    actions: list[Action] = []
    for key in in_line(state):
        if _has_room(state):
            state, conductor, more = place(state, key)
            actions += more
            if conductor is not None:
                state, begin = _begin(state, key, conductor, alone=True)
                actions.append(begin)
    return state, actions


def _has_room(state: State) -> bool:
    return len(state.canvases) + state.undecoded < state.limits.max_canvases


def _begin_in_time(state: State, key: str, worker: str) -> Step:
    """Begin a task, unless it would begin films for which there is no time: they end, and all behind them."""
    if isinstance(state.tasks[key], ShotTask):
        state, ends = pressed(state, state.users[key])
        if ends:
            return state, ends
    state, begin = _begin(state, key, worker)
    return state, [begin]


def _begin(state: State, key: str, worker: str, alone: bool = False) -> tuple[State, Action]:
    task = eased(state.tasks[key], state.strikes.get(key, Map()).get("GPU_OOM", 0))
    state = begun(state, key, worker)
    if not isinstance(task, ShotTask):
        return state, Run(worker, task)
    state, opening = with_begun(state, key), state.openings + 1
    canvas = Canvas(task, worker, opening, state.ranks[key], alone=alone)
    state = opened(state, task.model)
    state = loaded(state, worker, state.workers[worker].capacity - 1) if alone else state
    state = replace(state, openings=opening, canvases=state.canvases.set(key, canvas))
    return state, Open(worker, task, opening)
