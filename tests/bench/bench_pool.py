"""Is any gang idle while a window waits? Eight gangs of constant step time, many films against one at a time.

    python tests/bench/bench_pool.py            about 3 minutes; exits 1 where a claim fails

The loop, dispatch and store are the real ones, in real time; a gang is a thread that takes STEP_S for a
window whatever it is. The batch mixes shots of 13, 3 and 1 windows, a film each. Utilisation is the share of
all gangs' time, from the first window to the last, in which they predict.
"""

import queue
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from cluster.dispatch import Limits
from cluster.events import (
    Action,
    Advance,
    Done,
    Event,
    Hired,
    Open,
    Predict,
    Predicted,
    Run,
    Turned,
)
from cluster.identity import Model, Picture, Sampling
from cluster.loop import render
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks, MasterTask, SegmentTask
from engine.phases import Stitch
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from manifests.store import open_store

GANGS, STEP_S, N_STEPS, FILMS = 8, 0.05, 10, 90
FRAMES = (481, 121, 49)  # 13, 3 and 1 windows
LEAST, MOST_ALONE = 0.97, 0.85


def film(number: int) -> FilmTasks:
    shot = Shot(f"s{number}", FRAMES[number % 3], (PromptSpan("a lesson"),), "", seed=number)
    model, layout = Model("/m", "float32", "m"), Layout(size=13, overlap=4, lead_in=1)
    task = ShotTask(model, shot, Sampling(N_STEPS, 6.0), layout, 64, 96, 24, stitch=Stitch("blend"))
    return FilmTasks(
        f"film-{number}", MasterTask((SegmentTask(task, Picture(96, 64, Fraction(8), 20, "fast")),)), ()
    )


class Gangs:
    """A crew whose gangs are threads; everything but a window's step is done at once."""

    def __init__(self) -> None:
        self.news: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.orders = {f"gang-{k}": queue.SimpleQueue[Any]() for k in range(GANGS)}
        self.spans: list[tuple[float, float]] = []
        for name in self.orders:
            threading.Thread(target=self._work, args=(name,), daemon=True).start()
            self.news.put(Hired(name, "denoise"))
        for role, capacity in (("encode", 1), ("conduct", 64), ("decode", 1), ("finish", 1)):
            self.news.put(Hired(role, role, capacity))

    def _work(self, name: str) -> None:
        while (window := self.orders[name].get()) is not None:
            began = time.monotonic()
            time.sleep(STEP_S)
            self.spans.append((began, time.monotonic()))
            self.news.put(Predicted(name, window))

    def act(self, action: Action) -> None:
        match action:
            case Predict(gang, _, window):
                self.orders[gang].put(window)
            case Run(worker, task):
                self.news.put(Done(task.key, worker, Outcome(task.key, task.kind, {})))
            case Open(_, task, opening):
                self.news.put(Turned(task.key, opening, 0))
            case Advance(worker, task, _, step) if step + 1 == task.course.n_steps:
                self.news.put(Done(task.key, worker, Outcome(task.key, task.kind, {})))
            case Advance(_, task, opening, step):
                self.news.put(Turned(task.key, opening, step + 1))

    def wait(self, most_s: float = 1.0) -> Sequence[Event]:
        with suppress(queue.Empty):
            return [self.news.get(timeout=most_s)]
        return []

    def close(self) -> None:
        for orders in self.orders.values():
            orders.put(None)

    @property
    def utilisation(self) -> float:
        first, last = min(began for began, _ in self.spans), max(ended for _, ended in self.spans)
        return sum(ended - began for began, ended in self.spans) / (GANGS * (last - first))


def utilisation(limits: Limits) -> float:
    """Of a whole batch, with so much under way at once."""
    crew, films = Gangs(), (film(number) for number in range(FILMS))
    with tempfile.TemporaryDirectory() as folder:
        done = list(render(films, lambda: crew, open_store(folder), limits, lambda event, state: None))
    assert len(done) == FILMS
    return crew.utilisation


def main() -> None:
    """Print both figures, and exit 1 where a claim fails."""
    alone = utilisation(Limits(max_films=1))
    print(f"one film at a time: {100 * alone:.1f} % (at most {100 * MOST_ALONE:.0f})", flush=True)
    together = utilisation(Limits(max_films=16, max_canvases=16))
    print(f"many films: {100 * together:.1f} % (at least {100 * LEAST:.0f})")
    sys.exit(together < LEAST or alone > MOST_ALONE)


if __name__ == "__main__":
    main()
