"""A crew is all workers as the loop sees them: it acts, and it says what happened.

Two kinds keep this contract: `cluster.local` in this process, `cluster.remote` on a Ray cluster.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster.classes import CLASSES
from cluster.events import Action, Event
from cluster.outcomes import Failure
from engine.faults import gpu_failed
from engine.memory import ran_out
from engine.parallel.axes import ALONE, DEEPSPEED, Axes
from manifests.full import disk_full, is_full
from manifests.places import StoreError


@dataclass(frozen=True)
class Setup:
    """How many workers of which kind, and what each is told at its start.

    `axes` are those of one gang, whose window axis is 1: there are `gangs` of them. `exchange` is how its
    ulysses ranks trade (engine.parallel.axes).

    `device` is cpu, cuda, or auto for cuda where there are GPUs; `stage_gpus` the share of a GPU that the
    encoder and each decoder take, 0 for the CPU. `threads` are torch's in one process: they may
    change low bits. `group_timeout_s` bounds every collective of a gang, `step_timeout_s` a window's
    prediction and a turn of a conductor, `task_timeout_s` a whole task of any other worker. `check_memory`
    has workers refuse what would not fit. `cache` is where a node keeps copies of models (cluster.copies).
    `job_id` and `log`, text or json, are for what workers tell of themselves (cluster.export).
    `share` is its weight where gangs are shared out among jobs (shares); no name, no sharing.
    """

    store_url: str
    identity_folder: str
    device: str = "auto"
    stage_gpus: float = 0.2
    threads: int = 1
    checkpoint_every: int = 5
    checkpoint_s: float = 300.0
    gangs: int = 1
    axes: Axes = ALONE
    exchange: str = DEEPSPEED
    conductors: int = 1
    canvases_per_conductor: int = 8
    decoders: int = 1
    finishers: int = 1
    group_timeout_s: float = 60.0
    step_timeout_s: float = 1800.0
    task_timeout_s: float = 7200.0
    check_memory: bool = True
    cache: str = "auto"
    job_id: str = ""
    log: str = "text"
    share: float = 1.0

    @property
    def stages(self) -> list[str]:
        """The names of all workers but gangs."""
        counts = {"encode": 1, "conduct": self.conductors, "decode": self.decoders, "finish": self.finishers}
        return [f"{role}-{number}" for role, count in counts.items() for number in range(count)]


class Crew(Protocol):
    """What the loop needs of its workers."""

    def act(self, action: Action) -> None:
        """Begin an action; what comes of it is told by `wait`."""

    def wait(self, most_s: float = 1.0) -> Sequence[Event]:
        """Block until something has happened, about so long at most, and say what; with 0 only look."""

    def close(self) -> None:
        """Let all workers go; what they were doing is lost."""


# What an error says that came of too little memory, and what to do where the error itself does not know.
_RAN_OUT = {
    "GPU": (
        "E921_GPU_OOM",
        "GPU_OOM",
        "take a smaller picture or window.size, model.offload=memory, or model.tiles=true if it was decoding",
    ),
    "main": (
        "E922_HOST_OOM",
        "HOST_OOM",
        "give fewer workers to a node, or take a smaller picture or window.size",
    ),
}


def judge(error: BaseException) -> Failure:
    """What an error of a task means, by its class: trouble with a store may pass, wrong values do not."""
    if kind := ran_out(error):
        return out_of_memory(kind, f"{type(error).__name__}: {error}", getattr(error, "hint", ""))
    if gpu_failed(error):
        told = f"the GPU failed: {' '.join(str(error).split())}"[:500]
        return Failure("E923_GPU_FAULT", told, "look for Xid errors in its node's kernel log", "GPU_FAULT")
    if is_full(error):  # of a store it would say so
        error = disk_full(Path(tempfile.gettempdir()))
    code = getattr(error, "code", None) or ("E801_STORE" if isinstance(error, OSError) else "E900_RENDER")
    name = class_of(error)
    message = str(error) or type(error).__name__
    again = "run the same command again; what is done stays done"
    hint = getattr(error, "hint", "" if name == "DATA" else again)
    return Failure(code, f"{type(error).__name__}: {message}"[:500], hint, name)


def class_of(error: BaseException) -> str:
    """The class of an error that a call raised: its own if it has one, else by its type."""
    if (own := getattr(error, "error_class", None)) in CLASSES:
        return str(own)
    if isinstance(error, (ValueError, TypeError, KeyError, FileNotFoundError)):
        return "DATA"
    if isinstance(error, (ConnectionError, TimeoutError, StoreError)):
        return "TRANSIENT"
    if isinstance(error, OSError):  # one without a number is somebody's opinion of a file, not the system's
        return "DATA" if error.errno is None else "TRANSIENT"
    return "BUG"


def out_of_memory(kind: str, told: str, hint: str = "") -> Failure:
    """A worker found no more memory, "GPU" or "main"; told is by whom, and hint what would need less."""
    code, name, general = _RAN_OUT[kind]
    return Failure(code, f"{kind} memory ran out: {' '.join(told.split())}"[:500], hint or general, name)
