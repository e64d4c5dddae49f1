"""The axes along which ranks share the denoising of a film, and what each rank holds. No torch.

cfg ranks hold the two branches of guidance, window ranks different windows, ring and ulysses ranks parts of
one window's sequence. A gang is the cfg × ring × ulysses ranks that predict one window together; windows are
given to gangs one by one, so that the window axis is the number of gangs.

Decides: which rank stands where, and how many tokens and heads it holds. Does not decide: which axes pay
(cluster) or how ranks talk (gang, exchange).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

NAMES = ("cfg", "window", "ring", "ulysses")  # ulysses ranks are neighbours: they exchange most
DEEPSPEED, FUSED = EXCHANGES = ("deepspeed", "fused")  # how ulysses ranks trade tokens for heads
_BRANCHES = 2  # of guidance: without the prompt, and with it


@dataclass(frozen=True)
class Axes:
    """The number of ranks along every axis; their product is `ranks`.

    Raises ValueError, with the equation, where it is not, and for a size no axis can have.
    """

    ranks: int
    cfg: int = 1
    window: int = 1
    ring: int = 1
    ulysses: int = 1

    def __post_init__(self) -> None:
        if min(self.sizes) < 1 or self.cfg > _BRANCHES:
            raise ValueError(f"{self.equation}: axes have 1 rank or more, and cfg at most {_BRANCHES}")
        if math.prod(self.sizes) != self.ranks:
            raise ValueError(f"{self.equation} ranks, but there are {self.ranks}")

    @classmethod
    def of_gang(cls, cfg: int, ring: int, ulysses: int) -> Axes:
        """Of as many ranks as these sizes make, with one window at a time."""
        return cls(cfg * ring * ulysses, cfg=cfg, ring=ring, ulysses=ulysses)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """In the order of NAMES."""
        return self.cfg, self.window, self.ring, self.ulysses

    @property
    def equation(self) -> str:
        """As people read it: "cfg 2 × window 1 × ring 1 × ulysses 4 = 8"."""
        factors = " × ".join(f"{name} {size}" for name, size in zip(NAMES, self.sizes, strict=True))
        return f"{factors} = {math.prod(self.sizes)}"

    @property
    def sequence(self) -> int:
        """The ranks that share one sequence."""
        return self.ring * self.ulysses

    def place(self, rank: int) -> dict[str, int]:
        """Where a rank stands on every axis, by name."""
        places = list(itertools.product(*(range(size) for size in self.sizes)))
        return dict(zip(NAMES, places[rank], strict=True))

    def peers(self, *names: str) -> tuple[tuple[int, ...], ...]:
        """All groups of ranks that differ only in their places on these axes, each in rank order."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.ranks):
            place = self.place(rank)
            groups.setdefault(tuple(place[name] for name in NAMES if name not in names), []).append(rank)
        return tuple(tuple(group) for group in groups.values())


def shares(n: int, parts: int) -> tuple[int, ...]:
    """n things in `parts` contiguous shares that differ by one at most, larger ones first."""
    whole, more = divmod(n, parts)
    return tuple(whole + (part < more) for part in range(parts))


ALONE = Axes(1)


@dataclass(frozen=True)
class Split:
    """How the tokens and heads of one sequence lie on a gang's ring × ulysses ranks; all ranks know it.

    `tokens` are those of every rank, in rank order. Inside attention each ulysses rank of one place on the
    ring has the tokens of them all, with its own heads. Raises ValueError where a rank would hold nothing.
    """

    tokens: tuple[int, ...]
    n_heads: int
    ring: int
    ulysses: int

    def __post_init__(self) -> None:
        if self.ulysses > self.n_heads:
            raise ValueError(
                f"ulysses {self.ulysses} ranks share {self.n_heads} attention heads: each needs one; "
                f"use ulysses up to {self.n_heads}, and ring or cfg for the rest"
            )
        if min(self.tokens) < 1:
            raise ValueError(
                f"ring {self.ring} × ulysses {self.ulysses} = {self.ring * self.ulysses} ranks share "
                f"{sum(self.tokens)} tokens: each needs one; use fewer ranks"
            )

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """Of every ulysses rank, inside attention."""
        return shares(self.n_heads, self.ulysses)

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Tokens of every place on the ring."""
        return tuple(sum(self.row(place)) for place in range(self.ring))

    def row(self, place: int) -> tuple[int, ...]:
        """Tokens of the ulysses ranks at this place on the ring."""
        return self.tokens[place * self.ulysses : (place + 1) * self.ulysses]

    def is_even(self, place: int) -> bool:
        """Whether all ulysses ranks there hold equally many tokens, and equally many heads."""
        return len(set(self.row(place))) == 1 and len(set(self.heads)) == 1
