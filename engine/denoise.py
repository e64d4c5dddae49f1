"""The denoising loop of one canvas, as a generator that knows nothing of where windows run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.anchors import Anchor, after
from engine.cache import EVERY_STEP, StepCache
from engine.canvas import Canvas
from engine.guidance import rescaled
from engine.timeline import Part


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """One part of one step: latents (B, stop - start, C, H, W), and their timestep, as Canvas.seen has them.

    `beside` are the channels that are seen beside the latents, (B, stop - start, C', H, W), if the canvas has
    such: they go to Family.predict in both texts, under the name BESIDE. `anchors` are those of its branches,
    of a first-block cache.
    """

    step: int
    part: Part
    timestep: torch.Tensor
    latents: torch.Tensor
    beside: torch.Tensor | None = None
    anchors: tuple[Anchor, ...] = ()


def requests_of_step(canvas: Canvas, parts: Sequence[Part]) -> list[WindowRequest]:
    """The requests of the canvas's step to come, in the order of `parts`."""
    requests = []
    anchors = canvas.anchors or ((),) * len(parts)
    for part, before in zip(parts, anchors, strict=True):
        latents, timestep = canvas.seen(part.window)
        beside = canvas.beside_of(part.window)
        requests.append(WindowRequest(canvas.step_index, part, timestep, latents, beside, before))
    return requests


def blended(
    canvas: Canvas,
    predictions: Sequence[torch.Tensor],
    parts: Sequence[Part],
    weights: npt.NDArray[np.float64],
    rescale: float,
) -> torch.Tensor:
    """A step's predictions as one of the canvas's shape, rescaled where those of the prompts came too."""
    windows, batch = [part.window for part in parts], len(canvas.latents)
    guided = canvas.blend([prediction[:batch] for prediction in predictions], windows, weights)
    if not rescale or len(predictions[0]) == batch:
        return guided
    prompted = canvas.blend([prediction[batch:] for prediction in predictions], windows, weights)
    return rescaled(guided, prompted, rescale)


def denoise_shot(
    canvas: Canvas,
    parts: Sequence[Part],
    weights: npt.NDArray[np.float64],
    rescale: float = 0.0,
    cache: StepCache = EVERY_STEP,
    anchored: bool = False,
) -> Generator[list[WindowRequest], list[Any], torch.Tensor]:
    """Yield the requests of each step, take their predictions in the same order, return latents z_BTCHW.

    weights is (n_parts, n_frames). The loop goes on from the canvas's step index, so that a restored
    canvas resumes; `rescale` is the share of engine.guidance.rescaled. While a list of requests is out,
    canvas.checkpoint() is the state before that step. Steps that the cache skips ask for nothing. With
    `anchored`, that is with a first-block cache, an Anchored is taken in place of each prediction.
    """
    first = canvas.first_step
    while (step := canvas.step_index) < canvas.n_steps:
        if cache.skips(step - first, canvas.n_steps - first):
            canvas.step(canvas.trend.at(step))
            continue
        requests = requests_of_step(canvas, parts)
        predictions = yield requests
        if anchored:
            canvas.anchors = after(requests, predictions)
            predictions = [answer.prediction for answer in predictions]
        prediction = blended(canvas, predictions, parts, weights, rescale)
        if cache != EVERY_STEP:
            canvas.trend = canvas.trend.after(step, prediction)
        canvas.step(prediction)
    return canvas.latents


def denoise_here(
    canvas: Canvas,
    parts: Sequence[Part],
    weights: npt.NDArray[np.float64],
    predict: Callable[[WindowRequest], torch.Tensor],
    until: int | None = None,
) -> torch.Tensor:
    """Latents z_BTCHW of a shot whose windows `predict` predicts in this process, one after another.

    With `until` it ends before that step, and the canvas may be saved or resumed.
    """
    answer_here(denoise_shot(canvas, parts, weights), predict, lambda: canvas.step_index == until)
    return canvas.latents


def answer_here(
    loop: Generator[list[WindowRequest], list[Any], torch.Tensor],
    predict: Callable[[WindowRequest], Any],
    stop: Callable[[], bool],
) -> torch.Tensor | None:
    """What the loop returns, with requests answered in this process; None where `stop()` before a step."""
    try:
        requests = next(loop)
        while not stop():
            requests = loop.send([predict(request) for request in requests])
    except StopIteration as end:
        latents: torch.Tensor = end.value
        return latents
    return None
