"""What dispatch knows: films, their tasks and results, open canvases, workers. Frozen data, no Ray, no clock.

Decides: what follows from a result, from a task put back, from a film that ended. Does not decide: what an
event means, or who gets which work (dispatch).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cluster.events import Action, Drop, FilmDone, Window
from cluster.tasks import Failure, FilmTasks, Outcome, ShotTask, Task

Piece = tuple[str, int, int]  # what a worker was at: task, step and part, -1 where there is none
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Limits:
    """How much may be under way, and how often a task may be tried."""

    max_canvases: int = 4
    max_films: int = 8
    max_tries: int = 3  # of a task that raises
    max_losses: int = 4  # of workers by one piece of a task: after that the task is to blame


@dataclass(frozen=True)
class Canvas:
    """An open shot: who conducts it, and the parts of its step that are still to be predicted."""

    task: ShotTask
    conductor: str
    opening: int
    step: int = -1  # until the conductor has answered
    missing: frozenset[int] = frozenset()

    @property
    def windows(self) -> tuple[Window, ...]:
        """The missing parts, under way or not."""
        return tuple(Window(self.task.key, self.opening, self.step, part) for part in sorted(self.missing))


@dataclass(frozen=True)
class Worker:
    """Who can be called, and for how many calls at once; a conductor's are its open canvases."""

    role: str
    capacity: int


@dataclass(frozen=True)
class State:
    """All that the decisions depend on. Mappings keep their order, which is the order of admission."""

    limits: Limits = field(default_factory=Limits)
    films: Mapping[str, FilmTasks] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    results: Mapping[str, Outcome | Failure] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)  # task -> worker, shots -> conductor
    canvases: Mapping[str, Canvas] = field(default_factory=dict)
    predicting: Mapping[Window, str] = field(default_factory=dict)  # window -> gang
    workers: Mapping[str, Worker] = field(default_factory=dict)
    tries: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[Piece, int] = field(default_factory=dict)
    openings: int = 0

    @property
    def queue(self) -> tuple[Window, ...]:
        """Windows that wait for a gang, those of the oldest film first, so that films finish one by one."""
        oldest_first = (self.canvases[key] for key in self.tasks if key in self.canvases)
        return tuple(w for canvas in oldest_first for w in canvas.windows if w not in self.predicting)

    @property
    def undecoded(self) -> set[str]:
        """Shots whose latents wait for the decoder."""
        return {
            task.needs[0]
            for key, task in self.tasks.items()
            if task.kind == "segment" and key not in self.results and task.needs[0] in self.results
        }

    def wants(self, key: str) -> bool:
        """Whether a task's result would make a difference."""
        return key in self.tasks and key not in self.results


def without(mapping: Mapping[K, V], key: K) -> dict[K, V]:
    """The mapping less one key."""
    return {k: v for k, v in mapping.items() if k != key}


def put_back(state: State, key: str) -> tuple[State, list[Action]]:
    """A task is no longer under way. Windows of its canvas that are under way will come back to nobody."""
    canvas = state.canvases.get(key)
    actions: list[Action] = [Drop(canvas.conductor, key, canvas.opening)] if canvas else []
    running, canvases = without(state.running, key), without(state.canvases, key)
    return replace(state, running=running, canvases=canvases), actions


def with_result(state: State, key: str, result: Outcome | Failure) -> State:
    """A task has its result, unless it had one or nobody wants it any more."""
    if not state.wants(key):
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


def settle(state: State) -> tuple[State, list[Action]]:
    """Let go of films of which nothing is left to do, and of all that only they needed."""
    ended = [film for film in state.films.values() if all(task.key in state.results for task in film.wanted)]
    actions: list[Action] = [FilmDone(film, _picked(state.results, film.tasks)) for film in ended]
    if ended:
        rows = {film.row_id for film in ended}
        films = {row: film for row, film in state.films.items() if row not in rows}
        state = trimmed(replace(state, films=films))
    for key in state.canvases:  # simple tasks that nobody wants run out by themselves
        if not state.wants(key):
            state, dropped = put_back(state, key)
            actions += dropped
    return state, actions


def trimmed(state: State) -> State:
    """Keep the tasks that the films still need, oldest film first, and what has come of them."""
    tasks: dict[str, Task] = {}
    used: set[str] = set()
    for film in state.films.values():
        tasks |= film.unfinished(state.results)
        used |= film.tasks.keys()
    outcomes = {key for key in used if isinstance(state.results.get(key), Outcome)}
    return replace(
        state,
        tasks=tasks,
        results=_picked(state.results, outcomes | tasks.keys()),
        tries=_picked(state.tries, tasks),
        losses={piece: n for piece, n in state.losses.items() if piece[0] in tasks},
    )


def _picked(mapping: Mapping[str, V], keys: Container[str]) -> dict[str, V]:
    return {key: value for key, value in mapping.items() if key in keys}
