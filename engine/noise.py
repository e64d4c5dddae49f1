"""Noise that belongs to a place on the canvas, never to a window or a worker.

Dims: B batch, T latent frames, C channels, H and W latent rows and columns. Keyed noise is a pure
function of (seed, shot, step, latent frame): any worker regenerates any frame with the same bits, so
retries, other gang counts and other orders cannot change a film.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

INITIAL = -1  # the `step` of the noise a shot starts from; scheduler steps count from 0


def noise_key(seed: int, shot: str, step: int, frame: int) -> int:
    """A 63-bit generator seed for one latent frame; different places get unrelated keys."""
    # length-prefixed by repr(): ("a", 11) and ("a1", 1) must not meet
    text = repr((int(seed), shot, int(step), int(frame))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def keyed_noise(
    seed: int, shot: str, step: int, frames: range, frame_shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Gaussian noise (1, T, C, H, W) for latent `frames`; `frame_shape` is (C, H, W).

    Drawn on the CPU in float32 and cast once, so that the device cannot change it.
    """
    draws = [_draw(noise_key(seed, shot, step, frame), frame_shape) for frame in frames]
    return torch.stack(draws).unsqueeze(0).to(dtype)


def stock_noise(seed: int, shape_BTCHW: Sequence[int], dtype: torch.dtype) -> Tensor:
    """One draw of the whole canvas, the layout that diffusers' own pipelines use.

    It depends on the number of frames, so it serves parity with the stock pipeline, not long shots.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(tuple(shape_BTCHW), generator=generator, dtype=dtype)


def _draw(key: int, frame_shape: Sequence[int]) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(key)
    return torch.randn(tuple(frame_shape), generator=generator, dtype=torch.float32)
