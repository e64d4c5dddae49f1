"""Does dispatch keep a farm busy? A night of 10,000 GPUs, played event by event through the real decisions.

    python tests/bench/bench_farm.py                15 minutes on one core; exits 1 where a claim fails
    python tests/bench/bench_farm.py --scale 100    100 GPUs and 1,000 shots, in seconds

Simulated are the workers alone: what they are given, `cluster.dispatch` decides, as in a real job. GPUs are
on hosts of eight, all other workers on hosts that stay. A night is played twice, once calm and once with
hosts that are taken away whole, without notice, at 5 % an hour, and come back after minutes; in both, one GPU
in fifty is half as fast as the others, and no step takes quite as long as another.
"""

import argparse
import heapq
import itertools
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from cluster.dispatch import Limits, State, decide
from cluster.events import (
    Admitted,
    Advance,
    Done,
    Drop,
    Event,
    Fared,
    FilmDone,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Replace,
    Run,
    Turned,
)
from cluster.identity import Model, Picture, Sampling
from cluster.outcomes import Failure, Outcome
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.parallel.axes import ALONE
from engine.phases import Stitch
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout

GPUS, SHOTS, SHOTS_A_FILM = 10_000, 100_000, 5
GPUS_A_HOST = 8
N_STEPS = 4  # a step stands for several of a real shot, so that a night is played in minutes
STEP_S, SPREAD = 30.0, 0.1  # a window's step, and the standard deviation of its time
SLOW, SLOWNESS = 0.02, 2.0  # the share of GPUs that are slower, and how much
SPOT_AN_HOUR, AWAY_S = 0.05, 180.0  # hosts taken away, and until others have loaded their weights
GONE = Failure("E912_NODE_LOST", "lost with its node", "", "NODE_LOST")
TURN_S, ENCODE_S, DECODE_S, FINISH_S = 0.2, 0.5, 20.0, 5.0
FRAMES = {1: 49, 3: 121, 13: 481}  # of shots, by how many windows they have
SHARES = {1: 0.4, 3: 0.4, 13: 0.2}
MOST_MAKESPAN, MOST_SPOT, LEAST_DECISIONS = 1.05, 1.07, 2_000


def shot_task(number: int, windows: int) -> ShotTask:
    shot = Shot(f"s{number}", FRAMES[windows], (PromptSpan("a lesson"),), "", seed=number)
    layout, model = Layout(size=13, overlap=4, lead_in=1), Model("/m", "bfloat16", "m")
    return ShotTask(model, shot, Sampling(N_STEPS, 6.0), layout, 480, 720, 226, stitch=Stitch("blend"))


