"""What leaves a process of the cluster: numbers, as metrics of Ray, and lines of its log.

A node's agent gives the metrics of all its processes at one endpoint, in the format of Prometheus; `ray start
--metrics-export-port` sets its port. The names are in cluster.metrics.

Decides: what a worker is equipped with. Does not decide: what is counted or said.
"""

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from cluster.logs import log_as_json, log_as_text
from cluster.metrics import METRICS, Metric, Sink
from cluster.state import GANG


class RaySink:
    """Ray's metrics, each made as it is first sent."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def send(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        """Add to a counter, set a gauge, or observe in a histogram."""
        made = self._made.get(metric.name)
        if made is None:
            made = self._made[metric.name] = _make(metric)
        if metric.kind == "counter":
            made.inc(value, dict(tags))
        elif metric.kind == "gauge":
            made.set(value, dict(tags))
        else:
            made.observe(value, dict(tags))


class StoreMeter:
    """Counts what a store's calls take; it is told of each."""

    def __init__(self, sink: Sink, job_id: str, role: str) -> None:
        self._sink, self._tags = sink, {"job": job_id, "role": role}

    def __call__(self, call: str, seconds: float, read: int, written: int, failed: bool) -> None:
        """A call has ended."""
        of_call = {**self._tags, "call": call}
        self._sink.send(METRICS["longtake_store_seconds"], seconds, of_call)
        if failed:
            self._sink.send(METRICS["longtake_store_errors"], 1, of_call)
        for name, n in (("read", read), ("written", written)):
            if n:
                self._sink.send(METRICS[f"longtake_store_{name}_bytes"], n, self._tags)


def equip(actor: Any, worker: str, job_id: str, log: str) -> None:
    """In a worker's own process: count what its store does, and have it log as the job is told to."""
    name = worker.partition("-")[0]
    role = GANG if name == "gang" else name
    actor.store = actor.store.measured(StoreMeter(RaySink(), job_id, role))
    if log == "json":
        log_as_json("stderr", {"job": job_id, "worker": worker}, _under_way)
    else:
        log_as_text(work=True)


def _under_way() -> dict[str, str]:
    """What the call that is under way is named by: a window's is `SHOT step N part N` (cluster.actors)."""
    name = ray.get_runtime_context().get_task_name() or ""
    shot, step, window = name.partition(" step ")
    return {"task": shot, "window": f"step {window}"} if step else {}


def _make(metric: Metric) -> Any:
    tags = ("job", *metric.tags)
    told = f"{metric.doc} Unit: {metric.unit}."
    if metric.kind == "histogram":
        return Histogram(metric.name, told, boundaries=list(metric.bounds), tag_keys=tags)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, told, tag_keys=tags)
