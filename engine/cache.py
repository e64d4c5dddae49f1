"""Step caches: what the predictions of earlier steps are used for again.

With "taylorseer" some steps of a canvas predict no window, and go on as the predictions before them went.
TaylorSeer (arXiv:2503.06923) of order 1 at a model's last projection, which diffusers calls its lite mode
(diffusers.hooks.taylorseer_cache). Behind that projection a prediction is only cut, guided and blended, all
of which is linear. So the blended prediction of a whole canvas is carried on, rather than what every branch
of every window left in some model: it is part of the canvas, of its checkpoints, and goes with it.
With "first_block" every step is predicted, but of some only the first block (engine.anchors).
Decides: which steps are skipped, by their numbers alone, and what stands for their predictions. Does not
decide: whether that pays, or for which models (jobs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # planning has no need of torch
    from torch import Tensor

CACHES = ("none", "taylorseer", "first_block")
INTERVAL = 2  # where a profile names none
THRESHOLD = 0.05  # of first_block, where a profile names none: diffusers' default
WARM_UP = 3  # steps at the beginning that are all predicted, as in diffusers

_INSIDE = "leaves what every layer attended to in the rank that predicted it"
REFUSED = {  # other step caches of diffusers, and what keeps windows, which change ranks, from having them
    "seacache": "sums up changes over all steps since one in full, of which a rank may have seen a few",
    "magcache": "needs numbers that were measured of every model with every number of steps",
    "fastercache": _INSIDE,
    "pyramid_attention_broadcast": _INSIDE,
}


@dataclass(frozen=True)
class StepCache:
    """Of `interval` steps one is predicted; with 1, all are."""

    interval: int = 1

    def skips(self, step: int, n_steps: int) -> bool:
        """Whether a step of a canvas's n_steps is skipped.

        None of the first WARM_UP is, nor the last one: nothing after it would make good what it misses. The
        steps between are those of diffusers' hook (disable_cache_before_step=3, disable_cache_after_step=
        n_steps - 1).
        """
        return WARM_UP <= step < n_steps - 1 and (step - WARM_UP - 1) % self.interval != 0

    def n_predicted(self, n_steps: int, before: int | None = None) -> int:
        """How many of a canvas's n_steps are predicted; of those `before` a step only, if there is one."""
        return sum(not self.skips(step, n_steps) for step in range(n_steps if before is None else before))


EVERY_STEP = StepCache()


@dataclass(frozen=True, eq=False)
class Trend:
    """The last predictions of a canvas, at most two of its shape, and the steps that they are of."""

    steps: tuple[int, ...] = ()
    predictions: tuple[Tensor, ...] = ()

    def after(self, step: int, prediction: Tensor) -> Trend:
        """The trend with one prediction more."""
        return Trend((*self.steps, step)[-2:], (*self.predictions, prediction)[-2:])

    def at(self, step: int) -> Tensor:
        """What stands for the prediction of a later step: a straight line through two earlier ones.

        Raises ValueError where there were not two.
        """
        if len(self.steps) < 2:
            raise ValueError(f"step {step} is skipped after {len(self.steps)} predictions: two are needed")
        (a, b), (before, last) = self.steps, self.predictions
        rise = (last.double() - before.double()) * ((step - b) / (b - a))
        return (last.double() + rise).to(last.dtype)

    def checkpoint(self) -> dict[str, Any]:
        """Tensors and numbers that Trend.restored() takes up."""
        return {"steps": list(self.steps), "predictions": [x.detach().clone() for x in self.predictions]}

    @classmethod
    def restored(cls, state: dict[str, Any], device: Any) -> Trend:
        """The trend of a checkpoint(), in memory of its own on this device."""
        return cls(tuple(state["steps"]), tuple(x.to(device, copy=True) for x in state["predictions"]))
