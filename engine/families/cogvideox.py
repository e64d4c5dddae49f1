"""CogVideoX: predict windows with the arithmetic of CogVideoXPipeline.

Bit equality with the stock pipeline for one window is a promise of this module, so every operation keeps the
order and the dtypes of CogVideoXPipeline.__call__. Patches of 1.5 are of two latent frames, so that windows
begin at even ones; stock puts a latent frame before a clip of odd length, and so does who opens a canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline
from torch import Tensor

from engine.decode import shown_frames
from engine.families.family import Conditioning, Family
from engine.parallel.spread import ParallelSpec


class CogVideoX(Family):
    """CogVideoX 1.0 and 1.5, text to video."""

    pipeline_class = CogVideoXPipeline
    schedulers: ClassVar = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks",),
        attention="attn1",
        streams=("hidden_states", "encoder_hidden_states"),
        rotary="image_rotary_emb",
        rotary_dim=0,
    )
    channels_first = False
    latents_in_float32 = False
    one_batch = True

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance; float32 as in stock."""
        latents = latents.to(self.device)
        prediction: Tensor = self.transformer(
            hidden_states=latents,
            encoder_hidden_states=text["tokens"].to(self.device),
            timestep=timestep.to(self.device).expand(latents.shape[0]),
            image_rotary_emb=self._rotary(latents),
            return_dict=False,
        )[0]
        return prediction.float()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""
        return shown_frames(self.pipeline.vae, latents, str(self.device))

    @torch.no_grad()
    def encode(self, f_THWC: npt.NDArray[np.uint8]) -> Tensor:
        """Latents (1, t, C, H, W) of 4 t - 3 frames: the posterior's means, as a canvas holds them."""
        vae = self.pipeline.vae
        x_1CTHW = torch.from_numpy(np.array(f_THWC)).permute(3, 0, 1, 2)[None].to(vae.dtype) / 127.5 - 1
        z_1CTHW: Tensor = vae.encode(x_1CTHW.to(self.device)).latent_dist.mode() * vae.config.scaling_factor
        return z_1CTHW.transpose(1, 2).contiguous()

    def _rotary(self, latents: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary (cos, sin), each (tokens, head dim), or None for models without.

        Counted from frame 0 in every window: the model was trained on clips that start there, and has seen
        no position beyond a clip's length.
        """
        config = self.transformer.config
        frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
        if config.patch_size_t is not None and frames % config.patch_size_t:
            raise ValueError(f"a window of {frames} frames is not a multiple of {config.patch_size_t}")
        if not config.use_rotary_positional_embeddings:
            return None
        scale = self.pipeline.vae_scale_factor_spatial
        cos, sin = self.pipeline._prepare_rotary_positional_embeddings(
            height * scale, width * scale, frames, self.device
        )
        return cos, sin
