"""HunyuanVideo 1.5's autoencoder, decoded one latent frame at a time.

Dims: B batch, C channels, T latent frames, H and W rows and columns; A heads, L tokens, K head size.
This autoencoder is causal, but diffusers decodes a whole shot at once, with a mask as large as the square of
all its latents. Here each latent frame is decoded by itself and the modules are handed what they saw before:
convolutions their last two frames, attention all keys and values. The pixels are those of the whole decode
but for rounding. Memory grows with a shot by those keys and values alone, 2 H W C numbers a latent frame.
Decides: what of the past a module is handed. Does not decide: how a pixel becomes a byte (engine.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import (
    HunyuanVideo15CausalConv3d,
    HunyuanVideo15Upsample,
)
from torch import Tensor
from torch.overrides import TorchFunctionMode

_TIME = 2  # the frame axis of BCTHW
_REACH = 2  # frames that a convolution over three looks back


def stream_frames(vae: Any, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """Yield pixel chunks (B, 3, t, H, W), t = 1 of the first latent frame and 4 of every other.

    z_BCTHW is already divided by the scaling factor. Raises ValueError for an autoencoder that tiles.
    """
    if vae.use_tiling:
        raise ValueError("streaming equals the untiled decode only: call vae.disable_tiling() first")
    past = Past(vae.decoder)
    try:
        for index in range(z_BCTHW.shape[_TIME]):
            yield past.decode(z_BCTHW[:, :, index : index + 1])
    finally:
        past.remove()


class Past(TorchFunctionMode):
    """What a decoder's modules saw of earlier frames, handed to them by hooks until `remove`."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder, self.first = decoder, True
        self.frames: dict[Any, Tensor] = {}  # the last that a module saw
        self.pairs: dict[int, Tensor] = {}  # all keys and values (2, B, A, L, K) of the attentions
        self.turn = 0  # of the attentions, in the order in which they run
        ups = [up for up in decoder.modules() if isinstance(up, HunyuanVideo15Upsample)]
        finer = [up for up in ups if up.add_temporal_upsample]
        self.repeating = {up.conv.conv for up in finer}
        convolutions = [
            each.conv for each in decoder.modules() if isinstance(each, HunyuanVideo15CausalConv3d)
        ]
        self.hooks = [
            *(conv.register_forward_pre_hook(self._look_back) for conv in convolutions),
            *(up.register_forward_pre_hook(self._repeat_last) for up in finer),
            *(up.register_forward_hook(self._drop_first) for up in finer),
        ]

    def remove(self) -> None:
        """Leave the decoder as it was found."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def decode(self, z_BC1HW: Tensor) -> Tensor:
        """Pixels (B, 3, t, H, W) of the next latent frame."""
        self.turn = 0
        with self:
            pixels: Tensor = self.decoder(z_BC1HW)
        self.first = False
        return pixels

    def _look_back(self, conv: Any, args: tuple[Tensor]) -> Tensor:
        """Before a convolution: the frames before these, instead of repetitions of the first."""
        (padded,) = args
        if not self.first:
            padded = torch.cat([self.frames[conv], padded[:, :, _REACH:]], dim=_TIME)
        stop = padded.shape[_TIME] - (conv in self.repeating)  # the last comes again
        self.frames[conv] = padded[:, :, stop - _REACH : stop].clone()
        return padded

    def _repeat_last(self, up: Any, args: tuple[Tensor]) -> Tensor:
        """Before time is refined: the frame before these once more, as only the first is not doubled."""
        (x,) = args
        before = self.frames.get(up)
        self.frames[up] = x[:, :, -1:].clone()
        return x if before is None else torch.cat([before, x], dim=_TIME)

    def _drop_first(self, up: Any, args: Any, out: Tensor) -> Tensor:
        """After it: without what the repeated frame became."""
        return out if self.first else out[:, :, 1:]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let the only frame there is attend to all before it and itself, which needs no mask."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, *pair = args
        now = torch.stack(pair)
        every = now if self.first else torch.cat([self.pairs[self.turn], now], dim=-2)
        self.pairs[self.turn] = every
        self.turn += 1
        return F.scaled_dot_product_attention(query, every[0], every[1])
