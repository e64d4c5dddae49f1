"""What dispatch knows: films, their tasks and results, open canvases, workers. Frozen data, no Ray, no clock.

Mappings are persistent (immutables.Map): a changed one shares what did not change, so that a decision costs
the same whether ten films are under way or ten thousand; so do the lines in which tasks, windows and idle
workers stand.

Decides: how what is known lies in memory. Does not decide: what follows from a result or an event (films,
dispatch).
"""

import math
from dataclasses import dataclass, field
from typing import Any

from immutables import Map

from cluster.events import Action, Window
from cluster.identity import Model, Task
from cluster.line import Line
from cluster.outcomes import Failure, Outcome
from cluster.pace import Pace
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks

GANG = "denoise"
ROLES = {
    "prompt": "encode",
    "given": "encode",
    "shot": "conduct",
    "segment": "decode",
    "master": "finish",
    "version": "finish",
}
Piece = tuple[str, int, int]  # what a worker was at: task, step and part, -1 where there is none
Rank = tuple[int, int, int]  # a task's place in line: less its film's priority, the film's, its own there
Results = Map[str, Outcome | Failure]
EMPTY: Line[Any] = Line()
MOST_LATER = 256  # films that may wait for others before no more are drawn


@dataclass(frozen=True)
class Limits:
    """How much may be under way, how often a task may be tried, and what ends the job early.

    A job stops where `breaker_films` films have failed and they are `breaker_share` of all that ended, 0 for
    never, and where its gangs took `budget_gpu_s`, GPU-seconds in all its runs; after `soft_gpu_s` no film is
    begun. The first `canary_films` films, 0 for none, end before any other begins. Films are dropped that
    would not be done by `deadline_s`, seconds by the clock of Ticked. Waits before another try are multiplied
    by `patience`.
    """

    max_canvases: int = 4
    max_films: int = 8
    max_tries: int = 4  # charged errors of a task
    max_losses: int = 4  # of workers by one piece of a task: after that the task is to blame
    breaker_films: int = 20
    breaker_share: float = 0.1
    canary_films: int = 0
    budget_gpu_s: float = math.inf
    patience: float = 1.0
    soft_gpu_s: float = math.inf
    deadline_s: float = math.inf


@dataclass(frozen=True)
class Canvas:
    """An open shot: who conducts it, alone or not, and the parts of its step that are to be predicted."""

    task: ShotTask
    conductor: str
    opening: int
    rank: Rank = (0, 0, 0)
    step: int = -1  # until the conductor has answered
    missing: frozenset[int] = frozenset()
    alone: bool = False  # it has all hands of its conductor

    @property
    def windows(self) -> tuple[Window, ...]:
        """The missing parts, under way or not."""
        return tuple(Window(self.task.key, self.opening, self.step, part) for part in sorted(self.missing))


@dataclass(frozen=True)
class Blame:
    """One error that may be a host's fault: of which worker there, at tasks of which any may be guilty."""

    worker: str
    tasks: frozenset[str]
    at_s: float = 0.0  # when, by the clock of Ticked


@dataclass(frozen=True)
class Worker:
    """Who can be called: for how many calls at once, and how many there are; a conductor's are canvases."""

    role: str
    capacity: int
    load: int = 0
    host: str = ""


@dataclass(frozen=True)
class Film:
    """A film under way: when it was admitted, how urgent it is, and which of its tasks are still needed.

    It is begun once one of its shots is, for another film too, or where none is left to render.
    """

    made: FilmTasks
    order: int
    priority: int
    needed: frozenset[str] = frozenset()
    begun: bool = False

    @property
    def standing(self) -> tuple[float, int]:
        """The place of the film among others: the most urgent has the least."""
        return -self.priority, self.order

    def rank(self, key: str) -> Rank:
        """The place in line of one of its tasks."""
        return -self.priority, self.order, self.made.places[key]


