"""SkyReels-V2: predict windows with the arithmetic of stock's pipelines for texts, pictures and going on.

Dims: B batch, T latent frames, C channels, H and W rows and columns of a window's latents.
Bit equality with the stock pipeline for one window is a promise of this module. SkyReels-V2 is a Wan that
may have been taught diffusion forcing (arXiv:2407.01392): a noise level of its own for every latent frame. So
a window can go on from latents of the one before it, as stock's does for long videos (overlap_history), or
from those of a picture or a clip.
Stock's asynchronous mode (ar_step), in which frames are denoised one block after another, is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    UniPCMultistepScheduler,
    WanPipeline,
)
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, Frames, unit_frames
from engine.families.wan_pictures import IMAGE, pictures_given, with_beside
from engine.families.wan_vae import encoded, stream_frames
from engine.parallel.spread import ParallelSpec
from engine.telling import Telling

GIVEN_NOISE = 20  # thousandths, in the latents that a window goes on from, as SkyReels advises
_FASTER = 1  # its embedding of frame rates knows two: 16 a second, and faster, as stock's default of 24


class OverwritingUniPC(UniPCMultistepScheduler):  # type: ignore[misc]
    """UniPC as stock's diffusion forcing runs it.

    There each latent frame is stepped by itself and written over the sample that its scheduler still refers
    to. So the first correction starts from the sample that it corrects rather than from the one before; later
    ones start from a copy.
    """

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = False) -> Any:
        """The sample at the next of the flow's times."""
        if self.step_index == 1:
            self.last_sample = sample
        return super().step(model_output, timestep, sample, return_dict)


class SkyReels(Family):
    """SkyReels-V2 with one noise level for a whole window."""

    pipeline_class = SkyReelsV2Pipeline
    schedulers: ClassVar = {"unipc": UniPCMultistepScheduler}
    parallel = ParallelSpec(
        blocks=("blocks",), attention="attn1", streams=("hidden_states",), rotary="rope", rotary_dim=1
    )
    channels_first = True
    latents_in_float32 = True
    tiles = False
    one_batch = False

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as tokens (1, max_text_tokens, text dim), of which those behind its own are zero.

        SkyReels-V2 encodes as Wan does. Asked of Wan's pipeline, whose copy in stock's SkyReels-V2 fails
        without ftfy, a package that mends broken characters in a prompt where it is there.
        """
        if self.pipeline.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        tokens = WanPipeline._get_t5_prompt_embeds(
            self.pipeline, text, max_sequence_length=max_text_tokens, device=self.device
        )
        return {"tokens": tokens}

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H, W), in the weights' dtype; timestep is ()."""
        return self._call(latents, text, timestep=timestep.to(self.device).expand(len(latents)))

    def _call(self, latents: Tensor, text: Conditioning, **told: Any) -> Tensor:
        """One call of the transformer, told the time as its kind wants it."""
        model = self.transformer
        velocity_BCTHW: Tensor = model(
            hidden_states=latents.to(self.device).transpose(1, 2).contiguous().to(model.dtype),
            encoder_hidden_states=text["tokens"].to(self.device, model.dtype),
            return_dict=False,
            **told,
        )[0]
        return velocity_BCTHW.transpose(1, 2).contiguous()

    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of 4 t - 3 frames in float32, rounded to the weights' dtype as in stock."""
        vae = self.pipeline.vae
        return encoded(vae, unit_frames(f_THWC)).to(vae.dtype).float()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), one latent frame at a time."""
        vae = self.pipeline.vae
        for chunk in stream_frames(vae, latents.to(self.device, vae.dtype).transpose(1, 2)):
            yield from frames_uint8(chunk)


class SkyReelsImageToVideo(SkyReels):
    """SkyReels-V2 from a picture, whose latents are seen beside, with a mask, and which CLIP sees, too."""

    pipeline_class = SkyReelsV2ImageToVideoPipeline

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """As from a text, on latents with channels beside them."""
        image = text[IMAGE].to(self.device, self.transformer.dtype)
        times_B = timestep.to(self.device).expand(len(latents))
        seen = with_beside(latents, text)
        return self._call(seen, text, timestep=times_B, encoder_hidden_states_image=image)

    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """As of Wan's models from pictures."""
        return pictures_given(self.pipeline, given, n_frames, self.device)


class SkyReelsForcing(SkyReels):
    """SkyReels-V2 that was taught diffusion forcing, in synchronous windows: those to denoise step as one."""

    pipeline_class = SkyReelsV2DiffusionForcingPipeline
    parallel = ParallelSpec(
        blocks=("blocks",),
        attention="attn1",
        streams=("hidden_states",),
        rotary="rope",
        rotary_dim=1,
        modulation=("temb", 2),
        last=("norm_out",),  # what follows modulates by token, and proj_out is for all of them
    )

    @property
    def takes_batches(self) -> bool:
        """Not where the folder was taught the frame rate: diffusers adds it to one video alone."""
        return not self.transformer.config.inject_sample_info

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """By a time of each frame, given ones almost clean, as by stock's addnoise_condition."""
        return Telling(times=True, noise=GIVEN_NOISE)

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """UniPC's steps, as stock makes them."""
        return super().with_timesteps(OverwritingUniPC.from_config(scheduler.config), n_steps, window_shape)

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), in the weights' dtype; timestep is () or (B, T).

        Stock rounds timesteps to whole numbers, and tells the frame rate where the folder was taught it.
        """
        batch, n_frames = latents.shape[:2]
        times_BT = timestep.to(self.device).long().expand(batch, n_frames)
        rates = [_FASTER] * batch
        return self._call(latents, text, timestep=times_BT, enable_diffusion_forcing=True, fps=rates)
