"""Latents to pixel frames, chunk by chunk, with the bits of the whole decode.

Dims: B batch, C channels, T or F latent frames, H and W rows and columns; pixel chunks are BCTHW too.
Decides: where the VAE's temporal batches lie and how a pixel becomes a byte. Does not decide: what to do with
a frame.

The causal VAE carries its past in conv_cache, so the convolutions would allow any cut. GroupNorm does not: it
averages over the time axis of the batch that it is given. Hence the one rule here: carry the cache AND cut
where diffusers cuts (3, 2, 2, ... for an odd number of latent frames).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from engine.blending import NotFinite
from engine.tiles import in_tiles

_TIME = 2  # the frame axis of z_BCTHW and of a pixel chunk


def n_latent_frames(n_pixels: int, c: int = 4) -> int:
    """Latent frames of n_pixels pixel frames; ValueError unless n_pixels is c k + 1."""
    if n_pixels < 1 or (n_pixels - 1) % c:
        raise ValueError(
            f"{n_pixels} pixel frames are not {c} k + 1, so no number of latent frames gives them"
        )
    return (n_pixels - 1) // c + 1


def stream_decode(vae: AutoencoderKLCogVideoX, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, T, H, W) in [-1, 1] whose concatenation over T is vae.decode(z_BCTHW).sample.

    In tiles of space where the autoencoder's tiling is on, as there. z_BCTHW is already divided by the
    scaling factor, as for vae.decode. Beyond z itself, memory does not grow with F: one chunk and one cache
    live at a time. The VAE must be on z's device, since offload hooks of
    vae.decode do not run. No gradients. Raises ValueError, at the call, for what it cannot decode so.
    """
    _check(z_BCTHW)
    return in_tiles(vae, partial(_chunks, vae), z_BCTHW)


def shown_frames(
    vae: AutoencoderKLCogVideoX, latents_BTCHW: Tensor, device: str = "cpu"
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pixel frames (H, W, 3) of one shot's latents (1, F, C, H, W), as a canvas left them."""
    z_BCTHW = latents_BTCHW.to(device, vae.dtype).permute(0, 2, 1, 3, 4)
    # Times the reciprocal, as the pipeline does: a quotient may have another last bit, a pixel another byte.
    for chunk in stream_decode(vae, 1 / vae.config.scaling_factor * z_BCTHW):
        yield from frames_uint8(chunk)


def frames_uint8(chunk_BCTHW: Tensor) -> npt.NDArray[np.uint8]:
    """Bytes (T, H, W, 3) of one chunk (1, 3, T, H, W) in [-1, 1], rounded as diffusers' VideoProcessor does.

    x / 2 + 1/2 clamped to [0, 1] in the chunk's own dtype, then float32, times 255, rounded half to even.
    Raises NotFinite as unit_uint8.
    """
    # Denormalize before the cast: in bfloat16 the other order rounds to other bytes than the stock pipeline.
    return unit_uint8((chunk_BCTHW.detach() * 0.5 + 0.5).clamp(0, 1))


def unit_uint8(unit_BCTHW: Tensor) -> npt.NDArray[np.uint8]:
    """Bytes (T, H, W, 3) of one chunk (1, 3, T, H, W) in [0, 1].

    Raises NotFinite for a chunk with NaN, which would be black.
    """
    if bool(unit_BCTHW.isnan().any()):
        raise NotFinite(f"{int(unit_BCTHW.isnan().sum()):,} of {unit_BCTHW.numel():,} decoded values are NaN")
    if unit_BCTHW.ndim != 5 or unit_BCTHW.shape[0] != 1:
        raise ValueError(f"expected one video (1, 3, T, H, W), not {tuple(unit_BCTHW.shape)}")
    unit_THWC = unit_BCTHW[0].permute(1, 2, 3, 0).cpu().float().numpy()
    return np.ascontiguousarray((unit_THWC * 255).round().astype(np.uint8))


def _check(z_BCTHW: Tensor) -> None:
    if z_BCTHW.ndim != 5:
        raise ValueError(f"latents are (batch, channels, frames, height, width), not {tuple(z_BCTHW.shape)}")
    n_frames = z_BCTHW.shape[_TIME]
    if n_frames % 2 == 0:
        # Without a batch of odd length the VAE upsamples every frame by 4, also the first.
        raise ValueError(
            f"{n_frames} latent frames: an even number F decodes to 4 F frames, not to 4 (F - 1) + 1"
        )


def _batch_bounds(n_frames: int, size: int) -> list[tuple[int, int]]:
    """The half-open latent ranges of diffusers' _decode: the first batch also takes the remainder."""
    rest = n_frames % size
    n_batches = max(n_frames // size, 1)
    starts = [0] + [size * i + rest for i in range(1, n_batches)]
    return list(zip(starts, [*starts[1:], n_frames], strict=True))


def _chunks(vae: AutoencoderKLCogVideoX, z_BCTHW: Tensor) -> Iterator[Tensor]:
    # Slicing decodes each video alone; batched kernels may give other bits, so it is followed here too.
    sliced = vae.use_slicing and z_BCTHW.shape[0] > 1
    videos = torch.tensor_split(z_BCTHW, z_BCTHW.shape[0]) if sliced else (z_BCTHW,)
    caches: list[Any] = [None] * len(videos)
    for start, stop in _batch_bounds(z_BCTHW.shape[_TIME], vae.num_latent_frames_batch_size):
        # No local name holds the chunk over the yield: it is the caller's alone, and goes when they drop it.
        yield _decode_batch(vae, [video[:, :, start:stop] for video in videos], caches)


@torch.no_grad()  # a graph kept through conv_cache would make memory grow with every chunk
def _decode_batch(vae: AutoencoderKLCogVideoX, videos: list[Tensor], caches: list[Any]) -> Tensor:
    """Pixels (B, 3, T, H, W) of one temporal batch; replaces each video's entry of caches."""
    pixels = []
    for i, z in enumerate(videos):
        if vae.post_quant_conv is not None:
            z = vae.post_quant_conv(z)
        x, caches[i] = vae.decoder(z, conv_cache=caches[i])
        pixels.append(x)
    return pixels[0] if len(pixels) == 1 else torch.cat(pixels)
