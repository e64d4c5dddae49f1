"""A shot's tasks, as plain data: its prompts and what it is given are encoded, then its latents denoised.

    prompt ─┬▶ shot
    given ──┘

Decides: what changes a shot's latents, and how many frames, windows and steps its canvas has. Does not
decide: how a key is made of that (identity), what becomes of the latents (tasks), or who denoises them.
"""

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from cluster.identity import Adapter, Asset, Model, Sampling, Task
from engine.phases import BLEND, Course, Phase, Stitch, course_of, phases_of, shown_weights
from engine.takes import CLIP, LAST
from engine.timeline import Shot, delayed, first_pixel, latent_frames, prompt_weights
from engine.windows import Layout, Weights


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
    def guided(self) -> tuple[tuple[bool, ...], ...]:
        """Of every phase, whether each of its steps that are predicted is guided."""
        sampling = self.sampling
        return tuple(
            tuple(sampling.is_guided(phase.first_step + step) for step in phase.predicted)
            for phase in self.phases
        )

    def is_guided(self, step: int) -> bool:
        """Whether a step, counted through all phases as in `course`, is. Raises IndexError past the last."""
        return [guided for phase in self.guided for guided in phase][step]

    @cached_property
    def course(self) -> Course:
        """Its steps through all phases, and how many predictions each of them needs."""
        return course_of(self.phases, self.batch)

    @property
    def shown_weights(self) -> Weights:
        """Weights (n, latent frames of the shot) by which windows made what is shown."""
        return shown_weights(self.layout, self.n_canvas, self.stitch)[:, self.n_before :]
