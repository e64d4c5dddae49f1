"""A manifest's shots as the cost model sees them: how many of which windows, of which model. No torch.

Decides: what of a shot's task its cost depends on. Does not decide: the cost (cluster.cost).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from cluster.choose import Strand, Work
from cluster.cost import Shape
from cluster.tasks import Model, ShotTask
from engine.families.denoiser import Denoiser, denoiser_of, read_denoiser
from engine.families.parameters import denoising, read_weights
from engine.families.published import Published
from engine.phases import Course
from jobs.stock import Stock


class Load(NamedTuple):
    """What a shot's cost depends on; frames are a window's latent ones, sides those of the model's pixels."""

    model: Model
    frames: int
    height_px: int
    width_px: int
    text_tokens: int
    guided: bool
    course: Course


def load_of(task: ShotTask) -> Load:
    """The load that a shot is."""
    return Load(
        task.model,
        min(task.n_latent, task.layout.size),
        task.height_px,
        task.width_px,
        task.max_text_tokens,
        task.sampling.guidance_scale > 1,
        task.course,
    )


@dataclass(frozen=True)
class Sketch:
    """What a model costs, and is called."""

    name: str
    denoiser: Denoiser
    parameters: int
    channels: int
    scale: int


def sketches(stocked: Mapping[str, Stock], checkpoint: Published | None = None) -> dict[Model, Sketch]:
    """Every model of a job, from its folder or from the published checkpoint that stands for it.

    Raises SpecError for a folder whose cost is not known.
    """
    found: dict[Model, Sketch] = {}
    for name, one in stocked.items():
        if one.model not in found:
            found[one.model] = _of_checkpoint(one, checkpoint) if checkpoint else _of_folder(name, one)
    return found


def _of_checkpoint(one: Stock, checkpoint: Published) -> Sketch:
    facts = one.facts
    denoiser = denoiser_of(dict(checkpoint.denoiser))
    return Sketch(
        checkpoint.name, denoiser, checkpoint.parameters, facts.latent_channels, facts.spatial_compression
    )


def _of_folder(profile: str, one: Stock) -> Sketch:
    facts, name = one.facts, PurePosixPath(one.model.folder.partition("@")[0]).name
    try:
        denoiser, parameters = read_denoiser(one.folder), denoising(read_weights(one.folder))
    except (OSError, ValueError) as error:
        raise one.refused(profile, error) from error
    return Sketch(name, denoiser, parameters, facts.latent_channels, facts.spatial_compression)


def work_of(loads: Mapping[Load, int], models: Mapping[Model, Sketch]) -> Work:
    """The work that so many shots of each load are."""
    work: Counter[Strand] = Counter()
    for load, n in loads.items():
        work[Strand(_shape(load, models[load.model]), load.course)] += n
    return work


def _shape(load: Load, sketch: Sketch) -> Shape:
    return Shape(
        name=f"{sketch.name} in {load.model.dtype} at {load.width_px}x{load.height_px} px",
        digest=load.model.digest,
        denoiser=sketch.denoiser,
        parameters=sketch.parameters,
        dtype=load.model.dtype,
        frames=load.frames,
        height=load.height_px // sketch.scale,
        width=load.width_px // sketch.scale,
        channels=sketch.channels,
        scale=sketch.scale,
        text_tokens=load.text_tokens,
        guided=load.guided,
    )
