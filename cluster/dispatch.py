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

from cluster.events import (
    Action,
    Admitted,
    Advance,
    Done,
    Event,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Replace,
    Run,
    Turned,
    Window,
)
from cluster.films import admitted, begun, put_back, with_result
from cluster.staff import dismissed, hired, loaded
from cluster.state import GANG, ROLES, Canvas, Limits, Piece, State, Step, Worker, put
from cluster.tasks import Failure, ShotTask

__all__ = ["GANG", "ROLES", "Canvas", "Limits", "State", "Worker", "decide"]


def decide(state: State, event: Event) -> Step:
    """Take up one event, then give every idle worker what it can do."""
    state, actions = _HANDLERS[type(event)](state, event)
    state, windows = _assign_windows(state)
    state, tasks = _assign_tasks(state)
    return state, [*actions, *windows, *tasks]


# Taking up events. A worker given up for lost may still answer: what counts is who is believed to be at it.


def _admit(state: State, event: Admitted) -> Step:
    return admitted(state, event.film, event.results)


def _hire(state: State, event: Hired) -> Step:
    return hired(state, event.worker, Worker(event.role, event.capacity)), []


def _turn(state: State, event: Turned) -> Step:
    canvas = state.canvases.get(event.shot)
    if canvas is None or canvas.opening != event.opening:
        return state, []
    missing = frozenset(canvas.task.course.parts_at(event.step))
    canvas = replace(canvas, step=event.step, missing=missing)
    windows = put(state.windows, ((canvas.rank, window) for window in canvas.windows))
    return replace(state, canvases=state.canvases.set(event.shot, canvas), windows=windows), []


def _predicted(state: State, event: Predicted) -> Step:
    window = event.window
    if state.predicting.get(window) != event.gang:
        return state, []
    state = loaded(replace(state, predicting=state.predicting.delete(window)), event.gang, -1)
    canvas = state.canvases.get(window.shot)
    if canvas is None or canvas.opening != window.opening:
        return state, []
    canvas = replace(canvas, missing=canvas.missing - {window.part})
    state = replace(state, canvases=state.canvases.set(window.shot, canvas))
    if canvas.missing:
        return state, []
    return state, [Advance(canvas.conductor, canvas.task, canvas.opening, canvas.step)]


def _done(state: State, event: Done) -> Step:
    if state.running.get(event.key) == event.worker:
        state, _ = put_back(state, event.key)  # its conductor has closed the canvas itself
    # Otherwise a worker given up for lost was only late: its marker is as good as any.
    return with_result(state, event.key, event.outcome)


def _raised(state: State, event: Raised) -> Step:
    key, window = event.key, event.window
    at_it = state.running.get(key) if window is None else state.predicting.get(window)
    if at_it != event.worker:
        return state, []
    if window is not None:
        state = loaded(replace(state, predicting=state.predicting.delete(window)), event.worker, -1)
        canvas = state.canvases.get(key)
        if canvas is None or canvas.opening != window.opening:
            return state, []
    state, actions = put_back(state, key)
    if not state.wants(key):
        return state, actions
    tries = state.tries.get(key, 0) + 1
    state = replace(state, tries=state.tries.set(key, tries))
    if event.final or tries >= state.limits.max_tries:
        state, more = with_result(state, key, event.failure)
        actions += more
    return state, actions


def _lost(state: State, event: Lost) -> Step:
    """Put back what the worker was at; blame a task that loses one worker after another."""
    if event.worker not in state.workers:
        return state, []
    pieces, actions = _pieces(state, event.worker), list[Action]()
    for key in [key for key, worker in state.running.items() if worker == event.worker]:
        state, _ = put_back(state, key)  # what it held is gone with it
    for window in sorted(window for window, gang in state.predicting.items() if gang == event.worker):
        state = _again(replace(state, predicting=state.predicting.delete(window)), window)
    state = dismissed(state, event.worker)
    for piece in pieces:
        state, more = _blame(state, piece, event.failure)
        actions += more
    return state, [Replace(event.worker), *actions]


def _again(state: State, window: Window) -> State:
    """A window waits for a gang again, if its canvas is still open."""
    canvas = state.canvases.get(window.shot)
    if canvas is None or canvas.opening != window.opening:
        return state
    return replace(state, windows=put(state.windows, [(canvas.rank, window)]))


def _pieces(state: State, worker: str) -> list[Piece]:
    """What a worker is at, named alike in every opening of a shot: a long shot may lose many workers."""
    tasks = sorted(key for key, other in state.running.items() if other == worker)
    windows = sorted(window for window, other in state.predicting.items() if other == worker)
    return [
        *((key, state.canvases[key].step if key in state.canvases else -1, -1) for key in tasks),
        *((window.shot, window.step, window.part) for window in windows),
    ]


def _blame(state: State, piece: Piece, cause: Failure | None) -> Step:
    """Count a lost worker against what it was at: as a try where it is known what the worker died of."""
    key = piece[0]
    if not state.wants(key):
        return state, []
    of_task = state.losses.get(key, Map())
    losses = of_task.get(piece, 0) + 1
    state = replace(state, losses=state.losses.set(key, of_task.set(piece, losses)))
    if losses < (state.limits.max_losses if cause is None else state.limits.max_tries):
        return state, []
    message = f"{losses} workers died at the same piece of this {state.tasks[key].kind}"
    poison = Failure("E910_POISON", message, "look at the workers' logs for the cause, then run again")
    return with_result(state, key, cause or poison)


_HANDLERS: dict[type, Callable[..., Step]] = {
    Admitted: _admit,
    Hired: _hire,
    Turned: _turn,
    Predicted: _predicted,
    Done: _done,
    Raised: _raised,
    Lost: _lost,
}


# Giving out work: the first in line to the least busy.


def _assign_windows(state: State) -> Step:
    actions: list[Action] = []
    gangs = state.idle.get(GANG, ())
    n = min(len(gangs), len(state.windows))
    for (_, window), (_, gang) in zip(state.windows[:n], gangs[:n], strict=True):
        state = loaded(replace(state, predicting=state.predicting.set(window, gang)), gang, +1)
        actions.append(Predict(gang, state.canvases[window.shot].task, window))
    return replace(state, windows=state.windows[n:]) if n else state, actions


def _assign_tasks(state: State) -> Step:
    actions: list[Action] = []
    for role in sorted(state.ready):
        while (line := state.ready.get(role)) and (idle := state.idle.get(role)):
            if role == "conduct" and not _has_room(state):
                break
            (_, key), (_, worker) = line[0], idle[0]
            state, begin = _begin(state, key, worker)
            actions.append(begin)
    return state, actions


def _has_room(state: State) -> bool:
    return len(state.canvases) + state.undecoded < state.limits.max_canvases


def _begin(state: State, key: str, worker: str) -> tuple[State, Action]:
    task = state.tasks[key]
    state = begun(state, key, worker)
    if not isinstance(task, ShotTask):
        return state, Run(worker, task)
    opening = state.openings + 1
    canvas = Canvas(task, worker, opening, state.ranks[key])
    return (
        replace(state, openings=opening, canvases=state.canvases.set(key, canvas)),
        Open(worker, task, opening),
    )
