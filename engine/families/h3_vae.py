"""MiniMax-H3's autoencoder, decoded as a stream with the bits of diffusers' own decode.

Dims: B batch, C channels, T latent frames, H and W rows and columns.
Its decoder sees seven latent frames at once and no past: the five of a clip, and two of the next, which the
next clip decodes again. The pixels of both are faded into each other. Here the clips come one at a time. Each
is tiled in space as stock has it, on by default: the model was published so.
Decides: when pixels are final. Does not decide: how a pixel becomes a byte (engine.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.families.h3_sound import CLOCK
from engine.timeline import first_pixel

_TIME = 2


@torch.no_grad()
def stream_clips(
    vae: Any, z_BCTHW: Tensor, mean: Tensor | float = 0.0, std: Tensor | float = 1.0
) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, t, H, W) whose concatenation over t is vae.decode(std z_BCTHW + mean).sample.

    mean and std are of latents, (1, C, 1, 1, 1). Beyond z, one clip and the end of the one before live.
    """
    dtype = next(vae.post_quant_conv.parameters()).dtype
    size, n_latent = vae.tokens_chunk_size, z_BCTHW.shape[_TIME]
    left, before = first_pixel(n_latent, *CLOCK), z_BCTHW[:, :0]
    for start in range(0, max(n_latent - vae.token_overlap, 1), size):
        stop = start + size + vae.token_overlap
        seen = _filled(z_BCTHW[:, :, start:stop], stop - start)
        clip = vae._decode_clip((seen * std + mean).to(dtype))
        own, after = torch.split(clip, size * vae.temporal_compression_ratio, _TIME)
        own, after = (part[:, :, vae.frame_pre_padding :] for part in (own, after))
        if start:
            own = vae._blend(before, own, vae.frame_overlap, dim=_TIME)
        yield own[:, :, :left]
        left, before = max(left - own.shape[_TIME], 0), after
    yield before[:, :, :left]


def _filled(z_BCTHW: Tensor, size: int) -> Tensor:
    """As many latent frames as the decoder sees, the last one repeated."""
    missing = size - z_BCTHW.shape[_TIME]
    return torch.cat([z_BCTHW, z_BCTHW[:, :, -1:].expand(-1, -1, missing, -1, -1)], _TIME)