def films(shots: int, rng: random.Random) -> Iterator[FilmTasks]:
    """Films of five shots and two languages, long and short ones as they come."""
    numbers, picture = itertools.count(), Picture(720, 480, Fraction(8), 20, "fast")
    for row in range(shots // SHOTS_A_FILM):
        windows = rng.choices(list(SHARES), list(SHARES.values()), k=SHOTS_A_FILM)
        segments = tuple(SegmentTask(shot_task(next(numbers), n), picture) for n in windows)
        versions = tuple(VersionTask(segments, lang, f"lesson {row}", ()) for lang in ("hi-IN", "ta-IN"))
        yield FilmTasks(f"lesson-{row}", MasterTask(segments), versions)


@dataclass(frozen=True)
class Taken:
    """A host is gone, with all its GPUs."""

    host: str


@dataclass
class Night:
    """The farm: what is under way and when it ends, and what dispatch thinks of it."""

    gpus: int
    shots: int
    spot: bool
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    now: float = 0.0
    events: int = 0
    deciding_s: float = 0.0
    busy_s: float = 0.0
    useful_s: float = 0.0
    films_done: int = 0

    def __post_init__(self) -> None:
        self.source = films(self.shots, random.Random(1))
        self.state = State(Limits(max_canvases=self.gpus, max_films=self.gpus // 2, breaker_films=0))
        self.agenda: list[tuple[float, int, Event | Taken]] = []
        self.numbers = itertools.count()
        self.speed = {f"gpu-{k}": SLOWNESS if k % round(1 / SLOW) == 0 else 1.0 for k in range(self.gpus)}
        self.begun: dict[str, float] = {}
        self.curve: list[tuple[float, int]] = []
        self.hosts = {name: f"host-{k // GPUS_A_HOST}" for k, name in enumerate(self.speed)}
        self.staff = [Hired(name, "denoise", 1, host) for name, host in self.hosts.items()]
        for role, count, capacity in (
            ("encode", 4, 1), ("conduct", self.gpus // 50, 64), ("decode", self.gpus // 10, 1),
            ("finish", self.gpus // 10, 1),
        ):  # fmt: skip
            self.staff += [Hired(f"{role}-{k}", role, capacity, f"{role}-{k}") for k in range(count)]

    def at(self, seconds: float, event: Event | Taken) -> None:
        heapq.heappush(self.agenda, (self.now + seconds, next(self.numbers), event))

    def take(self, host: str) -> None:
        """Lose all GPUs of a host at once; it is back after a while, and then may be taken again."""
        for name in [name for name in self.state.workers if self.hosts.get(name) == host]:
            self.tell(Lost(name, GONE))
        self.at(AWAY_S + self.rng.expovariate(SPOT_AN_HOUR / 3600), Taken(host))

    def play(self) -> "Night":
        for hired in self.staff:
            self.tell(hired)
        for host in sorted(set(self.hosts.values())) if self.spot else ():
            self.at(self.rng.expovariate(SPOT_AN_HOUR / 3600), Taken(host))
        while True:
            for film in itertools.islice(self.source, max(self.state.room, 0)):
                self.tell(Admitted(film))
            if not self.state.films:
                return self
            self.now, _, event = heapq.heappop(self.agenda)
            self.take(event.host) if isinstance(event, Taken) else self.tell(event)
            if len(self.curve) < self.now / 60:
                self.curve.append((self.now, len(self.state.predicting)))

    def tell(self, event: Event) -> None:
        match event:
            case Predicted(gang):
                began = self.begun.pop(gang, None)
                if self.state.predicting.get(event.window) == gang and began is not None:
                    self.busy_s += self.now - began
                    self.useful_s += self.now - began
            case Lost(gang):
                self.busy_s += self.now - self.begun.pop(gang, self.now)
        began = time.thread_time()
        self.state, actions = decide(self.state, event)
        self.deciding_s += time.thread_time() - began
        self.events += 1
        for action in actions:
            self.act(action)

    def act(self, action: Any) -> None:
        match action:
            case Run(worker, task):
                seconds = {"prompt": ENCODE_S, "segment": DECODE_S}.get(task.kind, FINISH_S)
                self.at(seconds, Done(task.key, worker, Outcome(task.key, task.kind, {})))
            case Open(_, task, opening):
                self.at(TURN_S, Turned(task.key, opening, 0))
            case Predict(gang, _, window):
                self.begun[gang] = self.now
                seconds = STEP_S * self.speed[gang] * max(0.5, self.rng.gauss(1.0, SPREAD))
                self.at(seconds, Predicted(gang, window, Fared(seconds, "gpu", ALONE)))
            case Advance(worker, task, _, step) if step + 1 == task.course.n_steps:
                self.at(TURN_S, Done(task.key, worker, Outcome(task.key, task.kind, {})))
            case Advance(_, task, opening, step):
                self.at(TURN_S, Turned(task.key, opening, step + 1))
            case Replace(worker):
                self.at(AWAY_S, Hired(worker, "denoise", 1, self.hosts[worker]))
            case FilmDone(_):
                self.films_done += 1
            case Drop(_):
                raise AssertionError("no shot fails in these nights")

    @property
    def least_s(self) -> float:
        """No order of work ends sooner: all steps on all GPUs without a pause."""
        speed = sum(1 / slowness for slowness in self.speed.values())
        chosen, steps = random.Random(1), 0
        for _ in range(self.shots // SHOTS_A_FILM):
            steps += sum(chosen.choices(list(SHARES), list(SHARES.values()), k=SHOTS_A_FILM)) * N_STEPS
        return steps * STEP_S / speed


def draw(nights: dict[str, Night], path: Path) -> None:
    """How many GPUs were at work, minute by minute."""
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for name, night in nights.items():
        times, busy = zip(*night.curve, strict=True)
        axes.plot([t / 3600 for t in times], [100 * n / night.gpus for n in busy], label=name, linewidth=1.5)
    least = next(iter(nights.values())).least_s / 3600
    axes.axvline(least, color="black", linewidth=0.8, linestyle=":", label="no order of work ends sooner")
    axes.set(xlabel="hours", ylabel="GPUs at work (%)", ylim=(0, 103), xlim=(0, None))
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Play both nights, draw them, and exit 1 where a claim fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--scale", type=int, default=1, metavar="N", help="so many times fewer GPUs and shots"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG")
    arguments = parser.parse_args()
    gpus, shots = GPUS // arguments.scale, SHOTS // arguments.scale
    nights = {}
    for name, spot in (("calm", False), ("5 % of the hosts taken away an hour", True)):
        night = nights[name] = Night(gpus, shots, spot).play()
        print(
            f"{name}: {night.films_done:,} films, {night.events:,} decisions, "
            f"{night.events / night.deciding_s:,.0f} a second, {night.now / 3600:.2f} h, "
            f"{night.now / night.least_s:.3f} of the least, "
            f"{100 * (1 - night.useful_s / night.busy_s):.2f} % of GPU-seconds wasted",
            flush=True,
        )
    calm, spot = nights.values()
    if arguments.plot:
        draw(nights, arguments.plot)
    rate = min(night.events / night.deciding_s for night in nights.values())
    over, spot_over = calm.now / calm.least_s, spot.now / calm.now
    print(f"makespan {over:.3f} of the least (at most {MOST_MAKESPAN})")
    print(f"spot interruptions make it {spot_over:.3f} times as long (at most {MOST_SPOT})")
    print(f"{rate:,.0f} decisions a second on one core (at least {LEAST_DECISIONS:,})")
    sys.exit(over > MOST_MAKESPAN or spot_over > MOST_SPOT or rate < LEAST_DECISIONS)


if __name__ == "__main__":
    main()
