"""How strongly each step is guided by its prompt, and the rescaling of what comes of it.

Decides: the scale at every step, of which 1 or less is no guidance. Does not decide: what a prediction is
(families) or where windows are summed (canvas).
Rescaling is not linear in the prediction: done in every window, windows would disagree where they overlap. It
is done once on the canvas, after both the guided predictions and those of the prompt alone are blended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # planning has no need of torch
    from torch import Tensor

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Guidance:
    """The scale over the steps from `start` to `stop`, shares of all steps; outside of them is no guidance.

    A linear one rises from 1 with `scale` as its mean (arXiv:2404.13040); a cosine one is CogVideoX's dynamic
    guidance. Intervals are of arXiv:2404.07724.
    """

    scale: float
    schedule: str = "constant"
    start: float = 0.0
    stop: float = 1.0

    def is_on(self, step: int, n_steps: int) -> bool:
        """Whether a step is guided: in two branches, by a model that is not told the scale."""
        return self.scale > 1.0 and self.start <= step / n_steps < self.stop

    def at(self, step: int, n_steps: int, timestep: float) -> float:
        """The scale of one step; the timestep is the scheduler's, of which a cosine one is a function."""
        if not self.is_on(step, n_steps):
            return min(self.scale, 1.0)
        if self.schedule == "linear":
            return 1 + 2 * (self.scale - 1) * (step + 0.5) / n_steps
        if self.schedule == "cosine":
            turned = math.cos(math.pi * ((n_steps - timestep) / n_steps) ** 5.0)
            # A scale of exactly 1 would be none, where stock still combines two branches: the next number is
            # rounded to 1 in their dtype.
            return max(1 + self.scale * ((1 - turned) / 2), math.nextafter(1.0, 2.0))
        return self.scale


def rescaled(guided: Tensor, prompted: Tensor, share: float) -> Tensor:
    """The guided prediction (B, ...), its standard deviation brought to the prompted one's by this share.

    Equations 15 and 16 of arXiv:2305.08891; deviations are over all but the batch, here of a whole canvas.
    """
    dims = tuple(range(1, guided.ndim))
    ratio = prompted.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return share * (guided * ratio) + (1 - share) * guided
