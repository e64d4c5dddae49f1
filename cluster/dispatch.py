"""Decides who does what next: `(state, event) -> (state, actions)` on frozen data. No Ray, no clock.

A film's tasks wait until what they need is done. Most tasks are one call of one worker. A shot is a
conversation: a conductor opens its canvas, then at every step each part of the step goes to any idle gang,
and when the last prediction is in, the conductor advances. Windows of all open shots wait in one queue.

Back-pressure: a shot opens only while fewer than `max_canvases` shots are open or wait to be decoded, so a
slow decoder stops the denoising ahead of it rather than filling the disk.

Does not decide: how a worker is reached, started or found dead (crew), or what a failure means to a person.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

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
)
from cluster.state import (
    Canvas,
    Limits,
    Piece,
    State,
    Worker,
    put_back,
    settle,
    trimmed,
    with_result,
    without,
)
from cluster.tasks import Failure, Outcome, ShotTask, Task

__all__ = ["GANG", "ROLES", "Canvas", "Limits", "State", "Worker", "decide"]

ROLES = {
    "prompt": "encode",
    "given": "encode",
    "shot": "conduct",
    "segment": "decode",
    "master": "finish",
    "version": "finish",
}
GANG = "denoise"


def decide(state: State, event: Event) -> tuple[State, list[Action]]:
    """Take up one event, then give every idle worker what it can do."""
    state, actions = _HANDLERS[type(event)](state, event)
    state, settled = settle(state)
    load = Counter([*state.running.values(), *state.predicting.values()])
    state, windows = _assign_windows(state, load)
    state, tasks = _assign_tasks(state, load)
    return state, [*actions, *settled, *windows, *tasks]


# Taking up events. A worker given up for lost may still answer: what counts is who is believed to be at it.


def _admit(state: State, event: Admitted) -> tuple[State, list[Action]]:
    films = {**state.films, event.film.row_id: event.film}
    results = {**event.results, **state.results}
    return trimmed(replace(state, films=films, results=results)), []


def _hire(state: State, event: Hired) -> tuple[State, list[Action]]:
    workers = {**state.workers, event.worker: Worker(event.role, event.capacity)}
    return replace(state, workers=workers), []


def _turn(state: State, event: Turned) -> tuple[State, list[Action]]:
    canvas = state.canvases.get(event.shot)
    if canvas is None or canvas.opening != event.opening:
        return state, []
    missing = frozenset(canvas.task.course.parts_at(event.step))
    ready = replace(canvas, step=event.step, missing=missing)
    return replace(state, canvases={**state.canvases, event.shot: ready}), []


def _predicted(state: State, event: Predicted) -> tuple[State, list[Action]]:
    window = event.window
    if state.predicting.get(window) != event.gang:
        return state, []
    state = replace(state, predicting=without(state.predicting, window))
    canvas = state.canvases.get(window.shot)
    if canvas is None or canvas.opening != window.opening:
        return state, []
    canvas = replace(canvas, missing=canvas.missing - {window.part})
    state = replace(state, canvases={**state.canvases, window.shot: canvas})
    if canvas.missing:
        return state, []
    return state, [Advance(canvas.conductor, canvas.task, canvas.opening, canvas.step)]


def _done(state: State, event: Done) -> tuple[State, list[Action]]:
    if state.running.get(event.key) == event.worker:
        state, _ = put_back(state, event.key)  # its conductor has closed the canvas itself
    # Otherwise a worker given up for lost was only late: its marker is as good as any.
    return with_result(state, event.key, event.outcome), []


def _raised(state: State, event: Raised) -> tuple[State, list[Action]]:
    key, window = event.key, event.window
    at_it = state.running.get(key) if window is None else state.predicting.get(window)
    if at_it != event.worker:
        return state, []
    if window is not None:
        state = replace(state, predicting=without(state.predicting, window))
        canvas = state.canvases.get(key)
        if canvas is None or canvas.opening != window.opening:
            return state, []
    state, actions = put_back(state, key)
    if not state.wants(key):
        return state, actions
    tries = state.tries.get(key, 0) + 1
    state = replace(state, tries={**state.tries, key: tries})
    if event.final or tries >= state.limits.max_tries:
        state = with_result(state, key, event.failure)
    return state, actions


def _lost(state: State, event: Lost) -> tuple[State, list[Action]]:
    """Put back what the worker was at; blame a task that loses one worker after another."""
    if event.worker not in state.workers:
        return state, []
    pieces = _pieces(state, event.worker)
    predicting = {window: gang for window, gang in state.predicting.items() if gang != event.worker}
    state = replace(state, workers=without(state.workers, event.worker), predicting=predicting)
    for key in [key for key, worker in state.running.items() if worker == event.worker]:
        state, _ = put_back(state, key)  # what it held is gone with it
    for piece in pieces:
        state = _blame(state, piece)
    return state, [Replace(event.worker)]


def _pieces(state: State, worker: str) -> list[Piece]:
    """What a worker is at, named alike in every opening of a shot: a long shot may lose many workers."""
    tasks = [key for key, other in state.running.items() if other == worker]
    windows = [window for window, other in state.predicting.items() if other == worker]
    return [
        *((key, state.canvases[key].step if key in state.canvases else -1, -1) for key in tasks),
        *((window.shot, window.step, window.part) for window in windows),
    ]


def _blame(state: State, piece: Piece) -> State:
    """Count a lost worker against what it was at."""
    key = piece[0]
    if not state.wants(key):
        return state
    losses = state.losses.get(piece, 0) + 1
    state = replace(state, losses={**state.losses, piece: losses})
    if losses < state.limits.max_losses:
        return state
    message = f"{losses} workers died at the same piece of this {state.tasks[key].kind}"
    failure = Failure("E910_POISON", message, "look at the workers' logs for the cause, then run again")
    return with_result(state, key, failure)


_HANDLERS: dict[type, Callable[..., tuple[State, list[Action]]]] = {
    Admitted: _admit,
    Hired: _hire,
    Turned: _turn,
    Predicted: _predicted,
    Done: _done,
    Raised: _raised,
    Lost: _lost,
}


# Giving out work. `load` counts the calls of every worker, and is kept up to date as work is given out.


def _idle(state: State, load: Counter[str], role: str) -> str | None:
    """The least busy worker of a role that can take a call."""
    free = [
        (load[name], name) for name, w in state.workers.items() if w.role == role and load[name] < w.capacity
    ]
    return min(free)[1] if free else None


def _assign_windows(state: State, load: Counter[str]) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for window in state.queue:
        gang = _idle(state, load, GANG)
        if gang is None:
            break
        load[gang] += 1
        state = replace(state, predicting={**state.predicting, window: gang})
        actions.append(Predict(gang, state.canvases[window.shot].task, window))
    return state, actions


def _assign_tasks(state: State, load: Counter[str]) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    room = state.limits.max_canvases - len(state.canvases) - len(state.undecoded)
    for key, task in state.tasks.items():
        if key in state.results or key in state.running or not _ready(state, task):
            continue
        worker = _idle(state, load, ROLES[task.kind])
        if worker is None or (task.kind == "shot" and room < 1):
            continue
        load[worker] += 1
        state = replace(state, running={**state.running, key: worker})
        if isinstance(task, ShotTask):
            room -= 1
            state, opened = _open(state, task, worker)
            actions.append(opened)
        else:
            actions.append(Run(worker, task))
    return state, actions


def _open(state: State, task: ShotTask, conductor: str) -> tuple[State, Open]:
    opening = state.openings + 1
    canvases = {**state.canvases, task.key: Canvas(task, conductor, opening)}
    return replace(state, openings=opening, canvases=canvases), Open(conductor, task, opening)


def _ready(state: State, task: Task) -> bool:
    return all(isinstance(state.results.get(need), Outcome) for need in task.needs)
