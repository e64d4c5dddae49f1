"""Too little memory: whether a window fits where it is to be predicted, by how much not, and what would fit.

By the arithmetic of `cluster.cost`, which `plan --explain` uses too: here alone it is held against what there
is. Decides: what does not fit, and which settings would. Does not decide: what is free (engine.memory),
or what becomes of the film.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cluster.cost import BYTES, Memory, Shape, main_memory, memory
from cluster.outcomes import Failure
from cluster.sharing import gangs_of, named, ranks_of
from engine.memory import GIB, Free, free_here, free_on
from engine.parallel.axes import Axes

CODE = "E920_MEMORY"
SETTINGS = 3  # that are named
SIXTEENTHS = range(15, 3, -1)  # of a picture's sides that are tried
LEAST_FRAMES = 5  # latent ones of a window that is still worth naming
CHEAPER = 0.9  # of what ran out: what is named then has to leave room


class Shortage(Exception):
    """A window is not begun, since it would not fit; as its failure says, with a code and a hint."""

    code, error_class = CODE, "HOST_OOM"  # another host may have more

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.hint = failure.hint

    def __str__(self) -> str:
        return str(self.args[0].message)


@dataclass(frozen=True)
class Place:
    """Where a rank computes: what is free there, of a GPU of a node with so many or, with 0, of main memory.

    `main` is what is free of main memory beside a GPU, where weights are loaded and may wait. `sharing` ranks
    of the node have their weights in main memory, on CPUs or where they wait there, all at once.
    """

    free: Free
    gpus: int = 0
    main: Free | None = None
    sharing: int = 1


def place_on(device: str, gpus: int = 1) -> Place:
    """This process's place on a device; `gpus` are those that a gang has, or could."""
    on_gpu = device.startswith("cuda")
    return Place(free_on(device), gpus, free_here()) if on_gpu else Place(free_here())


Stage = Literal["planned", "started", "loaded"]  # what there is of the rank: nothing, a process, weights too


def shortage(shape: Shape, axes: Axes, place: Place, stage: Stage = "planned") -> Failure | None:
    """What a window lacks on a rank of such a gang, if it lacks anything."""
    place = _with_held(shape, axes, place, stage)
    for needed, free in _needs(shape, axes, place):
        if needed.gib > free.gib:
            return Failure(CODE, _message(shape, axes, place, needed, free), remedy(shape, axes, place))
    return None


def _with_held(shape: Shape, axes: Axes, place: Place, stage: Stage) -> Place:
    """The place as if what the rank holds of it already were free, too."""
    (needed, free), *_ = _needs(shape, axes, place)
    held = needed.reserve_gib * (stage != "planned") + needed.weights_gib * (stage == "loaded")
    main = None if stage == "loaded" else place.main  # through which its weights have come
    return replace(place, free=Free(free.gib + held, free.of), main=main)


def cheaper(shape: Shape, axes: Axes, place: Place) -> str:
    """What needs clearly less than what ran out, although it should have fitted."""
    (needed, free), *_ = _needs(shape, axes, place)
    return remedy(shape, axes, replace(place, free=Free(CHEAPER * needed.gib, free.of)))


def remedy(shape: Shape, axes: Axes, place: Place) -> str:
    """What would fit: settings of the profile and of the gang, a smaller picture, a smaller window."""
    found = [*_one_by_one(shape, axes, place), *_settings(shape, axes, place), *_smaller(shape, axes, place)]
    found += _fewer(shape, axes, place)
    if not found:
        found = [
            " with ".join((*words, each))
            for words, changed in _kept(shape, place)
            if axes.ranks in ranks_of([changed])
            for each in _smaller(changed, axes, place)
        ][:SETTINGS]
    if found:
        return f"use {' or '.join(found)}"
    gpu_is_small = place.gpus and memory(shape, axes).gib > place.free.gib
    more = "a larger GPU" if gpu_is_small else "a machine with more memory"
    return f"no setting would fit: use {more} or a smaller model"


def part_shortage(what: str, parameters: int, dtype: str, place: Place) -> Failure | None:
    """What the weights of another part than the transformer lack where they are to be loaded."""
    needed = parameters * BYTES[dtype] / GIB
    for free, where in (
        (place.free, "of its GPU" if place.gpus else "of main memory"),
        (place.main, "of main memory"),
    ):
        if free is None or needed <= free.gib:
            continue
        message = f"{what} in {dtype} needs {gib(needed)} GiB {where} for its weights, {_lacks(needed, free)}"
        return Failure(
            CODE, message, _part_remedy(parameters, dtype, free, on_gpu=free is place.free and place.gpus > 0)
        )
    return None


def _part_remedy(parameters: int, dtype: str, free: Free, on_gpu: bool) -> str:
    halved = parameters * BYTES["bfloat16"] / GIB
    found = [f"model.dtype=bfloat16 ({gib(halved)} GiB)"] if BYTES[dtype] > 2 and halved <= free.gib else []
    found += ["cluster.stage_gpus=0"] if on_gpu else []
    return f"use {' or '.join(found)}" if found else "use a machine with more memory, or a smaller model"


def _lacks(needed: float, free: Free) -> str:
    return f"{free.of} has {gib(free.gib)} GiB: {gib(needed - free.gib)} GiB short"


def fits(shape: Shape, axes: Axes, place: Place) -> bool:
    """Whether nothing is lacking."""
    return all(needed.gib <= free.gib for needed, free in _needs(shape, axes, place))


