"""HunyuanVideo 1.5: predict windows with the arithmetic of stock's pipelines for texts and for pictures.

Bit equality with the stock pipelines for one window is a promise of this module where stock is given no
padding. Stock pads both texts and 729 tokens of a picture that is not there, and masks them; the transformer
moves what is masked behind all else. Here only real tokens are passed, which is equal but for rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
)
from PIL import Image
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, Frames, fall_evenly, unit_frames
from engine.families.hunyuan15_vae import stream_frames
from engine.families.variants import is_guided
from engine.parallel.spread import ParallelSpec
from engine.takes import BESIDE, FIRST

_IMAGE = "image"  # what SigLIP makes of the picture, beside the texts' tokens
GLYPH_TOKENS = 256  # of the texts in quotation marks, as stock cuts them


def incomplete(stock: Any) -> Any:
    """Stock's pipeline, of which some parts may be left out: stock's own needs an autoencoder to be made."""

    class Parts(stock):  # type: ignore[misc]
        def __init__(self, **parts: Any) -> None:
            DiffusionPipeline.__init__(self)
            self.register_modules(**parts)

    Parts.__init__.__signature__ = inspect.signature(stock.__init__)  # type: ignore[attr-defined]
    return Parts


class HunyuanVideo15(Family):
    """HunyuanVideo 1.5, guided in branches, or distilled from guidance: then its folder's guider is off."""

    pipeline_class = incomplete(HunyuanVideo15Pipeline)
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
    tiles = False
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

        Behind the latents' channels come those of frames that are given, and one that says which; of a text
        alone all are 0, and there is no token of a picture. Masks are of ones, as texts are trimmed.
        """
        model = self.transformer
        told = {name: x.to(self.device, model.dtype) for name, x in text.items()}
        x_BCTHW = latents.to(self.device, model.dtype).transpose(1, 2).contiguous()
        batch, n_channels = x_BCTHW.shape[:2]
        none_given = x_BCTHW.new_zeros(batch, n_channels + 1, *x_BCTHW.shape[2:])
        no_picture = x_BCTHW.new_zeros(batch, 0, model.config.image_embed_dim)
        beside = told[BESIDE].transpose(1, 2) if BESIDE in told else none_given
        velocity_BCTHW: Tensor = model(
            hidden_states=torch.cat([x_BCTHW, beside], dim=1),
            timestep=timestep.to(self.device).expand(batch).to(model.dtype),
            encoder_hidden_states=told["tokens"],
            encoder_attention_mask=told["tokens"].new_ones(told["tokens"].shape[:2]),
            encoder_hidden_states_2=told["glyphs"],
            encoder_attention_mask_2=told["glyphs"].new_ones(told["glyphs"].shape[:2]),
            image_embeds=told.get(_IMAGE, no_picture),
            return_dict=False,
        )[0]
        return velocity_BCTHW.transpose(1, 2).contiguous()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), one latent frame at a time."""
        vae = self.pipeline.vae
        z_BCTHW = latents.to(self.device, vae.dtype).transpose(1, 2)
        for chunk in stream_frames(vae, z_BCTHW / vae.config.scaling_factor):
            yield from frames_uint8(chunk)


class HunyuanVideo15ImageToVideo(HunyuanVideo15):
    """HunyuanVideo 1.5 from a picture: its latent stands beside the first frame, and SigLIP's tokens of it
    beside the text's."""

    pipeline_class = incomplete(HunyuanVideo15ImageToVideoPipeline)

    @torch.no_grad()
    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """Channels beside every latent frame, C of the picture and one of the mask; and what SigLIP sees."""
        parts, (picture,) = self.pipeline, given[FIRST]
        vae = parts.vae
        x_1CTHW = unit_frames(given[FIRST]).to(self.device, vae.dtype)
        z_1CTHW = vae.encode(x_1CTHW).latent_dist.mode() * vae.config.scaling_factor
        first = torch.cat([z_1CTHW, torch.ones_like(z_1CTHW[:, :1])], dim=1).transpose(1, 2)
        rest = first.new_zeros(1, (n_frames - 1) // vae.temporal_compression_ratio, *first.shape[2:])
        tokens = parts._get_image_embeds(
            parts.image_encoder, parts.feature_extractor, Image.fromarray(picture), self.device
        )
        return {BESIDE: torch.cat([first, rest], dim=1), _IMAGE: tokens}
