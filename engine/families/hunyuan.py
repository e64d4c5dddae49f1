"""HunyuanVideo, text to video: predict windows with the arithmetic of HunyuanVideoPipeline.

Bit equality with the stock pipeline for one window is a promise of this module, for prompts that fill stock's
length. Shorter ones are padded and masked there and trimmed here, which is equal but for rounding.
The house has one guidance_scale and stock has two. A model that was distilled from guidance (guidance_embeds,
as published) is told the scale, as stock's guidance_scale: at any value, in one forward, and a negative text
is of no use to it. Any other is guided in two branches, by stock's true_cfg_scale. Stock's use of both at
once on a distilled model is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, fall_evenly
from engine.families.hunyuan_vae import stream_tiles
from engine.parallel.spread import ParallelSpec


class HunyuanVideo(Family):
    """HunyuanVideo 1, told the guidance or guided in branches."""

    pipeline_class = HunyuanVideoPipeline
    schedulers: ClassVar = {"euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks", "single_transformer_blocks"),
        attention="attn",
        streams=("hidden_states", "encoder_hidden_states"),
        rotary="rope",
        rotary_dim=0,
        filled=True,
    )
    channels_first = True
    latents_in_float32 = True
    one_batch = False

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Euler's steps from 1 to 0, evenly spaced before the folder's shift."""
        return fall_evenly(scheduler, n_steps)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as its real tokens (1, n, text dim), n <= max_text_tokens, and one vector (1, pooled dim).

        The tokens are those behind the template that stock sets around a prompt. The vector is of another
        encoder, which reads at most 77 tokens.
        """
        if self.pipeline.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        tokens, pooled, mask = self.pipeline.encode_prompt(
            text, max_sequence_length=max_text_tokens, device=self.device
        )
        return {"tokens": tokens[:, mask[0].bool()], "pooled": pooled}

    def told_guidance(self, batch: int, guidance_scale: float) -> Tensor | None:
        """The scale in thousandths, where the folder has guidance_embeds."""
        if not self.transformer.config.guidance_embeds:
            return None
        return torch.full((batch,), guidance_scale, dtype=self.transformer.dtype) * 1000.0

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H, W), in the weights' dtype.

        Its mask is of ones, as texts are trimmed. The timestep is rounded as in stock, where Euler's steps
        leave latents, and timesteps with them, in the weights' dtype; the first, 1000, is exact in any.
        """
        model = self.transformer
        told = {name: x.to(self.device, model.dtype) for name, x in text.items()}
        x_BCTHW = latents.to(self.device).transpose(1, 2).contiguous().to(model.dtype)
        velocity_BCTHW: Tensor = model(
            hidden_states=x_BCTHW,
            timestep=timestep.to(self.device, model.dtype).expand(len(x_BCTHW)),
            encoder_hidden_states=told["tokens"],
            encoder_attention_mask=told["tokens"].new_ones(told["tokens"].shape[:2]),
            pooled_projections=told["pooled"],
            guidance=told.get("guidance"),
            return_dict=False,
        )[0]
        return velocity_BCTHW.transpose(1, 2).contiguous()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""
        vae = self.pipeline.vae
        z_BCTHW = latents.to(self.device, vae.dtype).transpose(1, 2)
        for chunk in stream_tiles(vae, z_BCTHW / vae.config.scaling_factor):
            yield from frames_uint8(chunk)
