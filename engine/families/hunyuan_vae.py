"""HunyuanVideo's autoencoder, decoded as a stream with the bits of diffusers' own decode.

Dims: B batch, C channels, T latent frames, H and W rows and columns.
This autoencoder averages over the frames that it is given and carries no past. So diffusers decodes tiles of
a few latent frames, each overlapping the next, and blends them where they overlap; here too, one at a time.
Decides: when pixels are final. Does not decide: how a pixel becomes a byte (engine.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.tiles import in_tiles


def stream_tiles(vae: Any, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, t, H, W) whose concatenation over t is vae.decode(z_BCTHW).sample.

    z_BCTHW is already divided by the scaling factor. Two tiles of time live at a time, each decoded in
    tiles of space where the autoencoder's tiling is on.
    """
    per_latent, n_latent = vae.temporal_compression_ratio, z_BCTHW.shape[2]
    size = vae.tile_sample_min_num_frames // per_latent
    if not vae.use_framewise_decoding or n_latent <= size:
        yield _decode(vae, z_BCTHW)
        return
    step = vae.tile_sample_stride_num_frames
    left, before = (n_latent - 1) * per_latent + 1, None
    for start in range(0, n_latent, step // per_latent):
        tile = _decode(vae, z_BCTHW[:, :, start : start + size + 1])
        if before is not None:
            tile = vae.blend_t(before, tile[:, :, 1:], vae.tile_sample_min_num_frames - step)
        shown = tile[:, :, : step + (start == 0)][:, :, :left]
        left, before = left - shown.shape[2], tile
        yield shown


@torch.no_grad()
def _decode(vae: Any, z_BCTHW: Tensor) -> Tensor:
    """Pixels of latent frames decoded at once."""
    return next(in_tiles(vae, lambda z: iter([vae.decoder(vae.post_quant_conv(z))]), z_BCTHW))
