"""Mochi's autoencoder, decoded as a stream: equal to diffusers' own whole decode but for rounding.

Dims: B batch, C channels, T latent frames, H and W rows and columns.
Its convolutions look back two frames and never ahead, and its norms see one frame at a time. So each is given
the last two frames of what it was given before. diffusers' own frame-wise decoding cannot be used: it turns
off the padding in space together with that in time, and fails.
Decides: what a convolution remembers. Does not decide: how a pixel becomes a byte (engine.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from torch import Tensor

from engine.tiles import in_tiles

LATENTS = 2  # decoded at a time
_TIME = 2


def stream_pixels(vae: Any, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, t, H, W) whose concatenation over t is vae.decode(z_BCTHW).sample.

    Memory does not grow with T. Kernels of convolutions may round otherwise for fewer frames. In tiles of
    space where the autoencoder's tiling is on. Raises ValueError for one that decodes frame by frame.
    """
    if vae.use_framewise_decoding:
        raise ValueError("streaming equals the whole decode only: leave frame-wise decoding off")
    return in_tiles(vae, partial(_chunks, vae), z_BCTHW)


def _chunks(vae: Any, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """As stream_pixels, of one tile."""
    convolutions = [each for each in vae.decoder.modules() if isinstance(each, CogVideoXCausalConv3d)]
    memories = [Memory(each) for each in convolutions]
    for start in range(0, z_BCTHW.shape[_TIME], LATENTS):
        chunk = _decode(vae.decoder, z_BCTHW[:, :, start : start + LATENTS], memories)
        # the first latent frame stands for one pixel frame, the last of those that it is decoded to
        yield chunk if start else chunk[:, :, vae.temporal_compression_ratio - 1 :]


@torch.no_grad()
def _decode(decoder: Any, z_BCTHW: Tensor, memories: list[Memory]) -> Tensor:
    """Pixels of the next latent frames, as many a latent frame for the first one too."""
    with ExitStack() as hooks:
        for memory in memories:
            conv = memory.convolution
            hooks.enter_context(conv.register_forward_pre_hook(memory.put_before))
            hooks.enter_context(conv.register_forward_hook(memory.cut_off))
        pixels: Tensor = decoder(z_BCTHW)[0]
    return pixels


class Memory:
    """The last frames that one convolution in time was given, as far back as it looks."""

    def __init__(self, convolution: Any) -> None:
        self.convolution = convolution
        self.frames: Tensor | None = None
        self.n_before = 0

    def put_before(self, convolution: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        """Before the convolution: put what is remembered before its frames, and remember the last of all."""
        x = args[0] if self.frames is None else torch.cat([self.frames, args[0]], _TIME)
        self.n_before = x.shape[_TIME] - args[0].shape[_TIME]
        self.frames = x[:, :, -convolution.time_pad :].clone()  # a view would keep all of x
        return (x,)

    def cut_off(self, convolution: Any, args: Any, out: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        """After it: leave out the frames that were put before."""
        return out[0][:, :, self.n_before :], out[1]
