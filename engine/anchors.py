"""What a first-block cache goes on from: where each branch of a window was last predicted in full.

diffusers' cache keeps hidden states, many times a window's latents, at a place inside a transformer. There
they would be one rank's own, and another window's the next time. But they follow from what was predicted:
latents, timestep, texts. So a canvas keeps these for every branch of every part, an anchor, small as it is,
and a request takes them along. A rank that has kept an anchor's states uses them, any other makes the same
bits again (families.first_block). So neither who predicted what nor what was lost has a say.
Decides: which anchors a window goes on from. Does not decide: which branches are in full (families).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from engine.denoise import WindowRequest


@dataclass(frozen=True, eq=False)
class Anchor:
    """Latents (B, T, C, H, W) of a window and their timestep, as a request of an earlier step had them."""

    latents: Tensor
    timestep: Tensor


class Anchored(NamedTuple):
    """A window's prediction, and of each branch of it whether it was predicted in full."""

    prediction: Tensor
    full: tuple[bool, ...]


def after(requests: Sequence[WindowRequest], answers: Sequence[Anchored]) -> tuple[tuple[Anchor, ...], ...]:
    """The anchors of every part once a step is answered: its own latents of branches predicted in full.

    Raises ValueError where a branch that has no anchor was not, or their number changed.
    """
    anchors = []
    for request, answer in zip(requests, answers, strict=True):
        now = Anchor(request.latents, request.timestep)
        before = request.anchors or (None,) * len(answer.full)
        made = [now if full else old for full, old in zip(answer.full, before, strict=True)]
        anchors.append(tuple(each for each in made if each is not None))
        if len(anchors[-1]) < len(made):
            raise ValueError(f"step {request.step} goes on from a prediction in full, but there was none")
    return tuple(anchors)


def checkpoint(anchors: Sequence[Sequence[Anchor]]) -> list[Any]:
    """Tensors in lists, that restored() takes up."""
    return [[[each.latents.clone(), each.timestep.clone()] for each in part] for part in anchors]


def restored(state: list[Any], device: Any) -> tuple[tuple[Anchor, ...], ...]:
    """The anchors of a checkpoint()."""
    return tuple(tuple(Anchor(*(x.to(device, copy=True) for x in each)) for each in part) for part in state)