@dataclass(frozen=True)
class State:
    """All that the decisions depend on."""

    limits: Limits = field(default_factory=Limits)
    films: Map[str, Film] = Map()
    tasks: Map[str, Task] = Map()  # those that a film needs
    users: Map[str, frozenset[str]] = Map()  # task -> rows of the films that need it
    holders: Map[str, int] = Map()  # task -> how many films have it among theirs, needed or not
    ranks: Map[str, Rank] = Map()  # task -> its place in line
    results: Results = Map()
    ready: Map[str, Line[tuple[Rank, str]]] = Map()  # role -> tasks that wait for a worker
    running: Map[str, str] = Map()  # task -> worker, shots -> conductor
    canvases: Map[str, Canvas] = Map()
    windows: Line[tuple[Rank, Window]] = EMPTY  # those that wait for a gang
    predicting: Map[Window, str] = Map()  # window -> gang
    models: Map[Model, int] = Map()  # model -> its open canvases
    loaded: Map[str, tuple[Model, int]] = Map()  # gang -> its model, and windows of it since that was loaded
    having: Map[Model, int] = Map()  # model -> gangs that have it
    loading: Map[Model, tuple[float, float]] = Map()  # seconds of a window with its loading, and without
    workers: Map[str, Worker] = Map()
    idle: Map[str, Line[tuple[int, str]]] = Map()  # role -> load and name of who can take a call
    busy: Map[str, int] = Map()  # role -> calls under way
    strikes: Map[str, Map[str, int]] = Map()  # task -> its errors by class
    losses: Map[str, Map[tuple[Piece, str], int]] = Map()  # task -> lost workers by piece of it and class
    suspects: frozenset[str] = frozenset()  # shots that a conductor is to have alone (suspects)
    waiting: Map[str, float] = Map()  # task -> when it may be tried again
    alarms: Line[tuple[float, str]] = EMPTY  # the same, soonest first
    blamed: Map[str, tuple[Blame, ...]] = Map()  # host -> errors that may be its fault
    blocked: Map[str, float] = Map()  # host -> when it is forgiven
    draining: frozenset[str] = frozenset()  # hosts that are about to go
    leaving: frozenset[str] = frozenset()  # workers there, but for gangs: replaced as soon as they are idle
    yielding: frozenset[str] = frozenset()  # gangs that are about to be given up
    holds: frozenset[str] = frozenset()  # why no work is given out
    paused_until_s: float = 0.0  # until then none is given out either
    ruin: Failure | None = None  # what makes it pointless to go on with any film
    closing: Failure | None = None  # with which every film ends from now on
    cut: Failure | None = None  # with which every film ends that is not begun
    pace: Pace = field(default_factory=Pace)
    endings: Map[str, Failure] = Map()  # row -> with which it ends when it is admitted
    urgent: Map[str, int] = Map()  # row -> its priority, as a person ordered
    awaited: frozenset[str] = frozenset()  # rows that others depend on
    fates: Map[str, str] = Map()  # such a row that has ended -> code of what went wrong, "" if it is done
    later: Map[str, FilmTasks] = Map()  # row -> a film that waits for others
    now_s: float = 0.0
    spent_gpu_s: float = 0.0
    ended: int = 0  # films
    failed: int = 0
    admissions: int = 0
    openings: int = 0

    @property
    def queue(self) -> tuple[Window, ...]:
        """Windows that wait for a gang, those of the oldest film first, so that films finish one by one."""
        return tuple(window for _, window in self.windows)

    @property
    def undecoded(self) -> int:
        """Shots whose latents wait for the decoder, or are at it."""
        waiting = sum(self.tasks[key].kind == "segment" for key in self.waiting)
        return len(self.ready.get("decode", ())) + self.busy.get("decode", 0) + waiting

    @property
    def room(self) -> int:
        """How many more films may be admitted."""
        if len(self.later) >= MOST_LATER:
            return 0
        canaries = self.limits.canary_films - self.ended  # that have not ended
        most = min(canaries, self.limits.max_films) if canaries > 0 else self.limits.max_films
        return most - len(self.films)

    @property
    def gangs(self) -> int:
        """How many gangs there are to predict: at work, or ready for it."""
        return self.busy.get(GANG, 0) + len(self.idle.get(GANG, EMPTY))

    @property
    def held(self) -> bool:
        """Whether no work is given out at present."""
        return bool(self.holds) or self.now_s < self.paused_until_s

    def tries(self, key: str) -> int:
        """How often a task has failed, for whatever reason."""
        return sum(self.strikes.get(key, Map()).values())

    def wants(self, key: str) -> bool:
        """Whether a task's result would make a difference."""
        return key in self.tasks and key not in self.results


Step = tuple[State, list[Action]]


def kept(mapping: Map[Any, Any], key: Any, value: Any) -> Map[Any, Any]:
    """The mapping with a value, or without one that says nothing."""
    return mapping.set(key, value) if value else without(mapping, key)


def without(mapping: Map[Any, Any], key: Any) -> Map[Any, Any]:
    """The mapping less one key, whether it was there or not."""
    return mapping.delete(key) if key in mapping else mapping
