"""Windows of one step of a shot in one forward: put together, predicted, taken apart again.

n windows, k predictions of each (1, or 2 where that of the prompt alone comes too). Dims: B batch, T latent
frames, C channels, H and W rows and columns.
Decides: what of several windows makes one forward, and what is predicted in turn. Does not decide: which
windows go together (phases.Course) or whether that pays (cluster.batch).

Kernels choose how they sum by the size of what they are given, so a window's low bits depend on how many are
in its forward. On CPUs they depended neither on which others are nor on its place among them; nothing here
relies on that, since the same windows are together in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.anchors import Anchor
from engine.denoise import WindowRequest
from engine.families.family import Conditioning, Family

if TYPE_CHECKING:  # conductors have no need of diffusers' hooks
    from engine.families.first_block import FirstBlocks


def together(windows: Sequence[Tensor]) -> Tensor:
    """What n windows have each, (1, ...), as one tensor (n, ...)."""
    return torch.cat(list(windows))


def timestep_of(windows: Sequence[WindowRequest]) -> Tensor:
    """The timestep of n windows of a step: a canvas's, or (n, T) where one has a time of each frame."""
    times = [window.timestep for window in windows]
    if all(time.ndim < 2 for time in times):
        return times[0]
    n_frames = windows[0].latents.shape[1]
    return together([time if time.ndim == 2 else time.expand(1, n_frames) for time in times])


def apart(prediction: Tensor, n: int) -> list[Tensor]:
    """The predictions (k, T, C, H, W) of each of n windows, from those of all, (k n, T, C, H, W)."""
    return [prediction[window::n] for window in range(n)]


def predict_windows(
    family: Family,
    latents: Tensor,
    timestep: Tensor,
    prompts: Sequence[Conditioning],
    negatives: Sequence[Conditioning],
    guidance_scale: float,
    *,
    prompted: bool = False,
) -> Tensor:
    """Predictions (k n, T, C, H, W) of windows (n, T, C, H, W) as Family.predict has them, of one step.

    timestep is as timestep_of makes it; prompts and negatives have a text for each window. Texts of unequal
    lengths cannot share a forward without padding, which some models take for words: then, and where a family
    takes no batches, windows are predicted one after another.
    """
    if family.takes_batches and _alike(prompts) and _alike(negatives):
        return family.predict(
            latents, timestep, _joined(prompts), _joined(negatives), guidance_scale, prompted=prompted
        )
    each = [
        family.predict(window[None], time, prompt, negative, guidance_scale, prompted=prompted)
        for window, time, prompt, negative in zip(
            latents, _times(timestep, len(latents)), prompts, negatives, strict=True
        )
    ]
    return torch.stack(each, dim=1).flatten(0, 1)  # as one forward has them: k times all windows


def predict_anchored(
    blocks: FirstBlocks,
    latents: Tensor,
    timestep: Tensor,
    prompts: Sequence[Conditioning],
    negatives: Sequence[Conditioning],
    guidance_scale: float,
    anchors: Sequence[Sequence[Anchor]],
    *,
    prompted: bool = False,
) -> tuple[Tensor, tuple[tuple[bool, ...], ...]]:
    """As predict_windows by a first-block cache, and which branches of each window were in full.

    One window after another: in one forward each would be left out or not with all the others.
    """
    each = [
        blocks.predict(window[None], time, prompt, negative, guidance_scale, before, prompted=prompted)
        for window, time, prompt, negative, before in zip(
            latents, _times(timestep, len(latents)), prompts, negatives, anchors, strict=True
        )
    ]
    predictions = torch.stack([answer.prediction for answer in each], dim=1).flatten(0, 1)
    return predictions, tuple(answer.full for answer in each)


def _times(timestep: Tensor, n: int) -> list[Tensor]:
    """The timestep of each of n windows, by itself."""
    return list(timestep[:, None]) if timestep.ndim == 2 else [timestep] * n


def _alike(texts: Sequence[Conditioning]) -> bool:
    """Whether all have the shapes of the first."""
    return all(
        {n: x.shape for n, x in text.items()} == {n: x.shape for n, x in texts[0].items()} for text in texts
    )


def _joined(texts: Sequence[Conditioning]) -> Conditioning:
    """The texts of n windows as one of batch n."""
    return {name: together([text[name] for text in texts]) for name in texts[0]}
