"""The denoising loop of one shot in mode blend, as a generator that knows nothing of where windows run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from engine.canvas import Canvas
from engine.windows import Window


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """One window of one step: timestep has shape (), latents (B, stop - start, C, H, W)."""

    step: int
    window: Window
    timestep: torch.Tensor
    latents: torch.Tensor


def requests_of_step(canvas: Canvas, windows: Sequence[Window]) -> list[WindowRequest]:
    """The requests of the canvas's step to come, in window order."""
    return [
        WindowRequest(canvas.step_index, window, canvas.timestep, canvas.slice(window)) for window in windows
    ]


def denoise_shot(
    canvas: Canvas, windows: Sequence[Window], weights: npt.NDArray[np.float64]
) -> Generator[list[WindowRequest], list[torch.Tensor], torch.Tensor]:
    """Yield the requests of each step, take their predictions in the same order, return latents z_BTCHW.

    weights is (n_windows, n_frames). The loop goes on from the canvas's step index, so that a restored
    canvas resumes; while a list of requests is out, canvas.checkpoint() is the state before that step.
    """
    while canvas.step_index < canvas.n_steps:
        predictions = yield requests_of_step(canvas, windows)
        canvas.step(canvas.blend(predictions, windows, weights))
    return canvas.latents
