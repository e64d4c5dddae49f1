"""How a window can be shared: the gangs that a node can hold, and what they are called. Pure.

Decides: which gangs are possible. Does not decide: which of them pay (choose).
"""

import itertools
import math
from collections.abc import Sequence

from cluster.cost import Shape
from engine.parallel.axes import Axes

MANY = 1 << 16  # ranks, more than any node has GPUs


def ranks_of(shapes: Sequence[Shape]) -> range:
    """How many ranks a gang may have that predicts all these windows; an empty range where they disagree.

    Weights are shared out over two or more. One alone has kernels compiled, as exchanges inside a block are
    not, and leaves blocks out, as it decides by all tokens.
    """
    least = 2 if any(shape.zero for shape in shapes) else 1
    most = 1 if any(shape.compile or shape.first_block for shape in shapes) else MANY
    return range(least, most + 1)


def gangs_of(gpus: int, shapes: Sequence[Shape]) -> list[Axes]:
    """All gangs that a node of so many GPUs can hold and these windows can be shared by, small ones first."""
    cfg = (1, 2) if all(shape.branches == 2 for shape in shapes) else (1,)
    heads = min((shape.denoiser.heads for shape in shapes), default=1)
    most = min((shape.tokens for shape in shapes), default=1)
    shared = all(shape.denoiser.shared for shape in shapes)
    allowed = ranks_of(shapes)
    sizes = [
        (branches, ring, ulysses)
        for branches, ring, ulysses in itertools.product(cfg, range(1, gpus + 1), range(1, gpus + 1))
        if branches * ring * ulysses <= gpus
        and branches * ring * ulysses in allowed
        and ulysses <= heads
        and ring * ulysses <= most
        and (shared or ring * ulysses == 1)
    ]
    return [Axes.of_gang(*size) for size in sorted(sizes, key=lambda size: (math.prod(size), size))]


def named(axes: Axes) -> str:
    """A gang in few words: "cfg 2 × ulysses 4"."""
    sizes = (("cfg", axes.cfg), ("ring", axes.ring), ("ulysses", axes.ulysses))
    return " × ".join(f"{name} {size}" for name, size in sizes if size > 1) or "one model a GPU"
