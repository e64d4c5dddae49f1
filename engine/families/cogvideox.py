"""CogVideoX: predict windows with the arithmetic of CogVideoXPipeline.

Bit equality with the stock pipeline for one window is a promise of this module, so every operation keeps the
order and the dtypes of CogVideoXPipeline.__call__. Patches of 1.5 are of two latent frames, so that windows
begin at even ones; stock puts a latent frame before a clip of odd length, and so does who opens a canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
)
from torch import Tensor

from engine.decode import shown_frames
from engine.families.family import Conditioning, Family, Frames, unit_frames
from engine.parallel.spread import ParallelSpec
from engine.takes import BESIDE, FIRST


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
        if BESIDE in text:
            latents = torch.cat([latents, text[BESIDE].to(latents)], dim=2)
        prediction: Tensor = self.transformer(
            hidden_states=latents,
            encoder_hidden_states=text["tokens"].to(self.device),
            timestep=timestep.to(self.device).expand(latents.shape[0]),
            image_rotary_emb=self._rotary(latents),
            return_dict=False,
            **self._more(latents),
        )[0]
        return prediction.float()

    def _more(self, latents: Tensor) -> dict[str, Tensor]:
        """What else the transformer is told: of 1.5 from a picture, a constant (ofs)."""
        if self.transformer.config.ofs_embed_dim is None:
            return {}
        return {"ofs": latents.new_full((1,), fill_value=2.0)}

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""
        return shown_frames(self.pipeline.vae, latents, str(self.device))

    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of 4 t - 3 frames: the posterior's means, as a canvas holds them."""
        latents: Tensor = self._means(f_THWC) * self.pipeline.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def _means(self, f_THWC: Frames) -> Tensor:
        """The posterior's means (1, t, C, H, W) in the autoencoder's own scale. Stock samples it."""
        vae = self.pipeline.vae
        z_1CTHW: Tensor = vae.encode(unit_frames(f_THWC).to(self.device, vae.dtype)).latent_dist.mode()
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


class CogVideoXImageToVideo(CogVideoX):
    """CogVideoX 1.0 and 1.5, image to video: its picture's latent is seen beside the first frame, else zeros.

    That is the canvas's first, be it one that stands before the shot's to make whole patches. Stock samples
    the picture's posterior; here it is its mean, so that a shot is drawn again alike.
    """

    pipeline_class = CogVideoXImageToVideoPipeline

    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """Channels beside every latent frame of a canvas of n_frames pixel frames."""
        vae = self.pipeline.vae
        scale = vae.config.scaling_factor
        means = self._means(given[FIRST])  # (1, 1, C, H, W)
        picture = 1 / scale * means if vae.config.invert_scale_latents else scale * means
        others = (n_frames - 1) // vae.config.temporal_compression_ratio
        rest = picture.new_zeros(1, others, *picture.shape[2:])
        return {BESIDE: torch.cat([picture, rest], dim=1)}
