"""Where a training run stands: its length, averaged weights, checkpoints, sample grids.

Decides how a run is resumed and how its pictures are laid out. Does not decide what is trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

CURVES = Path(__file__).parent / "curves.json"  # the loss of every step of the committed weights


@dataclass(frozen=True)
class Plan:
    """How long something is trained, and from which seed."""

    steps: int
    seed: int = 0
    stop: int | None = None  # step to stop at, before the rate's course is over

    @property
    def last(self) -> int:
        """The step to stop at."""
        return self.steps if self.stop is None else self.stop


@dataclass
class Average:
    """An exponential average of parameters, which draws better than the last step's."""

    shadow: dict[str, Tensor]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> Average:
        """Start at the present parameters."""
        return cls({name: p.detach().clone() for name, p in parameters.items()})

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor], step: int, slowest: float) -> None:
        """Move towards the parameters; faster in the first steps, whose weights are not worth keeping."""
        keep = min(slowest, (1 + step) / (10 + step))
        for name, value in parameters.items():
            self.shadow[name].lerp_(value, 1 - keep)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace path with the state, at no moment half-written."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved at path, or None where there is none; never runs pickled code."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def losses(log: Path) -> list[float]:
    """The loss of every step; of a step that was taken twice, since a run was cut off, the later."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    found = {record["step"]: record["loss"] for record in records}
    return [found[step] for step in sorted(found)]


def rate_at(step: int, n_steps: int, peak: float, warm_up: int, *, fall: float) -> float:
    """Learning rate: a linear rise over warm_up steps, the peak, a linear fall to 2 % in the share `fall`.

    A trapezoid, since its plateau does not know n_steps: a run that is lengthened before its fall begins is
    the same as if it had been planned so. Lengthened later, its rate rises again at once.
    """
    rise = min(1.0, (step + 1) / warm_up)
    left = min(1.0, max(0.02, (n_steps - step) / (fall * n_steps)))
    return peak * min(rise, left)


def frames_of(x_CTHW: Tensor, picks: Iterable[int]) -> npt.NDArray[np.uint8]:
    """Chosen frames of a clip in [-1, 1], side by side (H, n W, 3)."""
    bytes_CTHW = ((x_CTHW.float() * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return side_by_side(bytes_CTHW.permute(1, 2, 3, 0).numpy(), picks)


def side_by_side(f_THWC: npt.NDArray[np.uint8], picks: Iterable[int]) -> npt.NDArray[np.uint8]:
    """Chosen frames of a clip of bytes as one picture (H, n W, 3)."""
    return np.concatenate([f_THWC[t] for t in picks], axis=1)


def save_grid(path: Path, rows: list[npt.NDArray[np.uint8]], zoom: int = 2) -> None:
    """Write the rows below each other as one PNG, enlarged without smoothing."""
    picture = Image.fromarray(np.concatenate(rows, axis=0))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)
