"""Encode lesson clips ahead, so that the transformer's steps never run the autoencoder.

Shapes: clips are uint8 f_NTHWC, latents float16 z_NTCHW with 13 frames of a 49-frame clip. Decides the order
and the precision. Does not decide the scale of the latents: that is folded into the autoencoder beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from engine.chalk.clips import Clips, made_once, to_float

Latents = npt.NDArray[np.float16]
_BATCH = 4  # clips; PyTorch convolves a single one by a slower path


@torch.no_grad()
def encode(vae: AutoencoderKLCogVideoX, f_NTHWC: Clips) -> Tensor:
    """The posterior's means z_NTCHW in float32, times the scaling factor."""
    z_BCTHW = vae.encode(to_float(f_NTHWC)).latent_dist.mode()
    z: Tensor = z_BCTHW.permute(0, 2, 1, 3, 4) * vae.config.scaling_factor
    return z


def channel_std(vae: AutoencoderKLCogVideoX, clips: Clips) -> Tensor:
    """Standard deviation (C,) of every latent channel over these clips."""
    return torch.cat(list(_batches(vae, clips))).std(dim=(0, 1, 3, 4))


def fingerprint(vae: AutoencoderKLCogVideoX) -> str:
    """Eight hex digits of the encoder's weights, for the names of latents that it made."""
    digest = hashlib.blake2b(digest_size=4)
    for value in vae.encoder.state_dict().values():
        digest.update(value.float().numpy().tobytes())
    return digest.hexdigest()


def encode_clips(path: Path, vae: AutoencoderKLCogVideoX, clips: Clips) -> Latents:
    """Latents (N, 13, C, H/4, W/4) of all clips; encoded once, then read from path."""

    def halves() -> Iterator[Latents]:
        return (z.numpy().astype(np.float16) for z in _batches(vae, clips))

    latents: Latents = made_once(path, len(clips), halves)
    return latents


def _batches(vae: AutoencoderKLCogVideoX, clips: Clips) -> Iterator[Tensor]:
    """The latents of a few clips at a time."""
    return (encode(vae, clips[i : i + _BATCH]) for i in range(0, len(clips), _BATCH))
