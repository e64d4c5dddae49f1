"""LTX-Video: predict windows with the arithmetic of LTXPipeline and LTXImageToVideoPipeline.

Dims: B batch, T latent frames, C channels, H and W rows and columns; L tokens, T x H x W of them.
Bit equality with the stock pipeline for one window is a promise of this module, for texts that fill stock's
length. Shorter ones are padded and masked there and trimmed here, which is equal but for rounding.
Noise levels follow from a window's number of tokens, so that a long shot is denoised as clips of a window's
length are: by the shot's own, nearly all of its noise would be left to the last step.
The same weights draw from a text, or from a picture in its place, whose tokens stand at timestep 0. Stock
samples the picture's posterior; here it is its mean, so that a shot is drawn again alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoCausalConv3d, LTXVideoUpsampler3d
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.facts import read_facts
from engine.families.family import Conditioning, Family, Frames, unit_frames
from engine.parallel.spread import ParallelSpec
from engine.telling import Telling

FRAMES_PER_S = 25  # that positions are counted at: stock's default
# Decoders that are told a timestep finish the denoising themselves. Stock's default tells them that nothing
# is left to do; these are the values that LTX's documentation advises.
DECODE_TIMESTEP, DECODE_NOISE, DECODE_SEED = 0.05, 0.025, 0
_SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}


class LTX(Family):
    """LTX-Video 0.9.0 and 0.9.1, and what else both pipelines read."""

    pipeline_class = LTXPipeline
    schedulers: ClassVar = {"euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks",),
        attention="attn1",
        streams=("hidden_states",),
        rotary="rope",
        rotary_dim=1,
        beside="timestep",
    )
    channels_first = True
    latents_in_float32 = True
    one_batch = True
    scaled_in: ClassVar[torch.dtype | None] = torch.float32  # what is given; None for the weights' dtype

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Self:
        """As any family; positions are counted in pixels, so the folder says how many a latent has."""
        family, facts = super().load(folder, **options), read_facts(folder)
        family.pipeline.vae_spatial_compression_ratio = facts.spatial_compression
        family.pipeline.vae_temporal_compression_ratio = facts.temporal_compression
        return family

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Euler's steps, shifted by a window's tokens where the folder has use_dynamic_shifting."""
        if not window_shape:
            raise ValueError("LTX's steps depend on the size of a window, which is not given")
        frames, _, rows, columns = window_shape
        line = (scheduler.config.get(name, default) for name, default in _SHIFT.items())
        mu = calculate_shift(frames * rows * columns, *line)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / n_steps, n_steps), mu=mu)
        return scheduler

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """By a time of each token."""
        return Telling(times=True)

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance; float32 as in stock."""
        _, frames, _, height, width = latents.shape
        in_time, in_space = (
            self.pipeline.vae_temporal_compression_ratio,
            self.pipeline.vae_spatial_compression_ratio,
        )
        return self.velocity(
            latents,
            timestep,
            text,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(in_time / FRAMES_PER_S, in_space, in_space),
        ).float()

    def velocity(self, latents: Tensor, timestep: Tensor, text: Conditioning, **places: Any) -> Tensor:
        """What the transformer predicts of (B, T, C, H, W), told where tokens stand as its pipeline does.

        timestep is (), or, where latents are given, (B, T), doubled here where B is.
        """
        model, pipeline = self.transformer, self.pipeline
        batch, frames, _, height, width = latents.shape
        x_BCTHW = latents.to(self.device, model.dtype).transpose(1, 2).contiguous()
        x_BLC = pipeline._pack_latents(x_BCTHW)
        if batch > 1:  # as in stock: kernels differ in last bits by how memory is laid out
            x_BLC = x_BLC.contiguous()
        velocity_BLC = model(
            hidden_states=x_BLC,
            encoder_hidden_states=text["tokens"].to(self.device, model.dtype),
            timestep=_times(timestep.to(self.device), batch, height * width),
            encoder_attention_mask=None,
            return_dict=False,
            **places,
        )[0]
        velocity_BCTHW: Tensor = pipeline._unpack_latents(velocity_BLC, frames, height, width)
        return velocity_BCTHW.transpose(1, 2).contiguous()

    @torch.no_grad()
    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of 8 t - 7 frames in float32: the posterior's means."""
        vae = self.pipeline.vae
        z_1CTHW = vae.encode(unit_frames(f_THWC).to(self.device, vae.dtype)).latent_dist.mode()
        scaled: Tensor = self.pipeline._normalize_latents(
            z_1CTHW.to(self.scaled_in or vae.dtype), vae.latents_mean, vae.latents_std
        )
        return scaled.float().transpose(1, 2).contiguous()

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""
        for chunk in self.chunks(latents):
            yield from frames_uint8(chunk)

    def chunks(self, latents: Tensor) -> Iterator[Tensor]:
        """Pixels (1, 3, t, H, W) that make up the whole decode of latents (1, T, C, H, W), but for rounding.

        This decoder looks ahead, but only so far: a run of latent frames is decoded with all that its pixels
        depend on. A shot of one run has the bits of the whole decode.
        """
        vae = self.pipeline.vae
        if vae.use_framewise_decoding:
            raise ValueError("streaming equals the whole decode only: leave frame-wise decoding off")
        z_BCTHW = self._denormalised(latents.to(self.device, torch.float32).transpose(1, 2))
        reach, c = reach_latents(vae.decoder), vae.temporal_compression_ratio
        for start, stop in runs(z_BCTHW.shape[2], reach):
            before = max(start - reach, 0)
            chunk = self._decode(z_BCTHW[:, :, before : stop + reach])
            first = c * (start - 1) + 1 if start else 0
            yield chunk[:, :, first - c * before : c * (stop - 1) + 1 - c * before]

    def _denormalised(self, z_BCTHW: Tensor) -> Tensor:
        """What the decoder takes, with a little noise where it removes some: one draw for the whole shot."""
        vae = self.pipeline.vae
        scale = vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        z_BCTHW = self.pipeline._denormalize_latents(z_BCTHW, *scale).to(vae.dtype)
        if not vae.config.timestep_conditioning:
            return z_BCTHW
        generator = torch.Generator("cpu").manual_seed(DECODE_SEED)
        noise = torch.randn(z_BCTHW.shape, generator=generator, dtype=z_BCTHW.dtype).to(z_BCTHW.device)
        share = torch.tensor(DECODE_NOISE).to(z_BCTHW)
        return (1 - share) * z_BCTHW + share * noise

    @torch.no_grad()
    def _decode(self, z_BCTHW: Tensor) -> Tensor:
        """Pixels (1, 3, c (t - 1) + 1, H, W) of t latent frames.

        Some decoders add noise of their own: one plane for all frames, from the generator of the process, so
        that equal seeds make runs agree.
        """
        vae, device = self.pipeline.vae, z_BCTHW.device
        timestep = torch.tensor([DECODE_TIMESTEP]).to(z_BCTHW) if vae.config.timestep_conditioning else None
        with torch.random.fork_rng([device] if z_BCTHW.is_cuda else []):
            torch.manual_seed(DECODE_SEED)
            pixels: Tensor = vae.decode(z_BCTHW, timestep, return_dict=False)[0]
        return pixels


