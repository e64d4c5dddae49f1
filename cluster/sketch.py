"""A shot's windows as the cost model sees them: how large, of which model, under how much text. No torch.

Decides: what of a model and of a shot's task its cost depends on. Does not decide: the cost (cost).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cluster.cost import Shape, precision
from cluster.decoding import Pixels, beside_rank, encode_shortage
from cluster.identity import Model, Task
from cluster.outcomes import Failure
from cluster.shortage import Place, shortage
from cluster.shots import GivenTask, ShotTask
from cluster.tasks import SegmentTask
from engine.families.denoiser import Denoiser, read_denoiser
from engine.families.entry import Holds, Making
from engine.families.facts import read_decoding, read_encoding, read_facts, read_making
from engine.families.known import FAMILIES
from engine.families.parameters import denoising, linear_layers, read_weights
from engine.parallel.axes import Axes
from engine.phases import Course
from engine.timeline import first_pixel


class Load(NamedTuple):
    """What a shot's cost depends on; frames are a window's latent ones, sides those of the model's pixels.

    n_latent are the shot's own latent frames, of which n_frames pixel frames are decoded, in tiles if so;
    `plain` are the steps of each leg of its course that are not guided, where others are.
    """

    model: Model
    frames: int
    height_px: int
    width_px: int
    text_tokens: int
    guided: bool
    course: Course
    n_latent: int
    n_frames: int
    plain: tuple[int, ...] = ()
    tiled: bool = False
    first_block: bool = False


def load_of(task: ShotTask, tiled: bool = False) -> Load:
    """The load that a shot is, its pixels in tiles or not."""
    plain = tuple(guided.count(False) for guided in task.guided)
    guided = sum(plain) < task.course.n_steps
    return Load(
        task.model,
        min(task.n_latent, task.layout.size),
        task.height_px,
        task.width_px,
        task.max_text_tokens,
        guided,
        task.course,
        task.n_latent,
        first_pixel(task.n_latent, *task.layout.clock),
        plain if guided and any(plain) else (),
        tiled,
        task.sampling.threshold > 0,
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
    making: Making = Making()  # noqa: RUF009
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
        read_making(folder),
        FAMILIES[facts.family].tiles,
        read_encoding(folder),
    )


def shape_of(load: Load, sketch: Sketch) -> Shape:
    """The window that a shot of this load is predicted by."""
    sides = load.height_px // sketch.scale, load.width_px // sketch.scale
    shape = window_shape(load.model, sketch, (load.frames, *sides), load.text_tokens, load.guided)
    return replace(shape, first_block=load.first_block)


def pixels_of(load: Load, sketch: Sketch) -> Pixels:
    """What a shot's decoder holds for its pixels, which nobody counted in tiles, and computes."""
    size_px = load.width_px, load.height_px
    held = 0.0 if load.tiled else sketch.decoding.of(load.n_latent)
    operations = load.n_frames * sketch.making.of(size_px, load.tiled)
    return Pixels(sketch.name, held, load.model.dtype, size_px, sketch.tiles, operations)


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
    def short(load: Load) -> Failure | None:
        if place is None:
            return None
        sketch = sketches[load.model]
        shape, pixels = replace(shape_of(load, sketch), batch=load.course.widest), pixels_of(load, sketch)
        if (failure := shortage(shape, axes, place)) or (place.gpus and not beside):
            return failure
        return pixels.shortage(beside_rank(place, shape, axes) if place.gpus else place)

    def short_given(task: GivenTask) -> Failure | None:
        if place is None or place.gpus:
            return None
        sketch, size_px = sketches[task.model], (task.width_px, task.height_px)
        held = sketch.encoding.of(task.n_frames)
        return encode_shortage(sketch.name, held, task.model.dtype, size_px, place, task.n_frames)

    def refuse(tasks: Iterable[Task]) -> dict[str, Failure]:
        tasks = list(tasks) if place else []
        tiled = {task.source.key for task in tasks if isinstance(task, SegmentTask) and task.tiles}
        loads = {task.key: load_of(task, task.key in tiled) for task in tasks if isinstance(task, ShotTask)}
        found = {key: short(load) for key, load in loads.items()}
        found |= {task.key: short_given(task) for task in tasks if isinstance(task, GivenTask)}
        return {key: failure for key, failure in found.items() if failure is not None}

    return refuse
