"""Go on from given frames: animate an image, or extend a clip, with chalk's own weights.

Shapes: f_THWC bytes, z_BTCHW latents. Decides where given latents lie and that every step sees them without
noise, as in training (`train_transformer`). Does not decide how a step is predicted: the family does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.chalk.clips import Clips
from engine.chalk.latents import encode
from engine.chalk.model import GUIDANCE
from engine.chalk.tokens import MAX_TOKENS
from engine.decode import n_latent_frames, shown_frames
from engine.families.cogvideox import CogVideoX, new_canvas


def go_on(
    folder: Path,
    given_THWC: Clips,
    prompt: str,
    *,
    n_frames: int = 33,
    n_steps: int = 20,
    guidance_scale: float = GUIDANCE,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """A clip of n_frames whose first frames are the given ones, as the autoencoder shows them.

    One frame is an image to animate; 5 or 9 are a clip to extend. Both numbers are 4 k + 1. Raises ValueError
    where they are not, or where nothing is left to draw.
    """
    n_given, n_latent = n_latent_frames(len(given_THWC)), n_latent_frames(n_frames)
    if n_given >= n_latent:
        raise ValueError(
            f"{len(given_THWC)} frames are given of a clip of {n_frames}: nothing is left to draw"
        )
    family = CogVideoX.load(folder, dtype=torch.float32)
    z_given = encode(family.pipeline.vae, given_THWC[None])
    canvas = new_canvas(
        folder, seed=seed, shot="given", n_frames=n_latent, frame_shape=z_given.shape[2:], dtype="float32",
        n_steps=n_steps,
    )  # fmt: skip
    embeds, negative = (family.embed(text, MAX_TOKENS) for text in (prompt, ""))
    while canvas.step_index < n_steps:
        canvas.latents = _pinned(canvas.latents, z_given)
        canvas.step(family.predict(canvas.latents, canvas.timestep, embeds, negative, guidance_scale))
    return np.stack(list(shown_frames(family.pipeline.vae, _pinned(canvas.latents, z_given))))


def _pinned(z_BTCHW: Tensor, z_given: Tensor) -> Tensor:
    """The latents with the given ones at their beginning."""
    return torch.cat([z_given, z_BTCHW[:, z_given.shape[1] :]], dim=1)
