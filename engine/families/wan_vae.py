"""Wan's autoencoder: encoded whole, decoded one latent frame at a time, with the bits of diffusers' own.

Dims: B batch, C channels, T latent frames, H and W rows and columns.
This autoencoder carries its past itself, frame by frame, and decodes so in stock too.
Decides: what a latent frame is scaled to and decoded with. Does not decide: how a pixel becomes a byte
(engine.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor


@torch.no_grad()
def encoded(vae: Any, x_1CTHW: Tensor) -> Tensor:
    """Latents (1, t, C, H, W) in float32 of frames from -1 to 1: the posterior's means, as in stock."""
    z_1CTHW = vae.encode(x_1CTHW.to(vae.device, vae.dtype)).latent_dist.mode().float()
    mean, std = statistics(vae, z_1CTHW)
    scaled: Tensor = (z_1CTHW - mean) * (1.0 / std)
    return scaled.transpose(1, 2).contiguous()


def stream_frames(vae: Any, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, t, H, W), t = 1 of the first latent frame and 4 of every other.

    z_BCTHW is as a canvas left it, on the autoencoder's device and in its dtype; it is scaled here. Raises
    ValueError for an autoencoder that tiles in space.
    """
    if vae.use_tiling:
        raise ValueError("streaming equals the untiled decode only: call vae.disable_tiling() first")
    mean, std = statistics(vae, z_BCTHW)
    vae.clear_cache()
    for index in range(z_BCTHW.shape[2]):
        yield _decode(vae, z_BCTHW[:, :, index : index + 1] / (1.0 / std) + mean, first=index == 0)
    vae.clear_cache()


def statistics(vae: Any, z_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every latent channel, (1, C, 1, 1, 1)."""
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(z_BCTHW)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


@torch.no_grad()
def _decode(vae: Any, z_BC1HW: Tensor, *, first: bool) -> Tensor:
    """Pixels (B, 3, t, H, W) of the next latent frame."""
    vae._conv_idx = [0]
    chunk = vae.decoder(
        vae.post_quant_conv(z_BC1HW), feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=first
    )
    if vae.config.patch_size is not None:
        chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
    return torch.clamp(chunk, min=-1.0, max=1.0)
