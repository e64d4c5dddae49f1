"""What a job's ledger is told: every attempt with its beginning and end, workers as they come and go.

What gangs do is told in runs, as single windows would be too many: a run goes on from window to window until
its gang turns to another shot or rests, but for no shorter than `grain_s`. That is a second, or more where
there are many gangs: all of them together tell of no more than ROWS_A_S runs a second.

Decides: what a row says, and when there is one. Does not decide: how rows are kept (manifests.ledger).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.events import (
    Action,
    Admitted,
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
    Run,
    Window,
)
from cluster.identity import Task
from cluster.state import GANG

GRAIN_S = 1.0
ROWS_A_S = 20.0
LONGEST = 60  # grains that a run lasts at most
Row = dict[str, Any]  # columns of manifests.ledger.EVENTS, with `began_s` and `ended_s` for began and ts


@dataclass(frozen=True)
class Attempt:
    """A task, or a shot's canvas, at a worker."""

    kind: str
    key: str
    worker: str
    began_s: float
    number: int


@dataclass(frozen=True)
class Turns:
    """Windows that a gang predicted one after another; shot is None where they are of several."""

    shot: str | None
    began_s: float
    ended_s: float
    seconds: float = 0.0  # at work
    windows: int = 0
    gpu_s: float = 0.0

    def and_(self, other: "Turns") -> "Turns":
        """Both, of which the other comes later."""
        return Turns(
            self.shot if self.shot == other.shot else None,
            self.began_s,
            other.ended_s,
            self.seconds + other.seconds,
            self.windows + other.windows,
            self.gpu_s + other.gpu_s,
        )


