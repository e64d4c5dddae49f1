"""Wan 2.1 and 2.2: predict windows with the arithmetic of WanPipeline and WanImageToVideoPipeline.

Bit equality with the stock pipelines for one window is a promise of this module. Wan 2.2's two experts share
a film by noise level: the folder's boundary_ratio says from which timestep on the second one predicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, Frames, unit_frames
from engine.families.reading import read_index
from engine.families.wan_pictures import IMAGE, pictures_given, with_beside
from engine.families.wan_vae import encoded, stream_frames
from engine.parallel.spread import ParallelSpec
from engine.telling import ONE_TIME, Telling


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
    tiles = False
    one_batch = False

    @classmethod
    def scheduler_of_kind(cls, kind: str, config: Any) -> Any:
        """Both kinds follow the same flow, but name its shift differently."""
        shift = config.get("flow_shift", config.get("shift", 1.0))
        if kind == "euler":
            return FlowMatchEulerDiscreteScheduler(config["num_train_timesteps"], shift=shift)
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
        return UniPCMultistepScheduler.from_config(config, **flow)

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """By a time of each token, where the folder has such: then a given picture is at timestep 0."""
        return Telling(times=True) if read_index(folder).get("expand_timesteps") else ONE_TIME

    @property
    def transformers(self) -> Sequence[Any]:
        """One, or the two experts."""
        return [each for each in (self.pipeline.transformer, self.pipeline.transformer_2) if each is not None]

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the expert for this timestep on latents (B, T, C, H, W), in the weights' dtype."""
        model = self._expert(float(timestep.max()))
        image = text.get(IMAGE)
        x_BCTHW = with_beside(latents, text).to(self.device).transpose(1, 2).contiguous().to(model.dtype)
        velocity_BCTHW: Tensor = model(
            hidden_states=x_BCTHW,
            timestep=self._timesteps(timestep.to(self.device), x_BCTHW),
            encoder_hidden_states=text["tokens"].to(self.device, model.dtype),
            encoder_hidden_states_image=None if image is None else image.to(self.device, model.dtype),
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
        return timestep.float().expand(batch, frames).repeat_interleave(per_frame, dim=1)

    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of 4 t - 3 frames, as a canvas holds them."""
        return encoded(self.pipeline.vae, unit_frames(f_THWC))

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), one latent frame at a time."""
        vae = self.pipeline.vae
        for chunk in stream_frames(vae, latents.to(self.device, vae.dtype).transpose(1, 2)):
            yield from frames_uint8(chunk)


class WanImageToVideo(Wan):
    """Wan 2.1 and 2.2 I2V and FLF2V: latents of the given pictures are seen beside, with a mask."""

    pipeline_class = WanImageToVideoPipeline

    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """As WanPipeline, which does the same, but does not ask for ftfy where that is not installed."""
        pipeline = self.pipeline
        parts = {"tokenizer": pipeline.tokenizer, "text_encoder": pipeline.text_encoder, "vae": None}
        plain = WanPipeline(**parts, scheduler=pipeline.scheduler, transformer=None)
        return Wan(plain).embed(text, max_text_tokens)

    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """Channels beside every latent frame, 4 of the mask and C of the pictures; and what CLIP sees."""
        if self.pipeline.config.expand_timesteps:
            return super().give(given, n_frames)
        return pictures_given(self.pipeline, given, n_frames, self.device)
