"""Wan 2.1 and 2.2, text to video: predict windows with the arithmetic of WanPipeline.

Bit equality with the stock pipeline for one window is a promise of this module. Wan 2.2's two experts share a
film by noise level: the folder's boundary_ratio says from which timestep on the second one predicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family
from engine.parallel.spread import ParallelSpec


class Wan(Family):
    """Wan 2.1 T2V, and Wan 2.2 with two experts or with a timestep for every token."""

    pipeline_class = WanPipeline
    schedulers: ClassVar = {"unipc": UniPCMultistepScheduler, "euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("blocks",),
        attention="attn1",
        streams=("hidden_states",),
        rotary="rope",
        rotary_dim=1,
        beside="timestep",
    )
    channels_first = True
    latents_in_float32 = True
    one_batch = False

    @classmethod
    def scheduler_of_kind(cls, kind: str, config: Any) -> Any:
        """Both kinds follow the same flow, but name its shift differently."""
        shift = config.get("flow_shift", config.get("shift", 1.0))
        if kind == "euler":
            return FlowMatchEulerDiscreteScheduler(config["num_train_timesteps"], shift=shift)
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
        return UniPCMultistepScheduler.from_config(config, **flow)

    @property
    def transformers(self) -> Sequence[Any]:
        """One, or the two experts."""
        return [each for each in (self.pipeline.transformer, self.pipeline.transformer_2) if each is not None]

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the expert for this timestep on latents (B, T, C, H, W), in the weights' dtype."""
        model = self._expert(float(timestep))
        x_BCTHW = latents.to(self.device).transpose(1, 2).contiguous().to(model.dtype)
        velocity_BCTHW: Tensor = model(
            hidden_states=x_BCTHW,
            timestep=self._timesteps(timestep.to(self.device), x_BCTHW),
            encoder_hidden_states=text["tokens"].to(self.device, model.dtype),
            return_dict=False,
        )[0]
        return velocity_BCTHW.transpose(1, 2).contiguous()

    def _expert(self, timestep: float) -> Any:
        """The transformer for this noise level."""
        boundary = self.pipeline.config.boundary_ratio
        if boundary is None or timestep >= boundary * self.pipeline.scheduler.config.num_train_timesteps:
            return self.pipeline.transformer
        return self.pipeline.transformer_2

    def _timesteps(self, timestep: Tensor, x_BCTHW: Tensor) -> Tensor:
        """One for each video, (B,), or, where the folder says so, one for each token, (B, L)."""
        batch, _, frames, height, width = x_BCTHW.shape
        if not self.pipeline.config.expand_timesteps:
            return timestep.expand(batch)
        per_frame = (height + 1) // 2 * ((width + 1) // 2)
        return (torch.ones(frames * per_frame, device=timestep.device) * timestep).expand(batch, -1)

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), one latent frame at a time.

        Wan's autoencoder carries its past itself, frame by frame, and decodes so in stock too.
        """
        vae = self.pipeline.vae
        if vae.use_tiling:
            raise ValueError("streaming equals the untiled decode only: call vae.disable_tiling() first")
        z_BCTHW = latents.to(self.device, vae.dtype).transpose(1, 2)
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(z_BCTHW)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        vae.clear_cache()
        for index in range(z_BCTHW.shape[2]):
            chunk = self._decode(z_BCTHW[:, :, index : index + 1] / (1.0 / std) + mean, first=index == 0)
            yield from frames_uint8(chunk)
        vae.clear_cache()

    @torch.no_grad()
    def _decode(self, z_BC1HW: Tensor, *, first: bool) -> Tensor:
        """Pixels (1, 3, t, H, W) of the next latent frame; 1 of the first, 4 of every other."""
        vae = self.pipeline.vae
        vae._conv_idx = [0]
        chunk = vae.decoder(
            vae.post_quant_conv(z_BC1HW), feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=first
        )
        if vae.config.patch_size is not None:
            chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
        return torch.clamp(chunk, min=-1.0, max=1.0)
