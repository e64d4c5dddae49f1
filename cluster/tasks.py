"""What there is to do, as plain data: a film is a handful of tasks that need each other's artefacts.

    prompt ─┬▶ shot ──▶ segment ──▶ master
    given ──┘              └──────▶ version (one a language)

Every task names its artefact by a key: a hash of all that changes the artefact's bytes, and of nothing else.
So an edited film renders only what changed, and films that share a prompt or a shot share its artefact.
What changes low bits only (gang size, kernels, device) is no part of it, and is recorded with the job.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from engine.phases import BLEND, Course, Phase, Stitch, course_of, phases_of, shown_weights
from engine.timeline import Shot, latent_frames
from engine.windows import Weights

RENDERING = 1  # raised when a change of the code changes artefacts, so that older ones are not reused
VISUAL_ONLY = "und"  # the language tag of a film without a language (BCP-47: undetermined)


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
    """A checkpoint: its folder on every node, the dtype it runs in, the digest of its files."""

    folder: str
    dtype: str
    digest: str

    @property
    def identity(self) -> list[str]:
        """The folder's place does not change a picture; its files and the dtype do."""
        return [self.digest, self.dtype]


@dataclass(frozen=True)
class Sampling:
    """How a canvas is denoised; scheduler "" is the model's own."""

    n_steps: int
    guidance_scale: float
    scheduler: str = ""


@dataclass(frozen=True)
class Layout:
    """Windows in latent frames, and the compression that turns pixels into latents."""

    size: int
    overlap: int
    lead_in: int
    temporal_compression: int = 4


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
class PromptTask(Task):
    """A text's embedding."""

    kind: ClassVar[str] = "prompt"
    model: Model
    text: str
    max_text_tokens: int

    @property
    def identity(self) -> Any:
        return [self.model.identity, self.text, self.max_text_tokens]


@dataclass(frozen=True)
class GivenTask(Task):
    """The latents of a picture that a shot starts from. Height and width are the model's pixels.

    `image` is the artefact that holds the picture's file; `path` is where the driver finds it.
    """

    kind: ClassVar[str] = "given"
    model: Model
    image: str
    path: str
    height_px: int
    width_px: int

    @property
    def identity(self) -> Any:
        return [self.model.identity, self.image, self.height_px, self.width_px]


@dataclass(frozen=True)
class ShotTask(Task):
    """A shot's latents. Height and width are the model's pixels."""

    kind: ClassVar[str] = "shot"
    model: Model
    shot: Shot
    sampling: Sampling
    layout: Layout
    height_px: int
    width_px: int
    max_text_tokens: int
    given: GivenTask | None = None
    stitch: Stitch = BLEND

    @property
    def identity(self) -> Any:
        # the number of latent frames, not of shown ones: a shot cut a frame shorter keeps its latents
        spans = [asdict(span) for span in self.shot.prompts]
        shot = [self.shot.shot_id, self.n_latent, spans, self.shot.negative_prompt, self.shot.seed]
        size = [self.height_px, self.width_px, self.max_text_tokens]
        given = [self.given.key] if self.given else []
        stitch = [] if self.stitch == BLEND else [self.stitch.identity]
        return [self.model.identity, shot, asdict(self.sampling), asdict(self.layout), size, *given, *stitch]

    @cached_property
    def n_latent(self) -> int:
        """Latent frames of the canvas."""
        return latent_frames(self.shot.n_frames, self.layout.temporal_compression)

    @cached_property
    def prompts(self) -> tuple[PromptTask, ...]:
        """The embeddings of the shot's prompts, in their order."""
        return tuple(self._prompt(span.prompt) for span in self.shot.prompts)

    @cached_property
    def negative(self) -> PromptTask:
        """The embedding of the negative prompt."""
        return self._prompt(self.shot.negative_prompt)

    def _prompt(self, text: str) -> PromptTask:
        return PromptTask(self.model, text, self.max_text_tokens)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source.key for source in self.sources))

    @property
    def sources(self) -> tuple[Task, ...]:
        """The tasks whose artefacts this one reads."""
        given = (self.given,) if self.given else ()
        return (*self.prompts, self.negative, *given)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The canvases that the latents come about on, each with the predictions of its steps."""
        at, c = self.layout, self.layout.temporal_compression
        n_steps = self.sampling.n_steps
        return phases_of(self.shot, self.n_latent, at.size, at.overlap, at.lead_in, c, n_steps, self.stitch)

    @cached_property
    def course(self) -> Course:
        """Its steps through all phases, and how many predictions each of them needs."""
        return course_of(self.phases)

    @property
    def shown_weights(self) -> Weights:
        """Weights (n, latent frames) by which windows made what is shown."""
        at = self.layout
        return shown_weights(self.n_latent, at.size, at.overlap, at.lead_in, self.stitch)


@dataclass(frozen=True)
class Picture:
    """How frames become a file: the film's size, its rate, and the encoder's quality."""

    width_px: int
    height_px: int
    fps: Fraction
    crf: int
    preset: str


@dataclass(frozen=True)
class SegmentTask(Task):
    """A shot's frames as a closed-GOP file."""

    kind: ClassVar[str] = "segment"
    source: ShotTask
    picture: Picture

    @property
    def identity(self) -> Any:
        return [self.source.key, self.source.shot.n_frames, asdict(self.picture)]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.source.key,)


@dataclass(frozen=True)
class MasterTask(Task):
    """All segments of a film joined: the pictures, once for all languages."""

    kind: ClassVar[str] = "master"
    segments: tuple[SegmentTask, ...]

    @property
    def identity(self) -> Any:
        return list(self.needs)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(segment.key for segment in self.segments)


@dataclass(frozen=True)
class Narration:
    """A text spoken from the start of one shot."""

    shot_id: str
    text: str


@dataclass(frozen=True)
class VersionTask(Task):
    """A film in one language: title, voice, captions, signature."""

    kind: ClassVar[str] = "version"
    segments: tuple[SegmentTask, ...]
    lang: str
    title: str
    narrations: tuple[Narration, ...]

    @property
    def identity(self) -> Any:
        texts = [self.lang, self.title, [asdict(narration) for narration in self.narrations]]
        return [list(self.needs), texts]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(segment.key for segment in self.segments))


@dataclass(frozen=True)
class FilmTasks:
    """One row's tasks, and what it wants in the end: a master and its versions."""

    row_id: str
    master: MasterTask
    versions: tuple[VersionTask, ...]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All tasks by key, each after what it needs."""
        found: dict[str, Task] = {}
        for segment in self.master.segments:
            found |= {source.key: source for source in segment.source.sources}
            found[segment.source.key] = segment.source
            found[segment.key] = segment
        return found | {task.key: task for task in self.wanted}

    @property
    def wanted(self) -> tuple[Task, ...]:
        """The tasks whose artefacts are the film."""
        return (self.master, *self.versions)

    def unfinished(self, done: Collection[str]) -> dict[str, Task]:
        """The wanted tasks, and those that lead to a wanted one which is not done, each after what it needs.

        What only done tasks needed is left out: its artefacts may be gone for good.
        """
        kept = {task.key for task in self.wanted}
        for task in reversed(self.tasks.values()):
            if task.key in kept and task.key not in done:
                kept |= set(task.needs)
        return {key: task for key, task in self.tasks.items() if key in kept}


@dataclass(frozen=True)
class Outcome:
    """What a done task left behind: its files by name as artefact hashes, and facts worth reporting."""

    key: str
    kind: str
    files: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a task cannot be done."""

    code: str
    message: str
    hint: str = ""
