"""Decides who does what next: `(state, event) -> (state, actions)` on frozen data. No Ray, no clock.

A film's tasks wait until what they need is done. Most tasks are one call of one worker. A shot is a
conversation: a conductor opens its canvas, then at every step each part of the step goes to any idle gang,
and when the last prediction is in, the conductor advances. Windows of all open shots wait in one queue.

Back-pressure: a shot opens only while fewer than `max_canvases` shots are open or wait to be decoded, so a
slow decoder stops the denoising ahead of it rather than filling the disk.

Does not decide: how a worker is reached, started or found dead (crew), or what a failure means to a person.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cluster.events import (
    Action,
    Admitted,
    Advance,
    Done,
    Drop,
    Event,
    FilmDone,
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
from cluster.tasks import Failure, FilmTasks, Outcome, ShotTask, Task

ROLES = {"prompt": "encode", "shot": "conduct", "segment": "decode", "master": "finish", "version": "finish"}
GANG = "denoise"
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Limits:
    """How much may be under way, and how often a task may be tried."""

    max_canvases: int = 4
    max_films: int = 8
    max_tries: int = 3  # of a task that raises
    max_losses: int = 4  # of workers by one task: after that the task is to blame


@dataclass(frozen=True)
class Canvas:
    """An open shot: who conducts it, and the parts of its step that are still to be predicted."""

    task: ShotTask
    conductor: str
    opening: int
    step: int = -1  # until the conductor has answered
    missing: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Worker:
    """A worker and the calls it has under way."""

    role: str
    capacity: int
    busy: int = 0


@dataclass(frozen=True)
class State:
    """All that the decisions depend on. Mappings keep their order, which is the order of admission."""

    limits: Limits = field(default_factory=Limits)
    films: Mapping[str, FilmTasks] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    results: Mapping[str, Outcome | Failure] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)  # task -> worker, shots -> conductor
    canvases: Mapping[str, Canvas] = field(default_factory=dict)
    queue: tuple[Window, ...] = ()
    predicting: Mapping[Window, str] = field(default_factory=dict)  # window -> gang
    workers: Mapping[str, Worker] = field(default_factory=dict)
    tries: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[str, int] = field(default_factory=dict)
    openings: int = 0

    @property
    def wants_film(self) -> bool:
        """Whether there is room for another film."""
        return len(self.films) < self.limits.max_films


def decide(state: State, event: Event) -> tuple[State, list[Action]]:
    """Take up one event, then give every idle worker what it can do."""
    state, actions = _HANDLERS[type(event)](state, event)
    state, settled = _settle(state)
    state, assigned = _assign(state)
    return state, [*actions, *settled, *assigned]


# Taking up events.


def _admit(state: State, event: Admitted) -> tuple[State, list[Action]]:
    film = event.film
    films = {**state.films, film.row_id: film}
    return _spread(replace(state, films=films, tasks={**state.tasks, **film.tasks})), []


def _hire(state: State, event: Hired) -> tuple[State, list[Action]]:
    workers = {**state.workers, event.worker: Worker(event.role, event.capacity)}
    return replace(state, workers=workers), []


def _turn(state: State, event: Turned) -> tuple[State, list[Action]]:
    canvas = state.canvases.get(event.shot)
    if canvas is None or canvas.opening != event.opening:
        return state, []
    parts = range(len(canvas.task.parts[0]))
    ready = replace(canvas, step=event.step, missing=frozenset(parts))
    windows = tuple(Window(event.shot, event.opening, event.step, part) for part in parts)
    return replace(state, canvases={**state.canvases, event.shot: ready}, queue=_in_order(state, windows)), []


def _in_order(state: State, windows: Iterable[Window]) -> tuple[Window, ...]:
    """The queue with `windows` in it: canvases opened first come first, so that films finish one by one."""
    return tuple(sorted({*state.queue, *windows}, key=lambda w: (w.opening, w.step, w.part)))


def _predicted(state: State, event: Predicted) -> tuple[State, list[Action]]:
    state = _free(state, event.gang)
    state = replace(state, predicting=_without(state.predicting, event.window))
    canvas = state.canvases.get(event.window.shot)
    if canvas is None or (canvas.opening, canvas.step) != (event.window.opening, event.window.step):
        return state, []
    left = replace(canvas, missing=canvas.missing - {event.window.part})
    state = replace(state, canvases={**state.canvases, event.window.shot: left})
    if left.missing:
        return state, []
    return state, [Advance(canvas.conductor, canvas.task, canvas.opening, canvas.step)]


def _done(state: State, event: Done) -> tuple[State, list[Action]]:
    if state.running.get(event.key) == event.worker:
        return _result(_stop(state, event.key, event.worker), event.key, event.outcome), []
    # A worker given up for lost was only late. Its marker is as good as any: stop whoever does it again.
    state, actions = _put_back(state, event.key)
    return _result(state, event.key, event.outcome), actions


def _raised(state: State, event: Raised) -> tuple[State, list[Action]]:
    if event.window is not None:
        state = _free(state, event.worker)
        state = replace(state, predicting=_without(state.predicting, event.window))
        canvas = state.canvases.get(event.key)
        if canvas is None or canvas.opening != event.window.opening:
            return state, []
    elif state.running.get(event.key) != event.worker:
        return state, []
    state, actions = _put_back(state, event.key)
    tries = state.tries.get(event.key, 0) + 1
    state = replace(state, tries={**state.tries, event.key: tries})
    if event.final or tries >= state.limits.max_tries:
        state = _result(state, event.key, event.failure)
    return state, actions


def _lost(state: State, event: Lost) -> tuple[State, list[Action]]:
    """Put back what the worker did; blame a task that loses one worker after another."""
    if event.worker not in state.workers:
        return state, []
    state = replace(state, workers=_without(state.workers, event.worker))
    windows = [window for window, gang in state.predicting.items() if gang == event.worker]
    tasks = [key for key, worker in state.running.items() if worker == event.worker]
    actions: list[Action] = []
    for key in tasks:
        state, dropped = _put_back(state, key)
        actions += dropped
    for window in windows:
        state = replace(state, predicting=_without(state.predicting, window))
        canvas = state.canvases.get(window.shot)
        if canvas is not None and canvas.opening == window.opening:
            state = replace(state, queue=_in_order(state, [window]))
    for key, place in [*((key, key) for key in tasks), *((w.shot, _place(w)) for w in windows)]:
        state, blamed = _blame(state, key, place)
        actions += blamed
    return state, [*actions, Replace(event.worker)]


def _place(window: Window) -> str:
    """A window across reopenings of its shot: a long shot may lose many workers, one window may not."""
    return f"{window.shot}/{window.step}/{window.part}"


def _blame(state: State, key: str, place: str) -> tuple[State, list[Action]]:
    """Count a lost worker against a task, or against one window of it."""
    losses = state.losses.get(place, 0) + 1
    state = replace(state, losses={**state.losses, place: losses})
    if losses < state.limits.max_losses or key not in state.tasks:
        return state, []
    state, actions = _put_back(state, key)
    message = f"{losses} workers in a row died at the same piece of this {state.tasks[key].kind}"
    failure = Failure("E910_POISON", message, "look at the workers' logs for the cause, then run again")
    return _result(state, key, failure), actions


_HANDLERS: dict[type, Callable[..., tuple[State, list[Action]]]] = {
    Admitted: _admit,
    Hired: _hire,
    Turned: _turn,
    Predicted: _predicted,
    Done: _done,
    Raised: _raised,
    Lost: _lost,
}


# Keeping the books.


def _without(mapping: Mapping[K, V], key: K) -> dict[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def _busy(state: State, worker: str, change: int) -> State:
    held = state.workers.get(worker)
    if held is None:  # lost in the meantime
        return state
    return replace(state, workers={**state.workers, worker: replace(held, busy=held.busy + change)})


def _free(state: State, worker: str) -> State:
    return _busy(state, worker, -1)


def _stop(state: State, key: str, worker: str) -> State:
    """A task is no longer under way at `worker`; its canvas, if it has one, is closed."""
    if state.running.get(key) != worker:
        return state
    canvases, queue = _without(state.canvases, key), tuple(w for w in state.queue if w.shot != key)
    state = replace(state, running=_without(state.running, key), canvases=canvases, queue=queue)
    return _free(state, worker)


def _put_back(state: State, key: str) -> tuple[State, list[Action]]:
    """A task waits again; windows of its canvas that are under way will come back to nobody."""
    worker, canvas = state.running.get(key), state.canvases.get(key)
    if worker is None:
        return state, []
    living = worker in state.workers
    state = _stop(state, key, worker)
    return state, [Drop(worker, key, canvas.opening)] if canvas is not None and living else []


def _result(state: State, key: str, result: Outcome | Failure) -> State:
    """A task has its result, unless it had one or nobody wants it any more."""
    if key not in state.tasks or key in state.results:
        return state
    return _spread(replace(state, results={**state.results, key: result}))


def _spread(state: State) -> State:
    """What needs a failed task fails with its failure."""
    results = dict(state.results)
    for task in state.tasks.values():  # in order of need, so that one pass reaches all dependents
        failed = [f for f in map(results.get, task.needs) if isinstance(f, Failure)]
        if failed and task.key not in results:
            results[task.key] = failed[0]
    return replace(state, results=results)


def _settle(state: State) -> tuple[State, list[Action]]:
    """Let go of films of which nothing is left to do, and of what only they needed."""
    actions: list[Action] = []
    for film in state.films.values():
        wanted = [film.master.key, *(version.key for version in film.versions)]
        if all(key in state.results for key in wanted):
            actions.append(
                FilmDone(film, {key: state.results[key] for key in film.tasks if key in state.results})
            )
            state = replace(state, films=_without(state.films, film.row_id))
    if not actions:
        return state, []
    kept: dict[str, Task] = {}
    for film in state.films.values():
        kept |= film.tasks
    for key in state.running.keys() - kept.keys():
        # a shot that a failed film no longer needs; simple tasks run out by themselves
        if key in state.canvases:
            state, dropped = _put_back(state, key)
            actions += dropped
    return replace(
        state,
        tasks=kept,
        results={key: result for key, result in state.results.items() if key in kept},
        tries={key: n for key, n in state.tries.items() if key in kept},
        losses={place: n for place, n in state.losses.items() if place.split("/")[0] in kept},
    ), actions


# Giving out work.


def _assign(state: State) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for assign in (_assign_windows, _assign_tasks):
        state, assigned = assign(state)
        actions += assigned
    return state, actions


def _idle(state: State, role: str) -> str | None:
    """The least busy worker of a role that can take a call."""
    free = [(w.busy, name) for name, w in state.workers.items() if w.role == role and w.busy < w.capacity]
    return min(free)[1] if free else None


def _assign_windows(state: State) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    while state.queue and (gang := _idle(state, GANG)) is not None:
        window, *rest = state.queue
        state = replace(
            _busy(state, gang, 1), queue=tuple(rest), predicting={**state.predicting, window: gang}
        )
        actions.append(Predict(gang, state.canvases[window.shot].task, window))
    return state, actions


def _assign_tasks(state: State) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for key, task in state.tasks.items():
        if key in state.results or key in state.running or not _ready(state, task):
            continue
        if isinstance(task, ShotTask) and _open_shots(state) >= state.limits.max_canvases:
            continue
        worker = _idle(state, ROLES[task.kind])
        if worker is None:
            continue
        state = replace(_busy(state, worker, 1), running={**state.running, key: worker})
        if isinstance(task, ShotTask):
            opening = state.openings + 1
            canvas = Canvas(task, worker, opening)
            state = replace(state, openings=opening, canvases={**state.canvases, key: canvas})
            actions.append(Open(worker, task, opening))
        else:
            actions.append(Run(worker, task))
    return state, actions


def _ready(state: State, task: Task) -> bool:
    return all(isinstance(state.results.get(need), Outcome) for need in task.needs)


def _open_shots(state: State) -> int:
    """Shots on a canvas, and shots whose latents wait for the decoder."""
    waiting = {
        task.needs[0]
        for key, task in state.tasks.items()
        if task.kind == "segment" and key not in state.results and task.needs[0] in state.results
    }
    return len(state.canvases) + len(waiting)