def _needs(shape: Shape, axes: Axes, place: Place) -> Iterator[tuple[Memory, Free]]:
    """What a rank needs of each memory, beside what is free of it."""
    if not place.gpus:
        yield main_memory(shape, axes, on_gpu=False).of_ranks(place.sharing), place.free
        return
    yield memory(shape, axes), place.free
    if place.main is not None:
        yield main_memory(shape, axes, on_gpu=True).of_ranks(_at_once(shape, place)), place.main


def _at_once(shape: Shape, place: Place) -> int:
    """Ranks whose weights are in a node's main memory at once: beside GPUs, where they only pass, one's."""
    return place.sharing if not place.gpus or shape.offload == "memory" else 1


def _message(shape: Shape, axes: Axes, place: Place, needs: Memory, free: Free) -> str:
    where, ranks = "of main memory", _at_once(shape, place)
    if place.gpus and free is place.free:
        where = "on each GPU"
    elif ranks > 1:
        where = f"of main memory for the {ranks} ranks of a node"
    parts = {"weights": needs.weights_gib, "activations": needs.activations_gib, "reserve": needs.reserve_gib}
    told = ", ".join(f"{name} {gib(part)}" for name, part in parts.items() if part)
    return (
        f"{shape.name} needs {gib(needs.gib)} GiB {where} ({told}; {named(axes)}), {_lacks(needs.gib, free)}"
    )


def gib(amount: float) -> str:
    """GiB for people: to a tenth, and below 1 to two digits."""
    return f"{amount:.1f}" if amount >= 1 else f"{amount:.2g}"


def _one_by_one(shape: Shape, axes: Axes, place: Place) -> list[str]:
    """Windows that share no forward, if that is what would fit."""
    alone = replace(shape, batch=1)
    fit = shape.batch > 1 and fits(alone, axes, place)
    return [f"cluster.batch=1 ({gib(memory(alone, axes).gib)} GiB)"] if fit else []


def _fewer(shape: Shape, axes: Axes, place: Place) -> list[str]:
    """As many gangs as a node's main memory holds, if that is one at least, wherever they lie."""
    for gangs in range((place.sharing - 1) // axes.ranks, 0, -1):
        if fits(shape, axes, replace(place, sharing=gangs * axes.ranks)):
            return [f"cluster.gangs={gangs}"]
    return []


def _settings(shape: Shape, axes: Axes, place: Place) -> list[str]:
    """The settings that would fit, those first that change least, none with another's and more beside."""
    gangs = [axes, *(each for each in gangs_of(place.gpus, [shape]) if each.ranks > axes.ranks)]
    tried = []
    for (kept, one), gang in itertools.product(_kept(shape, place), gangs):
        words = frozenset((*kept, *_axes_words(axes, gang)))
        if words and gang.ranks in ranks_of([one]) and fits(one, gang, place):
            # as `choose` has it: of equal gangs the one without a ring
            tried.append((len(words), gang.ranks, gang.ring, sorted(words), memory(one, gang).gib))
    found: dict[frozenset[str], float] = {}
    for *_, each, needs in sorted(tried):
        words = frozenset(each)
        if not any(_kinds(other) <= _kinds(words) for other in found):
            found[words] = needs
    return [f"{' with '.join(sorted(words))} ({gib(found[words])} GiB)" for words in list(found)[:SETTINGS]]


def _kinds(words: frozenset[str]) -> set[str]:
    """The keys of settings; all axes are one."""
    keys = {each.split("=")[0] for each in words}
    return {"cluster" if key.startswith("cluster.") else key for key in keys}


def _axes_words(now: Axes, then: Axes) -> list[str]:
    pairs = (
        ("cfg", now.cfg, then.cfg),
        ("ring", now.ring, then.ring),
        ("ulysses", now.ulysses, then.ulysses),
    )
    return [f"cluster.{name}={new}" for name, old, new in pairs if old != new]


def _kept(shape: Shape, place: Place) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """The shape as it is, in a smaller dtype, in 8 bits, and with its weights elsewhere, each with words."""
    dtypes: list[tuple[tuple[str, ...], Shape]] = [((), shape)]
    if BYTES[shape.dtype] > BYTES["bfloat16"]:
        name = shape.name.replace(shape.dtype, "bfloat16")
        dtypes.append((("model.dtype=bfloat16",), replace(shape, dtype="bfloat16", name=name)))
    for dtype, one in dtypes:
        yield dtype, one
        if shape.offload == "memory":
            yield (*dtype, "model.offload=disk"), replace(one, offload="disk")
        if shape.zero or shape.offload or shape.quantise:
            continue
        if one.linear and one.dtype != "float16":
            yield (*dtype, "model.quantise=int8"), replace(one, quantise="int8")
        if place.gpus and not shape.compile:
            yield (*dtype, "model.offload=memory"), replace(one, offload="memory")
            yield (*dtype, "model.zero=true"), replace(one, zero=True)


def _smaller(shape: Shape, axes: Axes, place: Place) -> Iterator[str]:
    """The largest picture of these sides, and the longest window, that would fit with all else as it is."""
    of_frames, rows, columns = shape.denoiser.patch
    for n in SIXTEENTHS:
        height, width = (
            side * n // 16 // unit * unit for side, unit in ((shape.height, rows), (shape.width, columns))
        )
        one = replace(shape, height=height, width=width)
        if height and width and fits(one, axes, place):
            yield f"a picture of {width * shape.scale}x{height * shape.scale} px"
            break
    for frames in range(shape.frames - 1, LEAST_FRAMES - 1, -1):
        if frames % of_frames == 0 and fits(replace(shape, frames=frames), axes, place):
            yield f"window.size={frames}"
            break
