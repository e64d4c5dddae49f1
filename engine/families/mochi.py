"""Mochi, text to video: predict windows with the arithmetic of MochiPipeline.

Dims: B batch, T latent frames, C channels, H and W rows and columns; L tokens of a text.
Bit equality with the stock pipeline for one window is a promise of this module, for texts that fill stock's
length. Shorter ones are padded there, and their padding is kept from attention; here they are trimmed, which
is equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, MochiPipeline
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family
from engine.families.mochi_vae import stream_pixels
from engine.parallel.spread import ParallelSpec

THRESHOLD_NOISE = 0.025  # how much noise the first, linear half of the steps takes away, as in stock


class Mochi(Family):
    """Mochi 1."""

    pipeline_class = MochiPipeline
    schedulers: ClassVar = {"euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks",),
        attention="attn1",
        streams=("hidden_states", "encoder_hidden_states"),
        rotary="rope",
        rotary_dim=0,
    )
    channels_first = True
    latents_in_float32 = False
    noise_in_float32 = True
    one_batch = True

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Euler's steps: small and even in the first half, then ever larger."""
        if n_steps < 2:
            raise ValueError(f"n_steps={n_steps}: Mochi's steps are of two kinds, so there are at least 2")
        scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(n_steps, THRESHOLD_NOISE)))
        return scheduler

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance; float32 as in stock.

        Its mask is of ones, as texts are trimmed. An empty text may have no token at all.
        """
        model, tokens = self.transformer, text["tokens"].to(self.device, self.transformer.dtype)
        x_BCTHW = latents.to(self.device, model.dtype).transpose(1, 2).contiguous()
        velocity_BCTHW: Tensor = model(
            hidden_states=x_BCTHW,
            encoder_hidden_states=tokens,
            timestep=timestep.to(self.device).expand(len(x_BCTHW)).to(x_BCTHW.dtype),
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=self.device),
            return_dict=False,
        )[0]
        return velocity_BCTHW.float().transpose(1, 2).contiguous()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), a few latent frames at a time."""
        z_BCTHW = latents.to(self.device, self.pipeline.vae.dtype).transpose(1, 2)
        for chunk in stream_pixels(self.pipeline.vae, self._denormalised(z_BCTHW)):
            yield from frames_uint8(chunk)

    def _denormalised(self, z_BCTHW: Tensor) -> Tensor:
        """What the decoder takes."""
        config = self.pipeline.vae.config
        scale: float = config.scaling_factor
        if config.latents_mean is None or config.latents_std is None:
            return z_BCTHW / scale
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(z_BCTHW)
            for values in (config.latents_mean, config.latents_std)
        )
        return z_BCTHW * std / scale + mean
