"""The crew in one process: every action is done at once, by the same classes that Ray's actors hold."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cluster.conductor import Answer, Conductor, Request, Turn
from cluster.crew import Setup, judge
from cluster.dispatch import GANG
from cluster.events import (
    Action,
    Advance,
    Done,
    Drop,
    Event,
    Hired,
    Open,
    Predict,
    Predicted,
    Raised,
    Run,
    Turned,
    Window,
)
from cluster.finisher import Finisher
from cluster.logs import AT
from cluster.rank import Rank
from cluster.shots import ShotTask
from cluster.stages import Decoder, Encoder
from engine.numerics import default_device
from engine.tensors import Packed

WAIT_S = 0.1  # between two looks at the clock


class LocalCrew:
    """One worker of each role."""

    def __init__(self, setup: Setup) -> None:
        device = default_device() if setup.device == "auto" else setup.device
        told, check = (setup.store_url, device, setup.threads), setup.check_memory
        self.stages: dict[str, Any] = {
            "encode": Encoder(*told, check_memory=check, cache=setup.cache),
            "decode": Decoder(*told, check_memory=check, cache=setup.cache),
            "finish": Finisher(setup.store_url, setup.identity_folder, setup.threads),
        }
        self.conductor = Conductor(
            setup.store_url, setup.checkpoint_every, setup.threads, setup.cache, setup.checkpoint_s
        )
        self.rank = Rank(*told, check_memory=check, cache=setup.cache)
        self.requests: dict[Window, Request] = {}
        self.predictions: dict[Window, tuple[Packed, float]] = {}  # and the GPU-seconds that they took
        self.events: deque[Event] = deque(Hired(role, role) for role in [*self.stages, GANG])
        self.events.append(Hired("conduct", "conduct", setup.canvases_per_conductor))

    def act(self, action: Action) -> None:
        """Do it now, and keep what came of it for `wait`."""
        match action:
            case Run(worker, task):
                run = self.stages[worker].run
                self._try(task.key, worker, lambda: Done(task.key, worker, run(task)))
            case Open(worker, shot, opening):
                self._try(shot.key, worker, lambda: self._open(shot, opening))
            case Advance(worker, shot, opening, step):
                self._try(shot.key, worker, lambda: self._advance(shot, opening, step))
            case Predict(gang, shot, window):
                self._try(shot.key, gang, lambda: self._predict(gang, window), window)
            case Drop(_, key, opening, save):
                self.conductor.drop(key, opening, save)
                self.requests = {w: r for w, r in self.requests.items() if w.shot != key}
                self.predictions = {w: p for w, p in self.predictions.items() if w.shot != key}
            case _:
                raise NotImplementedError(f"a crew of one process is never asked for {action}")

    def wait(self, most_s: float = WAIT_S) -> Sequence[Event]:
        """The next event; none only where every task waits to be tried again."""
        if not self.events:
            time.sleep(min(WAIT_S, most_s))
            return []
        return [self.events.popleft()]

    def close(self) -> None:
        """Nothing outlives the process."""

    def _try(self, key: str, worker: str, call: Callable[[], Event], window: Window | None = None) -> None:
        at = {"worker": worker, "task": key[:8]}
        token = AT.set(at | {"window": f"step {window.step} part {window.part}"} if window else at)
        try:
            event = call()
        except Exception as error:  # a film's trouble is data: dispatch decides what it means
            event = Raised(key, worker, judge(error), window)
        finally:
            AT.reset(token)
        self.events.append(event)

    def _open(self, task: ShotTask, opening: int) -> Event:
        return self._turn(task, opening, self.conductor.open(task, opening))

    def _turn(self, task: ShotTask, opening: int, answer: Answer) -> Event:
        turn, *requests = answer
        assert isinstance(turn, Turn)
        if turn.outcome is not None:
            return Done(task.key, "conduct", turn.outcome)
        for part, request in zip(task.course.parts_at(turn.step), requests, strict=False):
            assert isinstance(request, Request)
            self.requests[Window(task.key, opening, turn.step, part)] = request
        return Turned(task.key, opening, turn.step)

    def _advance(self, task: ShotTask, opening: int, step: int) -> Event:
        windows = [Window(task.key, opening, step, part) for part in task.course.parts_at(step)]
        predictions, took = zip(*(self.predictions.pop(window) for window in windows), strict=True)
        answer = self.conductor.advance(task.key, opening, *predictions, gpu_s=sum(took))
        return self._turn(task, opening, answer)

    def _predict(self, gang: str, window: Window) -> Event:
        fared, prediction = self.rank.predict(self.requests.pop(window))
        self.predictions[window] = prediction, fared.gpu_s
        return Predicted(gang, window, fared)
