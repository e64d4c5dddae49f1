"""HunyuanVideo 1.5, text to video: predict windows with the arithmetic of HunyuanVideo15Pipeline.

Bit equality with the stock pipeline for one window is a promise of this module where stock is given no
padding. Stock pads both texts and 729 tokens of a picture that is not there, and masks them; the transformer
moves what is masked behind all else. Here only real tokens are passed, which is equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, HunyuanVideo15Pipeline
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, fall_evenly
from engine.families.hunyuan15_vae import stream_frames
from engine.families.variants import is_guided
from engine.parallel.spread import ParallelSpec

GLYPH_TOKENS = 256  # of the texts in quotation marks, as stock cuts them


class Parts(HunyuanVideo15Pipeline):  # type: ignore[misc]
    """Stock's pipeline, of which some parts may be left out: stock's own needs an autoencoder to be made."""

    def __init__(
        self,
        text_encoder: Any,
        tokenizer: Any,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        text_encoder_2: Any,
        tokenizer_2: Any,
        guider: Any,
    ) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            guider=guider,
        )


class HunyuanVideo15(Family):
    """HunyuanVideo 1.5, guided in branches, or distilled from guidance: then its folder's guider is off."""

    pipeline_class = Parts
    schedulers: ClassVar = {"euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks",),
        attention="attn",
        streams=("hidden_states", "encoder_hidden_states"),
        rotary="rope",
        rotary_dim=0,
        filled=True,
    )
    channels_first = True
    latents_in_float32 = False
    one_batch = False

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Euler's steps from 1 to 0, evenly spaced before the folder's shift."""
        return fall_evenly(scheduler, n_steps)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as its real tokens (1, n, text dim), n <= max_text_tokens, and its glyphs' (1, m, dim).

        The tokens are those behind the system message that stock sets before a prompt. Glyphs are the bytes
        of what stands in quotation marks, to be drawn as letters; m is 0 where nothing does.
        """
        parts = self.pipeline
        if parts.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        tokens, mask = parts._get_mllm_prompt_embeds(
            parts.text_encoder, parts.tokenizer, text, self.device, max_text_tokens
        )
        glyphs, glyph_mask = parts._get_byt5_prompt_embeds(
            parts.tokenizer_2, parts.text_encoder_2, text, self.device, GLYPH_TOKENS
        )
        return {"tokens": tokens[:, mask[0].bool()], "glyphs": glyphs[:, glyph_mask[0].bool()]}

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Conditioning,
        negative: Conditioning | None,
        guidance_scale: float,
        *,
        prompted: bool = False,
    ) -> Tensor:
        """As any family; a folder whose guider is off is guided at no scale, as it was distilled from it."""
        scale = guidance_scale if is_guided(self.pipeline.guider.config) else 1.0
        return super().predict(latents, timestep, prompt, negative, scale, prompted=prompted)

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H, W), in the weights' dtype.

        Behind the latents' channels come those of frames that are given, and one that says which: none. Nor
        is there a token of a picture. Masks are of ones, as texts are trimmed.
        """
        model = self.transformer
        told = {name: x.to(self.device, model.dtype) for name, x in text.items()}
        x_BCTHW = latents.to(self.device, model.dtype).transpose(1, 2).contiguous()
        batch, n_channels = x_BCTHW.shape[:2]
        none_given = x_BCTHW.new_zeros(batch, n_channels + 1, *x_BCTHW.shape[2:])
        velocity_BCTHW: Tensor = model(
            hidden_states=torch.cat([x_BCTHW, none_given], dim=1),
            timestep=timestep.to(self.device).expand(batch).to(model.dtype),
            encoder_hidden_states=told["tokens"],
            encoder_attention_mask=told["tokens"].new_ones(told["tokens"].shape[:2]),
            encoder_hidden_states_2=told["glyphs"],
            encoder_attention_mask_2=told["glyphs"].new_ones(told["glyphs"].shape[:2]),
            image_embeds=x_BCTHW.new_zeros(batch, 0, model.config.image_embed_dim),
            return_dict=False,
        )[0]
        return velocity_BCTHW.transpose(1, 2).contiguous()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), one latent frame at a time."""
        vae = self.pipeline.vae
        z_BCTHW = latents.to(self.device, vae.dtype).transpose(1, 2)
        for chunk in stream_frames(vae, z_BCTHW / vae.config.scaling_factor):
            yield from frames_uint8(chunk)
