"""What an error or a lost worker means: another try, later or elsewhere, or the end of the task.

Decides: whether a task is tried again, when, and which hosts are left alone. Does not decide: what classes of
errors mean (classes), or who gets the work then (dispatch).
"""

from dataclasses import replace

from immutables import Map

from cluster.classes import CLASSES, gives_up, wait_s
from cluster.events import Action, Lost, Raised, Replace, Window
from cluster.films import put_back, queued, with_result
from cluster.hosts import acquitted, refunded, struck
from cluster.outcomes import Failure, Scene
from cluster.staff import dismissed, loaded
from cluster.state import Piece, State, Step
from cluster.suspects import counted, limit


def raised(state: State, event: Raised) -> Step:
    """A call raised, its worker lives."""
    key, window, failure = event.key, event.window, event.failure
    at_it = state.running.get(key) if window is None else state.predicting.get(window)
    if at_it != event.worker:
        return state, []
    if window is not None:
        state = loaded(replace(state, predicting=state.predicting.delete(window)), event.worker, -1)
        canvas = state.canvases.get(key)
        if canvas is None or canvas.opening != window.opening:
            return state, []
    if not state.wants(key):
        return put_back(state, key)
    state = _counted(state, key, failure.error_class)
    if CLASSES[failure.error_class].blames_host:
        state = struck(state, event.worker, [key])
    if gives_up(state.strikes[key], failure.error_class, state.limits.max_tries):
        step = state.canvases[key].step if key in state.canvases else -1
        piece = (key, step, window.part if window is not None else -1)
        failure = _at(failure, piece, event.worker, _host(state, event.worker))
        state, actions = put_back(state, key)
        state, more = _given_up(state, key, failure)
        return state, [*actions, *more]
    return put_back(_waiting(state, key, failure.error_class), key)


def _given_up(state: State, key: str, failure: Failure) -> Step:
    """A task, or with it the job, is not tried again."""
    if CLASSES[failure.error_class].ends_job:
        return replace(state, ruin=failure), []
    return with_result(acquitted(state, key), key, failure)


def _counted(state: State, key: str, name: str) -> State:
    """One more error of a class has struck a task."""
    of_task = state.strikes.get(key, Map())
    return replace(state, strikes=state.strikes.set(key, of_task.set(name, of_task.get(name, 0) + 1)))


def _waiting(state: State, key: str, name: str) -> State:
    """The task waits before it is tried again; with an error of what all share, everything does."""
    seconds = state.limits.patience * wait_s(name, state.strikes[key][name], key)
    if not seconds:
        return state
    until = state.now_s + seconds
    paused = max(state.paused_until_s, until) if CLASSES[name].shared else state.paused_until_s
    waiting = state.waiting.set(key, until)
    return replace(state, waiting=waiting, alarms=state.alarms.put((until, key)), paused_until_s=paused)


def woken(state: State) -> State:
    """Tasks whose wait is over stand in line again."""
    while state.alarms and state.alarms[0][0] <= state.now_s:
        until, key = state.alarms[0]
        state = replace(state, alarms=state.alarms.taken((until, key)))
        if state.waiting.get(key) == until:
            state = queued(replace(state, waiting=state.waiting.delete(key)), key)
    return state


def lost(state: State, event: Lost) -> Step:
    """Put back what the worker was at; blame a task that loses one worker after another."""
    if event.worker not in state.workers:
        return state, []
    pieces, actions, host = _pieces(state, event.worker), list[Action](), _host(state, event.worker)
    if event.failure is not None and CLASSES[event.failure.error_class].blames_host:
        state = struck(state, event.worker, {key for key, _, _ in pieces if state.wants(key)})
    for key in [key for key, worker in state.running.items() if worker == event.worker]:
        state, _ = put_back(state, key)  # what it held is gone with it
    for window in sorted(window for window, gang in state.predicting.items() if gang == event.worker):
        state = _again(replace(state, predicting=state.predicting.delete(window)), window)
    state = dismissed(state, event.worker)
    for piece in pieces:
        state, more = _blame(state, piece, event, host, alone=len(pieces) == 1)
        actions += more
    return state, [Replace(event.worker), *actions]


def _again(state: State, window: Window) -> State:
    """A window waits for a gang again, if its canvas is still open."""
    canvas = state.canvases.get(window.shot)
    if canvas is None or canvas.opening != window.opening:
        return state
    return replace(state, windows=state.windows.put((canvas.rank, window)))


def _pieces(state: State, worker: str) -> list[Piece]:
    """What a worker is at, named alike in every opening of a shot: a long shot may lose many workers."""
    tasks = sorted(key for key, other in state.running.items() if other == worker)
    windows = sorted(window for window, other in state.predicting.items() if other == worker)
    return [
        *((key, state.canvases[key].step if key in state.canvases else -1, -1) for key in tasks),
        *((window.shot, window.step, window.part) for window in windows),
    ]


def _host(state: State, worker: str) -> str:
    return state.workers[worker].host if worker in state.workers else ""


def _at(failure: Failure, piece: Piece, worker: str, host: str) -> Failure:
    """The failure with where it happened last."""
    return replace(failure, scene=Scene(piece[1], piece[2], worker, host))


def _blame(state: State, piece: Piece, event: Lost, host: str, alone: bool) -> Step:
    """Count a lost worker against what it was at, which may be one thing of many.

    Errors that are charged count for the whole task, where nothing else can have caused them. Others may
    strike a long task as often as they do, but not one piece of it: only what comes back is the task's.
    """
    key, cause = piece[0], event.failure and _at(event.failure, piece, event.worker, host)
    if not state.wants(key):
        return state, []
    name = cause.error_class if cause is not None else ""
    if cause is not None and alone and CLASSES[name].charged and name != "TIMEOUT":
        state = _counted(state, key, name)
        if gives_up(state.strikes[key], name, state.limits.max_tries):
            return _given_up(state, key, cause)
    state, losses = counted(state, piece, name, alone)
    if losses < limit(state.limits, name):
        return state, []
    if cause is not None:
        return _given_up(state, key, cause)
    message = f"{losses} workers died at the same piece of this {state.tasks[key].kind}"
    hint = "look at the workers' logs for the cause, then run again"
    failure = _at(Failure("E910_POISON", message, hint, "POISON"), piece, event.worker, host)
    return with_result(refunded(state, key), key, failure)
