"""A shot's windows as the cost model sees them: how large, of which model, under how much text. No torch.

Decides: what of a model and of a shot's task its cost depends on. Does not decide: the cost (cost).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cluster.cost import Shape, memory, precision
from cluster.decoding import decode_shortage, encode_shortage
from cluster.shortage import Place, shortage
from cluster.tasks import Failure, GivenTask, Model, SegmentTask, ShotTask, Task
from engine.families.denoiser import Denoiser, read_denoiser
from engine.families.entry import Holds
from engine.families.facts import read_decoding, read_encoding, read_facts
from engine.families.known import FAMILIES
from engine.families.parameters import denoising, linear_layers, read_weights
from engine.memory import Free
from engine.parallel.axes import Axes
from engine.phases import Course


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
    """What a model costs, and is called; text_tokens are the most of a prompt.

    Of its parameters `linear` are those of linear layers, in so many rows.
    """

    name: str
    denoiser: Denoiser
    parameters: int
    channels: int
    scale: int
    text_tokens: int
    linear: int = 0
    rows: int = 0
    decoding: Holds = Holds()  # noqa: RUF009  # frozen
    tiles: bool = False  # whether it could decode in tiles
    encoding: Holds = Holds()  # noqa: RUF009


def sketch_of(folder: Path) -> Sketch:
    """The sketch of a diffusers folder. Raises OSError or ValueError that names what is absent or unknown."""
    facts, denoiser, weights = read_facts(folder), read_denoiser(folder), read_weights(folder)
    return Sketch(
        folder.name,
        denoiser,
        denoising(weights),
        facts.latent_channels,
        facts.spatial_compression,
        facts.max_text_tokens,
        *linear_layers(weights),
        read_decoding(folder),
        FAMILIES[facts.family].tiles,
        read_encoding(folder),
    )


def shape_of(load: Load, sketch: Sketch) -> Shape:
    """The window that a shot of this load is predicted by."""
    sides = load.height_px // sketch.scale, load.width_px // sketch.scale
    return window_shape(load.model, sketch, (load.frames, *sides), load.text_tokens, load.guided)


def window_shape(
    model: Model, sketch: Sketch, sides: tuple[int, int, int], text_tokens: int, guided: bool
) -> Shape:
    """A window of T x H x W latents under so much text."""
    frames, height, width = sides
    kind = precision(model.dtype, model.quantise, model.compile)
    return Shape(
        name=f"{sketch.name} in {kind} at {width * sketch.scale}x{height * sketch.scale} px",
        digest=model.digest,
        denoiser=sketch.denoiser,
        parameters=sketch.parameters,
        dtype=model.dtype,
        frames=frames,
        height=height,
        width=width,
        channels=sketch.channels,
        scale=sketch.scale,
        text_tokens=text_tokens,
        guided=guided,
        zero=model.zero,
        offload=model.offload,
        linear=sketch.linear,
        rows=sketch.rows,
        quantise=model.quantise,
        compile=model.compile,
    )


def refusal(
    sketches: Mapping[Model, Sketch], axes: Axes, place: Place | None, beside: bool = False
) -> Callable[[Iterable[Task]], dict[str, Failure]]:
    """What says which tasks cannot be done at a place.

    Shots whose windows would not fit a rank there, or whose pixels would not fit a decoder: in main memory,
    or, where decoders stand `beside` ranks, on what a rank leaves of its GPU. And what is given that would
    not fit an encoder in main memory; beside ranks, encoders ask for themselves.
    """

    @lru_cache(maxsize=256)
    def short(load: Load, n_latent: int, tiled: bool) -> Failure | None:
        if place is None:
            return None
        together = min(load.course.batch, max(n for _, n in load.course.legs))
        sketch = sketches[load.model]
        size_px, shape = (load.width_px, load.height_px), replace(shape_of(load, sketch), batch=together)
        if (failure := shortage(shape, axes, place)) or tiled or (place.gpus and not beside):
            return failure
        left = _left(place, shape, axes) if place.gpus else place
        held = sketch.decoding.of(n_latent)
        return decode_shortage(sketch.name, held, load.model.dtype, size_px, left, sketch.tiles)

    def short_given(task: GivenTask) -> Failure | None:
        if place is None or place.gpus:
            return None
        sketch, size_px = sketches[task.model], (task.width_px, task.height_px)
        held = sketch.encoding.of(task.n_frames)
        return encode_shortage(sketch.name, held, task.model.dtype, size_px, place, task.n_frames)

    def refuse(tasks: Iterable[Task]) -> dict[str, Failure]:
        tasks = list(tasks) if place else []
        tiled = {task.source.key for task in tasks if isinstance(task, SegmentTask) and task.tiles}
        shots = [task for task in tasks if isinstance(task, ShotTask)]
        found = {task.key: short(load_of(task), task.n_latent, task.key in tiled) for task in shots}
        found |= {task.key: short_given(task) for task in tasks if isinstance(task, GivenTask)}
        return {key: failure for key, failure in found.items() if failure is not None}

    return refuse


def _left(place: Place, shape: Shape, axes: Axes) -> Place:
    """What a rank leaves of its GPU to a decoder beside it."""
    needed = memory(shape, axes).gib
    return replace(place, free=Free(max(0.0, place.free.gib - needed), f"{place.free.of} beside a rank"))
