"""What a job exports while it runs: the metrics there are, and how events become them.

A metric's name begins with longtake_; Ray puts ray_ before it, and _total behind a counter's. Each is tagged
with the job, and with no more than a few dozen values of anything else: never with films, shots or windows.
Sums are sent once in SEND_S, so that exporting costs the same however much happens.

Decides: what is counted, and when it is sent. Does not decide: where to (a Sink: cluster.export on Ray,
nowhere in one process).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.account import Account
from cluster.events import Done, Event, FilmDone, Hired, Lost, Predicted, Raised
from cluster.outcomes import Failure
from cluster.state import GANG, State
from cluster.tally import US

SEND_S = 1.0


@dataclass(frozen=True)
class Metric:
    """A name, what it is (counter, gauge or histogram), its unit, tags beside the job, bounds of buckets."""

    name: str
    kind: str
    unit: str
    doc: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """Its name at a node's endpoint."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


STEP_BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
METRICS = {
    each.name: each
    for each in (
        Metric("longtake_films", "counter", "films", "Films that ended: done or failed.", ("outcome",)),
        Metric("longtake_shots", "counter", "shots", "Shots whose latents were made."),
        Metric("longtake_window_steps", "counter", "predictions", "Windows of a step that gangs predicted."),
        Metric(
            "longtake_window_step_seconds",
            "histogram",
            "s",
            "How long a gang was at one prediction.",
            bounds=STEP_BOUNDS,
        ),
        Metric("longtake_gangs", "gauge", "gangs", "Gangs that are idle, busy or blocked.", ("state",)),
        Metric("longtake_queued_windows", "gauge", "predictions", "Windows that wait for a gang."),
        Metric("longtake_queued_tasks", "gauge", "tasks", "Tasks that wait for a worker.", ("role",)),
        Metric(
            "longtake_retries",
            "counter",
            "tries",
            "Errors after which a task is tried again.",
            ("error_class",),
        ),
        Metric("longtake_workers_lost", "counter", "workers", "Workers that were lost.", ("role",)),
        Metric("longtake_gpu_used_seconds", "counter", "GPU-s", "GPU-seconds that gangs were at work."),
        Metric(
            "longtake_gpu_wasted_seconds", "counter", "GPU-s", "Of those, what went into nothing.", ("cause",)
        ),
        Metric("longtake_gpu_saved_seconds", "counter", "GPU-s", "GPU-seconds of artefacts that were found."),
        Metric(
            "longtake_store_seconds", "counter", "s", "Time that calls of the store took.", ("role", "call")
        ),
        Metric(
            "longtake_store_errors", "counter", "calls", "Calls of the store that failed.", ("role", "call")
        ),
        Metric(
            "longtake_store_written_bytes", "counter", "B", "Bytes that were put into the store.", ("role",)
        ),
        Metric(
            "longtake_store_read_bytes", "counter", "B", "Bytes that were read from the store.", ("role",)
        ),
    )
}


def table() -> list[list[str]]:
    """The metrics as a table, its head first."""
    head = [["metric", "kind", "unit", "tags", "what"], ["---"] * 5]
    rows = [[f"`{m.exported}`", m.kind, m.unit, ", ".join(m.tags), m.doc] for m in METRICS.values()]
    return head + rows


class Sink(Protocol):
    """Where numbers go."""

    def send(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        """Add to a counter, set a gauge, or observe in a histogram."""


class Nowhere:
    """Where numbers of one process go."""

    def send(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        """Nothing is exported."""


@dataclass
class Sums:
    """Counters between two sendings, by name and tags."""

    sink: Sink
    tags: Mapping[str, str]  # of all of them
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = field(default_factory=Counter)

    def add(self, name: str, amount: float = 1, **tags: str) -> None:
        """To what is sent next."""
        self.counts[name, tuple(tags.items())] += amount  # type: ignore[assignment]  # Counter adds floats

    def set(self, name: str, value: float, **tags: str) -> None:
        """Sent at once, as a gauge is or an observation."""
        self.sink.send(METRICS[name], value, {**self.tags, **tags})

    def send(self) -> None:
        """Send what has come together."""
        for (name, tags), amount in self.counts.items():
            if amount > 0:
                self.sink.send(METRICS[name], amount, {**self.tags, **dict(tags)})
        self.counts.clear()


class Meter:
    """Counts what happens in a job."""

    def __init__(self, sink: Sink, job_id: str) -> None:
        self.sums, self.sent_s = Sums(sink, {"job": job_id}), 0.0
        self.roles: dict[str, str] = {}
        self.told: Counter[tuple[str, str]] = Counter()  # GPU-microseconds that were sent, by name and cause

    def event(self, now_s: float, event: Event, state: State, account: Account) -> None:
        """Count an event, and send where it is time."""
        match event:
            case Hired(worker, role):
                self.roles[worker] = role
            case Predicted(_, window, fared) if fared is not None:
                canvas = state.canvases.get(window.shot)
                parts = canvas.task.course.predictions_of(window.step, window.part) if canvas else (0,)
                self.sums.add("longtake_window_steps", len(parts))
                self.sums.set("longtake_window_step_seconds", fared.seconds)
            case Done(_, _, outcome) if outcome.kind == "shot" and not outcome.reused:
                self.sums.add("longtake_shots")
            case Raised(key, _, failure) if state.wants(key):
                self.sums.add("longtake_retries", error_class=failure.error_class)
            case Lost(worker) if worker in self.roles:
                self.sums.add("longtake_workers_lost", role=self.roles.pop(worker))
        if now_s - self.sent_s >= SEND_S:
            self.sent_s = now_s
            self._send(state, account)

    def film(self, film: FilmDone) -> None:
        """Count a film that has ended."""
        versions = [film.results[version.key] for version in film.film.versions]
        failed = any(isinstance(result, Failure) for result in versions)
        self.sums.add("longtake_films", outcome="failed" if failed else "done")

    def close(self, account: Account) -> None:
        """Send the last of it; no gang is left."""
        self._send(State(), account)

    def _send(self, state: State, account: Account) -> None:
        gangs = sum(worker.role == GANG for worker in state.workers.values())
        idle, busy = len(state.idle.get(GANG, ())), state.busy.get(GANG, 0)
        for name, n in (("idle", idle), ("busy", busy), ("blocked", gangs - idle - busy)):
            self.sums.set("longtake_gangs", n, state=name)
        self.sums.set("longtake_queued_windows", len(state.windows))
        for role in sorted({*self.roles.values()} - {GANG}):
            self.sums.set("longtake_queued_tasks", len(state.ready.get(role, ())), role=role)
        self._gpu("longtake_gpu_used_seconds", account.used_us)
        self._gpu("longtake_gpu_saved_seconds", account.job.saved_us)
        for cause, us in account.job.wasted.items():
            self._gpu("longtake_gpu_wasted_seconds", us, cause=cause)
        self.sums.send()

    def _gpu(self, name: str, us: int, **tags: str) -> None:
        """So many microseconds in all; those that were not told yet are added."""
        key = name, tags.get("cause", "")
        self.sums.add(name, (us - self.told[key]) / US, **tags)
        self.told[key] = us
