"""A job's models and shots as the cost model sees them: how many of which windows, of which model. No torch.

Decides: which models a job has. Does not decide: what of them costs (cluster.sketch), or how much
(cluster.cost).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from cluster.identity import Model
from cluster.sketch import Load, Sketch, pixels_of, shape_of, sketch_of
from cluster.strand import Strand, Work
from engine.families.denoiser import denoiser_of
from engine.families.known import FAMILIES
from engine.families.published import Published
from jobs.stock import Stock


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
    return Sketch(
        checkpoint.name,
        denoiser_of(dict(checkpoint.denoiser)),
        checkpoint.parameters,
        facts.latent_channels,
        facts.spatial_compression,
        facts.max_text_tokens,
        checkpoint.linear,
        decoding=checkpoint.decoding,
        making=checkpoint.making,
        tiles=FAMILIES[facts.family].tiles,
    )


def _of_folder(profile: str, one: Stock) -> Sketch:
    name = PurePosixPath(one.model.folder.partition("@")[0]).name
    try:
        return replace(sketch_of(one.folder), name=name)
    except (OSError, ValueError) as error:
        raise one.refused(profile, error) from error


def work_of(loads: Mapping[Load, int], models: Mapping[Model, Sketch], beside: bool) -> Work:
    """The work that so many shots of each load are; `beside` where decoders share the GPUs of ranks."""
    work: Counter[Strand] = Counter()
    for load, n in loads.items():
        sketch = models[load.model]
        pixels = pixels_of(load, sketch) if beside else None
        shape = shape_of(load, sketch)
        plain = load.plain if shape.branches > 1 else ()
        work[Strand(shape, load.course, pixels, plain)] += n
    return work
