"""What there is to do, as plain data: a film is a handful of tasks that need each other's artefacts.

    prompt ─┬▶ shot ──▶ segment ──▶ master
    given ──┘              └──────▶ version (one a language)

Every task names its artefact by a key: a hash of all that changes the artefact's bytes, and of nothing else.
So an edited film renders only what changed, and films that share a prompt or a shot share its artefact.
What changes low bits only (gang size, batch, kernels, device) is no part of it, and is recorded with the job.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from engine.cache import EVERY_STEP, INTERVAL, THRESHOLD, StepCache
from engine.changes import LEFT, Hold
from engine.guidance import Guidance
from engine.phases import BLEND, Course, Phase, Stitch, course_of, phases_of, shown_weights
from engine.takes import CLIP, LAST
from engine.timeline import Shot, delayed, first_pixel, latent_frames, prompt_weights
from engine.windows import Layout, Weights

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
        guidance = Guidance(
            self.guidance_scale, self.guidance_schedule, self.guidance_start, self.guidance_stop
        )
        return guidance.at(step, self.n_steps, timestep)

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
class Asset:
    """A file that a shot is given: what for (a name of engine.takes), and the artefact that holds it.

    `path` is where the driver finds it.
    """

    role: str
    artefact: str
    path: str


@dataclass(frozen=True)
class GivenTask(Task):
    """What a shot is given, as tensors that its canvas begins with. Height and width are the model's pixels.

    n_frames are those that are taken of a clip, at `fps`; 1 of a picture, or the canvas's where a model
    encodes pictures at that length.
    """

    kind: ClassVar[str] = "given"
    model: Model
    assets: tuple[Asset, ...]
    n_frames: int
    fps: Fraction | None
    height_px: int
    width_px: int

    @property
    def identity(self) -> Any:
        files = [[asset.role, asset.artefact] for asset in self.assets]
        return [self.model.identity, files, self.n_frames, self.fps, self.height_px, self.width_px]

    def frames_of(self, role: str) -> int:
        """How many frames are given for this; 0 where it is not given."""
        return self.n_frames if any(asset.role == role for asset in self.assets) else 0


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter at some scale: the artefact that holds its file, and where the driver finds that."""

    artefact: str
    scale: float
    path: str


@dataclass(frozen=True)
class ShotTask(Task):
    """A shot's latents. Height and width are the model's pixels.

    `batch` windows of a step are predicted in one forward, which changes low bits only.
    """

    kind: ClassVar[str] = "shot"
    model: Model
    shot: Shot
    sampling: Sampling
    layout: Layout
    height_px: int
    width_px: int
    max_text_tokens: int
    given: tuple[GivenTask, ...] = ()
    stitch: Stitch = BLEND
    adapters: tuple[Adapter, ...] = ()
    batch: int = 1

    @property
    def identity(self) -> Any:
        # the number of latent frames, not of shown ones: a shot cut a frame shorter keeps its latents
        spans = [asdict(span) for span in self.shot.prompts]
        shot = [self.shot.shot_id, self.n_latent, spans, self.shot.negative_prompt, self.shot.seed]
        size = [self.height_px, self.width_px, self.max_text_tokens]
        model, sampling, layout = self.model.identity, self.sampling.identity, self.layout.identity
        more: list[Any] = []  # what was rendered before there was any of this is found
        if self.given:
            more.append([task.key for task in self.given])
        if self.stitch != BLEND:
            more.append(self.stitch.identity)
        if self.n_resting:
            more.append(self.n_resting)
        if self.adapters:
            more.append([[each.artefact, each.scale] for each in self.adapters])
        if self.model.quantise:
            more.append({"quantise": self.model.quantise})
        return [model, shot, sampling, layout, size, *more]

    @cached_property
    def n_latent(self) -> int:
        """Latent frames of the shot: with n_before, they are those of a canvas that windows can cover."""
        least = latent_frames(self.hidden_frames + self.shot.n_frames, *self.layout.clock)
        before = -least % self.layout.patch_frames
        return least + -max(before + least - self.layout.size, 0) % self.layout.unit

    @property
    def n_before(self) -> int:
        """Latent frames that the canvas has before the shot's, to be of whole patches; let go at last.

        Before them, as in diffusers: so the shot's first is the one that a decoder takes for a single frame.
        """
        return -self.n_latent % self.layout.patch_frames

    @property
    def n_canvas(self) -> int:
        """Latent frames of the canvas."""
        return self.n_before + self.n_latent

    @property
    def canvas_frames(self) -> int:
        """Pixel frames of the canvas's latents; those that are shown, and some more."""
        return first_pixel(self.n_canvas, *self.layout.clock)

    @cached_property
    def hidden_frames(self) -> int:
        """Pixel frames at the canvas's beginning that are not shown: the end of a clip that is extended."""
        return sum(task.frames_of(CLIP) for task in self.given)

    @cached_property
    def n_resting(self) -> int:
        """Latent frames at the canvas's end that are a given picture's, from that of the last shown frame on.

        0 without one, and where a model encodes it at the length of the shot, to see it beside.
        """
        if all(task.frames_of(LAST) != 1 for task in self.given):
            return 0
        shown = self.hidden_frames + self.shot.n_frames
        return self.n_latent - -(-(shown - 1) // self.layout.temporal_compression)

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
        return (*self.prompts, self.negative, *self.given)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The canvases that the latents come about on, each with the predictions of its steps."""
        shot = delayed(self.shot, self.hidden_frames)
        prompts = prompt_weights(shot, self.n_latent, *self.layout.clock, self.n_before)
        phases = phases_of(self.layout, prompts, self.sampling.n_steps, self.stitch)
        return tuple(replace(phase, cache=self.sampling.step_cache) for phase in phases)

    @cached_property
    def course(self) -> Course:
        """Its steps through all phases, and how many predictions each of them needs."""
        return course_of(self.phases, self.batch)

    @property
    def shown_weights(self) -> Weights:
        """Weights (n, latent frames of the shot) by which windows made what is shown."""
        return shown_weights(self.layout, self.n_canvas, self.stitch)[:, self.n_before :]


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
    """A shot's frames as a closed-GOP file, their colours held to its beginning where they drift.

    With tiles they are decoded in tiles of space.
    """

    kind: ClassVar[str] = "segment"
    source: ShotTask
    picture: Picture
    hold: Hold = LEFT
    tiles: bool = False

    @property
    def identity(self) -> Any:
        held = [self.hold.max_drift] if self.hold != LEFT else []
        tiled = ["tiles"] if self.tiles else []
        return [self.source.key, self.source.shot.n_frames, asdict(self.picture), *held, *tiled]

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
    """One row's tasks, and what it wants in the end: a master and its versions. More priority goes first.

    It begins only when the films of the rows in `depends_on` are done.
    """

    row_id: str
    master: MasterTask
    versions: tuple[VersionTask, ...]
    priority: int = 0
    depends_on: tuple[str, ...] = ()

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All tasks by key, each after what it needs."""
        found: dict[str, Task] = {}
        for segment in self.master.segments:
            found |= {source.key: source for source in segment.source.sources}
            found[segment.source.key] = segment.source
            found[segment.key] = segment
        return found | {task.key: task for task in self.wanted}

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each task among all."""
        return {key: place for place, key in enumerate(self.tasks)}

    @property
    def wanted(self) -> tuple[Task, ...]:
        """The tasks whose artefacts are the film."""
        return (self.master, *self.versions)

    def is_done(self, results: Collection[str]) -> bool:
        """Whether all that is wanted has a result."""
        return all(task.key in results for task in self.wanted)

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