def _times(timestep: Tensor, batch: int, per_frame: int) -> Tensor:
    """A time for each video, (B,), or of frames' times, (B, T) or half of them, for each token, (B, L)."""
    if timestep.ndim == 0:
        return timestep.expand(batch)
    return timestep.repeat(batch // len(timestep), 1).repeat_interleave(per_frame, dim=1)


def reach_latents(decoder: Any) -> int:
    """How many latent frames to each side, at most, a pixel depends on: its convolutions' reach, summed up.

    Behind an upsampler in time a frame is a part of a latent frame. One more, as a part counts as a whole.
    """
    ups = [each for each in decoder.modules() if isinstance(each, LTXVideoUpsampler3d)]
    finer = {up.conv: up.stride[0] for up in ups}
    reach, scale = 1.0, 1
    for module in decoder.modules():  # in the order in which they run
        if isinstance(module, LTXVideoCausalConv3d):
            reach += (module.kernel_size[0] - 1) / (1 if module.is_causal else 2) / scale
            scale *= finer.get(module, 1)
    return math.ceil(reach)


def runs(n_latent: int, reach: int) -> list[tuple[int, int]]:
    """Half-open runs of latent frames that, with `reach` more on both sides, are 3 reach long at most."""
    if n_latent <= 3 * reach:
        return [(0, n_latent)]
    starts = [0, *range(2 * reach, n_latent - reach, reach)]
    return list(zip(starts, [*starts[1:], n_latent], strict=True))
