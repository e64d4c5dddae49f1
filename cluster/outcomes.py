"""How a task ends: with artefacts that are named by their hashes, or given up with the reason why.

Decides: what is told of either end. Does not decide: how an error is classed (classes, causes), what a class
means for the next try (trouble), or where it is kept (once, quarantine).
"""

from dataclasses import dataclass, field
from typing import Any

Facts = dict[str, Any]
MADE = ("film", "master", "segment", "latents", "embedding", "canvas")  # names of a task's main file


@dataclass(frozen=True)
class Outcome:
    """What a done task left behind: its files by name as artefact hashes, and facts worth reporting."""

    key: str
    kind: str
    files: dict[str, str]
    facts: Facts = field(default_factory=dict)
    seconds: float = 0.0
    reused: bool = False

    @property
    def artefact(self) -> str | None:
        """The hash of what was made, not of what lies beside it, as captions do; None without files."""
        return next((self.files[name] for name in MADE if name in self.files), None)


@dataclass(frozen=True)
class Scene:
    """Where a task was given up: the step and part that it was at, -1 where there is none, by whom, where."""

    step: int
    part: int
    worker: str
    host: str


@dataclass(frozen=True)
class Failure:
    """Why a task cannot be done; its class is one of cluster.classes."""

    code: str
    message: str
    hint: str = ""
    error_class: str = "BUG"
    scene: Scene | None = field(default=None, compare=False)  # of a task's own, once it is given up


def taken(*sources: Outcome) -> Facts:
    """GPU-seconds of the shots that an artefact is made of, where their markers tell."""
    gpu_s = sum(source.facts.get("gpu_s") or 0.0 for source in sources)
    return {"gpu_s": round(gpu_s, 6)} if gpu_s else {}
