"""Too little memory to make pictures of a shot's latents: by how much, and what would fit. No torch.

A decode holds so many numbers for each pixel of a frame (Known.decoding), whatever the length of the shot.
Decides: what of a decode does not fit. Does not decide: what is free (engine.memory), or how latents are
decoded (families).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cluster.cost import BYTES, GIB, Shape, memory
from cluster.outcomes import Failure
from cluster.shortage import CODE, SIXTEENTHS, Place, gib
from engine.memory import Free
from engine.parallel.axes import Axes

UNIT_PX = 16  # of a smaller picture's sides that is named


@dataclass(frozen=True)
class Pixels:
    """What is decoded at once: `held` numbers of a dtype for each pixel of a frame, (width, height).

    name tells people of which model; tiles says whether it could be decoded in tiles instead.
    """

    name: str
    held: int
    dtype: str
    size_px: tuple[int, int]
    tiles: bool = False

    @property
    def gib(self) -> float:
        """GiB at the most."""
        return decode_gib(self.held, self.dtype, self.size_px)

    def shortage(self, place: Place) -> Failure | None:
        """What a decoder lacks at a place, if it lacks anything."""
        return decode_shortage(self.name, self.held, self.dtype, self.size_px, place, self.tiles)


def beside_rank(place: Place, shape: Shape, axes: Axes) -> Place:
    """What a rank leaves of its GPU to a decoder that stands beside it."""
    left = max(0.0, place.free.gib - memory(shape, axes).gib)
    return replace(place, free=Free(left, f"{place.free.of} beside a rank"))


def decode_gib(held: int, dtype: str, size_px: tuple[int, int]) -> float:
    """GiB that a decode holds at the most, of `held` numbers a pixel; size_px is (width, height)."""
    width, height = size_px
    return held * width * height * BYTES[dtype] / GIB


def decode_shortage(
    name: str, held: int, dtype: str, size_px: tuple[int, int], place: Place, tiles: bool = False
) -> Failure | None:
    """What a decoder lacks at a place, beside its weights, if it lacks anything; `tiles` if it has them."""
    needed, free = decode_gib(held, dtype, size_px), place.free
    if needed <= free.gib:
        return None
    where = "of its GPU" if place.gpus else "of main memory"
    message = (
        f"decoding {name} in {dtype} at {size_px[0]}x{size_px[1]} px needs {gib(needed)} GiB {where}, "
        f"{free.of} has {gib(free.gib)} GiB: {gib(needed - free.gib)} GiB short"
    )
    found = ["model.tiles=true"] * tiles + list(_remedies(held, dtype, size_px, place))
    hint = f"use {' or '.join(found)}" if found else "use a machine with more memory, or a smaller picture"
    return Failure(CODE, message, hint)


def _remedies(held: int, dtype: str, size_px: tuple[int, int], place: Place) -> Iterator[str]:
    """Another dtype, another place, the largest picture of these sides that would fit."""
    if BYTES[dtype] > 2 and (halved := decode_gib(held, "bfloat16", size_px)) <= place.free.gib:
        yield f"model.dtype=bfloat16 ({gib(halved)} GiB)"
    if place.gpus:
        yield "cluster.stage_gpus=0"
    for n in SIXTEENTHS:
        width, height = (side * n // 16 // UNIT_PX * UNIT_PX for side in size_px)
        if width and height and decode_gib(held, dtype, (width, height)) <= place.free.gib:
            yield f"a picture of {width}x{height} px"
            return