class Diary:
    """Keeps what is under way, in the memory of that; gives rows as it ends."""

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, str], Attempt] = {}  # by worker and task
        self.numbers: dict[str, int] = {}  # task -> attempts so far
        self.rows: dict[str, str] = {}  # task -> the first film under way that has it
        self.windows: dict[Window, tuple[str, float]] = {}  # at which gang, since when
        self.runs: dict[str, Turns] = {}  # by gang
        self.gangs: set[str] = set()

    @property
    def grain_s(self) -> float:
        """The least length of a run before its gang turns to another shot."""
        return max(GRAIN_S, len(self.gangs) / ROWS_A_S)

    def note(self, now_s: float, what: Event | Action) -> Iterator[Row]:
        """Take up what has happened or is asked for, and give the rows that follow from it."""
        match what:
            case Admitted(film):
                self.rows.update((key, film.row_id) for key in film.tasks if key not in self.rows)
            case Hired(worker, role, _, host):
                self.gangs |= {worker} if role == GANG else set()
                row = {"event": "hired", "worker": worker, "kind": role, "ended_s": now_s}
                yield row | {"host": host or None}
            case Run(worker, task):
                self._begin(now_s, worker, task)
            case Open(worker, task):
                self._begin(now_s, worker, task)
            case Predict(gang, _, window):
                self.windows[window] = gang, now_s
            case Drop(conductor, shot):
                if (attempt := self.attempts.pop((conductor, shot), None)) is not None:
                    yield self._cut(now_s, attempt)
            case Predicted():
                yield from self._predicted(now_s, what)
            case Done():
                yield from self._done(now_s, what)
            case Raised():
                yield from self._raised(now_s, what)
            case Lost():
                yield from self._lost(now_s, what)

    def film(self, film: FilmDone) -> None:
        """Forget a film that has ended."""
        for key in film.film.tasks:
            if self.rows.get(key) == film.film.row_id:
                del self.rows[key]
                self.numbers.pop(key, None)

    def close(self, now_s: float) -> Iterator[Row]:
        """The rows of runs that still go on; of attempts there are none, as nobody knows how they end."""
        for gang in list(self.runs):
            yield self._ran(gang)

    def _begin(self, now_s: float, worker: str, task: Task) -> None:
        number = self.numbers[task.key] = self.numbers.get(task.key, 0) + 1
        self.attempts[worker, task.key] = Attempt(task.kind, task.key, worker, now_s, number)

    def _done(self, now_s: float, event: Done) -> Iterator[Row]:
        key, worker, outcome = event.key, event.worker, event.outcome
        name = "cached" if outcome.reused else "done"
        row = {"event": name, "task_key": key, "kind": outcome.kind, "worker": worker, "ended_s": now_s}
        row |= {"seconds": outcome.seconds, "row_id": self.rows.get(key), "gpu_s": outcome.facts.get("gpu_s")}
        row["artefact"] = outcome.artefact
        if (attempt := self.attempts.pop((worker, key), None)) is not None:
            row |= {"began_s": attempt.began_s, "attempt": attempt.number}
        yield row

    def _predicted(self, now_s: float, event: Predicted) -> Iterator[Row]:
        gang, began_s = event.gang, self._ended(event.gang, event.window)
        if event.fared is None or began_s is None:
            return
        ended_s = min(now_s, began_s + event.fared.seconds)  # the rest of the time its answer was on its way
        turn = Turns(event.window.shot, began_s, ended_s, event.fared.seconds, 1, event.fared.gpu_s)
        run = self.runs.get(gang)
        if run is not None and not self._goes_on(run, turn):
            yield self._ran(gang)
            run = None
        self.runs[gang] = run.and_(turn) if run else turn

    def _ended(self, gang: str, window: Window) -> float | None:
        """Since when a gang was at a window that it now leaves; None if it was given up, which was told."""
        if self.windows.get(window, ("",))[0] != gang:
            return None
        return self.windows.pop(window)[1]

    def _goes_on(self, run: Turns, turn: Turns) -> bool:
        grain_s, length_s = self.grain_s, run.ended_s - run.began_s
        if turn.began_s - run.ended_s > grain_s or length_s >= LONGEST * grain_s:
            return False
        return run.shot == turn.shot or length_s < grain_s

    def _ran(self, gang: str) -> Row:
        run = self.runs.pop(gang)
        row = {"event": "ran", "worker": gang, "shot": run.shot, "began_s": run.began_s}
        row |= {"row_id": self.rows.get(run.shot) if run.shot else None, "ended_s": run.ended_s}
        return row | {"seconds": run.seconds, "windows": run.windows, "gpu_s": run.gpu_s}

    def _raised(self, now_s: float, event: Raised) -> Iterator[Row]:
        key, worker, failure = event.key, event.worker, event.failure
        row: Row = {"event": "failed", "task_key": key, "worker": worker, "ended_s": now_s}
        row |= {"row_id": self.rows.get(key), "code": failure.code, "message": failure.message}
        if event.window is None:
            if (attempt := self.attempts.pop((worker, key), None)) is not None:
                row |= {"began_s": attempt.began_s, "attempt": attempt.number, "kind": attempt.kind}
        elif (began_s := self._ended(worker, event.window)) is not None:
            yield from self._flushed(worker)
            row |= {"began_s": began_s, "kind": "shot", "shot": key}
            row["attempt"] = self.numbers.get(key)
        yield row | {"seconds": now_s - row["began_s"] if "began_s" in row else None}

    def _lost(self, now_s: float, event: Lost) -> Iterator[Row]:
        worker, failure = event.worker, event.failure
        yield from self._flushed(worker)
        self.gangs.discard(worker)
        for attempt in [attempt for attempt in self.attempts.values() if attempt.worker == worker]:
            yield self._cut(now_s, self.attempts.pop((worker, attempt.key)))
        for window in [window for window, (gang, _) in self.windows.items() if gang == worker]:
            _, began_s = self.windows.pop(window)
            yield self._cut(now_s, Attempt("window", window.shot, worker, began_s, 0))
        told = {"code": failure.code, "message": failure.message} if failure else {}
        yield {"event": "lost", "worker": worker, "ended_s": now_s} | told

    def _cut(self, now_s: float, attempt: Attempt) -> Row:
        """An attempt came to nothing. Its task is not named: what becomes of that is told elsewhere."""
        row = {"event": "cut", "worker": attempt.worker, "kind": attempt.kind, "ended_s": now_s}
        row |= {"row_id": self.rows.get(attempt.key), "attempt": attempt.number or None}
        row |= {"shot": attempt.key} if attempt.kind in ("shot", "window") else {}
        return row | {"began_s": attempt.began_s, "seconds": max(0.0, now_s - attempt.began_s)}

    def _flushed(self, worker: str) -> Iterator[Row]:
        if worker in self.runs:
            yield self._ran(worker)
