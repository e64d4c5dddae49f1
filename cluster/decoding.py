"""What pixels take, made of latents or given: memory, and what would fit for too little; time. No torch.

A decode holds so many numbers for each pixel of a frame (Known.decoding), and an encode of given frames
others (Known.encoding); a few of them grow with the length of a shot, or of what is given.
Decoding is a task of its own: one GPU does all of a shot's, while gangs predict other shots.
Decides: what of them does not fit, and how long decoding takes. Does not decide: what is free
(engine.memory), how many operations there are, or how frames are decoded and encoded (families).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cluster.cost import BYTES, GIB, Shape, memory
from cluster.machine import Machine
from cluster.outcomes import Failure
from cluster.shortage import CODE, SIXTEENTHS, Place, gib
from engine.memory import Free
from engine.parallel.axes import Axes

UNIT_PX = 16  # of a smaller picture's sides that is named


@dataclass(frozen=True)
class Pixels:
    """What is decoded at once: `held` numbers of a dtype for each pixel of a frame, (width, height).

    held is 0 where nobody counted it. name tells people of which model; tiles says whether it could be
    decoded in tiles instead. `operations` are those of all frames of a shot.
    """

    name: str
    held: float
    dtype: str
    size_px: tuple[int, int]
    tiles: bool = False
    operations: float = 0.0

    def seconds(self, machine: Machine) -> float:
        """Of one GPU, for a whole shot."""
        return machine.decoding_s(self.operations, self.dtype)

    @property
    def gib(self) -> float:
        """GiB at the most."""
        return pixels_gib(self.held, self.dtype, self.size_px)

    def shortage(self, place: Place) -> Failure | None:
        """What a decoder lacks at a place, if it lacks anything."""
        return decode_shortage(self.name, self.held, self.dtype, self.size_px, place, self.tiles)


def beside_rank(place: Place, shape: Shape, axes: Axes) -> Place:
    """What a rank leaves of its GPU to a decoder that stands beside it."""
    left = max(0.0, place.free.gib - memory(shape, axes).gib)
    return replace(place, free=Free(left, f"{place.free.of} beside a rank"))


def pixels_gib(held: float, dtype: str, size_px: tuple[int, int]) -> float:
    """GiB that `held` numbers a pixel are; size_px is (width, height)."""
    width, height = size_px
    return held * width * height * BYTES[dtype] / GIB


def decode_shortage(
    name: str, held: float, dtype: str, size_px: tuple[int, int], place: Place, tiles: bool = False
) -> Failure | None:
    """What a decoder lacks at a place, beside its weights, if it lacks anything; `tiles` if it has them."""
    return _shortage(f"decoding {name}", held, dtype, size_px, place, ["model.tiles=true"] * tiles)


def encode_shortage(
    name: str, held: float, dtype: str, size_px: tuple[int, int], place: Place, n_frames: int
) -> Failure | None:
    """What an encoder of so many given frames lacks at a place, beside its weights, if it lacks anything."""
    what = f"encoding {n_frames} given {'frame' if n_frames == 1 else 'frames'} for {name}"
    return _shortage(what, held, dtype, size_px, place, [])


def _shortage(
    what: str, held: float, dtype: str, size_px: tuple[int, int], place: Place, found: list[str]
) -> Failure | None:
    needed, free = pixels_gib(held, dtype, size_px), place.free
    if needed <= free.gib:
        return None
    where = "of its GPU" if place.gpus else "of main memory"
    message = (
        f"{what} in {dtype} at {size_px[0]}x{size_px[1]} px needs {gib(needed)} GiB {where}, "
        f"{free.of} has {gib(free.gib)} GiB: {gib(needed - free.gib)} GiB short"
    )
    found += _remedies(held, dtype, size_px, place)
    hint = f"use {' or '.join(found)}" if found else "use a machine with more memory, or a smaller picture"
    return Failure(CODE, message, hint)


def _remedies(held: float, dtype: str, size_px: tuple[int, int], place: Place) -> Iterator[str]:
    """Another dtype, another place, the largest picture of these sides that would fit."""
    if BYTES[dtype] > 2 and (halved := pixels_gib(held, "bfloat16", size_px)) <= place.free.gib:
        yield f"model.dtype=bfloat16 ({gib(halved)} GiB)"
    if place.gpus:
        yield "cluster.stage_gpus=0"
    for n in SIXTEENTHS:
        width, height = (side * n // 16 // UNIT_PX * UNIT_PX for side in size_px)
        if width and height and pixels_gib(held, dtype, (width, height)) <= place.free.gib:
            yield f"a picture of {width}x{height} px"
            return
