"""LTX-Video from 0.9.5 on: predict windows with the arithmetic of LTXConditionPipeline.

Dims: B batch, T latent frames, C channels, H and W rows and columns; L tokens, T x H x W of them.
Bit equality with the stock pipeline for one window is a promise of this module, for texts that fill stock's
length, and given latents without noise. One model draws from a text, a picture, or the end of a clip, whose
latents stand in their place at timestep 0. As in stock they are shown under a little noise that falls with
the square of the noise level, which lets what stands still in a picture begin to move; here it is keyed by
step and frame. Stock samples the posterior of what is given; here it is its mean.
Not offered: stock's conditions in the middle or at the end of a shot, whose tokens go before all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from torch import Tensor

from engine.families.family import Conditioning
from engine.families.ltx import FRAMES_PER_S, LTX
from engine.telling import Telling

IMAGE_NOISE = 0.15  # of given latents at noise level 1: stock's image_cond_noise_scale
_LEAST = 1e-6  # by which a next level is below: as in stock


class TokenTimes(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's steps as stock takes them with per_token_timesteps: from the time that is told, in float32."""

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        """The sample at the next lower of the flow's levels."""
        if self.step_index is None:
            self._init_step_index(timestep)
        now = timestep.to(sample.device).float() / self.config.num_train_timesteps
        sigmas = self.sigmas.to(sample.device)
        after = (sigmas * (sigmas < now - _LEAST)).max()
        self._step_index += 1
        apart = (now - after).reshape((1,) * sample.ndim)  # of no dims, it would be rounded to bfloat16
        return (sample.float() - apart * model_output,)


class LTXCondition(LTX):
    """LTX-Video 0.9.5 and its successors."""

    pipeline_class = LTXConditionPipeline
    scaled_in = None

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Half of the steps near level 1, the others falling with their square, whatever a window's size."""
        if scheduler.config.use_dynamic_shifting:
            raise ValueError("this folder's use_dynamic_shifting is true, which LTXConditionPipeline has not")
        steps = TokenTimes.from_config(scheduler.config)
        timesteps = (linear_quadratic_schedule(n_steps) * 1000).numpy().astype(np.float32)
        train = scheduler.config.num_train_timesteps
        steps.set_timesteps(timesteps=timesteps.tolist(), sigmas=(timesteps / train).tolist())
        return steps

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """By a time of each token, given ones under noise that fades."""
        return Telling(times=True, fading=IMAGE_NOISE)

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance; in the weights' dtype."""
        batch, frames, _, height, width = latents.shape
        places = self._places(batch, frames, height, width)
        return self.velocity(latents, timestep, text, video_coords=places)

    def _places(self, batch: int, frames: int, height: int, width: int) -> Tensor:
        """Where each token stands, (B, 3, L): in s, and in pixels of rows and columns."""
        pipeline = self.pipeline
        ids = pipeline._prepare_video_ids(batch, frames, height, width, device=self.device)
        places: Tensor = pipeline._scale_video_ids(
            ids,
            scale_factor=pipeline.vae_spatial_compression_ratio,
            scale_factor_t=pipeline.vae_temporal_compression_ratio,
            frame_index=0,
            device=self.device,
        ).float()
        places[:, 0] = places[:, 0] * (1.0 / FRAMES_PER_S)
        return places
