"""What names an artefact: a key, a hash of all that changes the artefact's bytes, and of nothing else.

So an edited film renders only what changed, and films that share a prompt or a shot share its artefact.
What changes low bits only (gang size, batch, kernels, device) is no part of it, and is recorded with the job.
Decides: how a key is made, and what of a model, of sampling and of files is part of it. Does not decide:
which tasks there are, or what else changes theirs (shots, tasks).
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from engine.cache import EVERY_STEP, INTERVAL, THRESHOLD, StepCache
from engine.guidance import Guidance

RENDERING = 1  # raised when a change of the code changes artefacts, so that older ones are not reused


def key_of(kind: str, identity: object) -> str:
    """A 128-bit hexadecimal key of a task's kind and identity (any JSON value)."""
    text = json.dumps([RENDERING, kind, identity], sort_keys=True, ensure_ascii=False, default=_fraction)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _fraction(value: object) -> str:
    """A frame rate as text; anything else has no place in an identity."""
    if not isinstance(value, Fraction):
        raise TypeError(f"{value!r} cannot be part of a key")
    return str(value)


@dataclass(frozen=True)
class Model:
    """A checkpoint: its folder (a path on every node, a URL or a hub id), dtype, and its files' digest.

    `zero` and `offload` say where the transformer's weights lie between forwards, `quantise` in which 8 bits
    its linear layers are kept, `compile` whether its kernels are torch.compile's; `listing` is the key of the
    outline that a folder that lies elsewhere was planned with.
    """

    folder: str
    dtype: str
    digest: str
    zero: bool = False
    offload: str = ""
    listing: str = ""
    quantise: str = ""
    compile: bool = False

    @property
    def identity(self) -> list[str]:
        """The folder's place does not change a picture, nor where weights lie; its files and the dtype do.

        So does `quantise`, but of the transformer alone: it is part of a shot, and not of a prompt.
        """
        return [self.digest, self.dtype]


@dataclass(frozen=True)
class Sampling:
    """How a canvas is denoised; scheduler "" is the model's own. The rest as in engine.guidance, .cache."""

    n_steps: int
    guidance_scale: float
    scheduler: str = ""
    guidance_schedule: str = "constant"
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    guidance_rescale: float = 0.0
    cache: str = "none"
    cache_interval: int = 0
    cache_threshold: float = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        """Without later choices that were not made: what was rendered before there were any is found."""
        kept = ("n_steps", "guidance_scale", "scheduler")
        rest = {each.name: each.default for each in fields(self) if each.name not in kept}
        return {name: value for name, value in asdict(self).items() if value != rest.get(name, self)}

    def guidance_at(self, step: int, timestep: float) -> float:
        """The scale of a step."""
        return self._guidance.at(step, self.n_steps, timestep)

    def is_guided(self, step: int) -> bool:
        """Whether a step has a scale above 1."""
        return self._guidance.is_on(step, self.n_steps)

    @property
    def _guidance(self) -> Guidance:
        return Guidance(self.guidance_scale, self.guidance_schedule, self.guidance_start, self.guidance_stop)

    @property
    def step_cache(self) -> StepCache:
        """Which steps are skipped."""
        skips = self.cache == "taylorseer"
        return StepCache(self.cache_interval or INTERVAL) if skips else EVERY_STEP

    @property
    def threshold(self) -> float:
        """Of a first-block cache; 0 where there is none."""
        return (self.cache_threshold or THRESHOLD) if self.cache == "first_block" else 0.0


@dataclass(frozen=True)
class Task:
    """One unit of work with a marker."""

    kind: ClassVar[str]

    @cached_property
    def key(self) -> str:
        """The name of the task's marker."""
        return key_of(self.kind, self.identity)

    @property
    def identity(self) -> Any:
        """All that changes the artefact."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks whose artefacts this one reads."""
        return ()


@dataclass(frozen=True)
class Asset:
    """A file that a shot is given: what for (a name of engine.takes), and the artefact that holds it.

    `path` is where the driver finds it.
    """

    role: str
    artefact: str
    path: str


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter at some scale: the artefact that holds its file, and where the driver finds that."""

    artefact: str
    scale: float
    path: str


@dataclass(frozen=True)
class Picture:
    """How frames become a file: the film's size, its rate, and the encoder's quality."""

    width_px: int
    height_px: int
    fps: Fraction
    crf: int
    preset: str
