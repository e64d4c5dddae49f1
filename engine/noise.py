"""Noise that belongs to a place on the canvas, never to a window or a worker.

Dims: B batch, T latent frames, C channels, H and W latent rows and columns. Keyed noise is a pure
function of (seed, shot, step, latent frame): any worker regenerates any frame with the same bits, so
retries, other gang counts and other orders cannot change a film.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

INITIAL = -1  # the `step` of the noise a shot starts from; scheduler steps count from 0
REDRAW = -2  # of the noise that covers a draft: its own made the draft, and would not be new to it
SHUFFLE = -3  # of the order in which noise is used again


def noise_key(seed: int, shot: str, step: int, frame: int) -> int:
    """A 63-bit generator seed for one latent frame; different places get unrelated keys."""
    # length-prefixed by repr(): ("a", 11) and ("a1", 1) must not meet
    text = repr((int(seed), shot, int(step), int(frame))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def keyed_noise(
    seed: int, shot: str, step: int, frames: Sequence[int], frame_shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Gaussian noise (1, T, C, H, W) for latent `frames`; `frame_shape` is (C, H, W).

    Drawn on the CPU in float32 and cast once, so that the device cannot change it.
    """
    draws = [_draw(noise_key(seed, shot, step, frame), frame_shape) for frame in frames]
    return torch.stack(draws).unsqueeze(0).to(dtype)


@dataclass(frozen=True)
class StepNoise:
    """Where a canvas finds the noise of its steps: a generator for each latent frame.

    `frames` are those of the shot that the canvas's stand for, if they are not the first ones; steps_before
    is how many steps of the shot lie before the canvas's step 0.
    """

    seed: int
    shot: str
    frames: Sequence[int] = ()
    steps_before: int = 0

    def generators(self, step: int, n_frames: int) -> list[torch.Generator]:
        """New CPU generators, each keyed by (seed, shot, step, frame); no state goes from step to step."""
        frames, step = self.frames or range(n_frames), self.steps_before + step
        return [_generator(noise_key(self.seed, self.shot, step, frame)) for frame in frames]

    def of(self, step: int, places: Sequence[int], frame_shape: Sequence[int]) -> Tensor:
        """Noise (1, T, C, H, W) in float32 at some places of the canvas, as its generators draw it."""
        frames = [self.frames[place] if self.frames else place for place in places]
        return keyed_noise(self.seed, self.shot, self.steps_before + step, frames, frame_shape, torch.float32)


def shuffled_source(seed: int, shot: str, frame: int, size: int, stride: int) -> int:
    """The frame of the first window whose noise this frame begins from (FreeNoise, arXiv 2310.15169).

    The first `size` frames are their own. Behind them blocks of `stride` frames follow, of which each is a
    keyed permutation of the block that began `size` frames before it. The frame's own noise, far from any
    other's, gives way to noise that the first window has seen: windows are alike, and so is their motion.
    """
    while frame >= size:
        block, place = divmod(frame - size, stride)
        start = block * stride
        order = sorted(range(start, start + stride), key=lambda other: noise_key(seed, shot, SHUFFLE, other))
        frame = order[place]
    return frame


def stock_noise(seed: int, shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, torch.Generator]:
    """One draw of the whole canvas, the layout that diffusers' own pipelines use, and the generator after it.

    A stochastic scheduler goes on drawing from that generator. Both depend on the number of frames, so this
    layout serves parity with the stock pipeline, not long shots.
    """
    generator = _generator(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype), generator


def _draw(key: int, frame_shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(frame_shape), generator=_generator(key), dtype=torch.float32)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)
