"""Where MiniMax-H3's sound lies on a canvas, and the two schedules of its steps.

Dims: B batch, T latent frames, C channels, H and W rows and columns of the pictures' latents, R rows of the
sound's, n tokens of sound, D numbers of each.
Sound has 40 latents a second in each of two channels; pictures have 24 frames, which five of every 17 latent
frames keep. Every latent frame carries the latents of sound that begin in it, in rows below its own. What is
left of those rows is never looked at.
Decides: which sound belongs to which latent frame. Does not decide: how either is predicted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.timeline import first_pixel

CLOCK = (4, 5)  # pixel frames of a latent frame, but for one of every five, which is of a single one
WIDTH, _CHANNELS = 32, 2  # numbers of one latent of sound; of stereo
_MOST = 7  # latents of sound that begin in one latent frame, at most
_FLOATS = _MOST * _CHANNELS * WIDTH


def n_sound(n_frames: int) -> int:
    """Latents of sound, in each channel, before latent frame n_frames: 5/3 a pixel frame, rounded."""
    return (10 * first_pixel(n_frames, *CLOCK) + 3) // 6


def sound_rows(channels: int, width: int) -> int:
    """Rows R that hold a latent frame's sound."""
    return math.ceil(_FLOATS / (channels * width))


def _places(n_frames: int) -> tuple[Tensor, Tensor]:
    """Of every latent of sound, the latent frame that it belongs to and its place there."""
    starts = torch.tensor([n_sound(frame) for frame in range(n_frames + 1)])
    frame = torch.repeat_interleave(torch.arange(n_frames), starts.diff())
    return frame, torch.arange(len(frame)) - starts[frame]


def add_sound(z_BTCHW: Tensor, sound_BnD: Tensor) -> Tensor:
    """Latents (B, T, C, H + R, W): pictures, with tokens of sound, channel by channel, below them."""
    batch, frames, channels, _, width = z_BTCHW.shape
    frame, place = _places(frames)
    both = sound_BnD.view(batch, _CHANNELS, len(frame), WIDTH).transpose(1, 2).flatten(2)
    held = both.new_zeros(batch, frames, _MOST, both.shape[-1])
    held[:, frame, place] = both
    rows = sound_rows(channels, width)
    flat = F.pad(held.flatten(2), (0, channels * rows * width - _FLOATS))
    return torch.cat([z_BTCHW, flat.view(batch, frames, channels, rows, width)], dim=3)


def split_sound(z: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures z_BTCHW and tokens of sound of latents (B, T, C, H + R, W): undoes add_sound."""
    batch, frames, channels, _, width = z.shape
    rows = sound_rows(channels, width)
    frame, place = _places(frames)
    held = z[..., -rows:, :].flatten(2)[..., :_FLOATS].view(batch, frames, _MOST, -1)
    both = held[:, frame, place].view(batch, len(frame), _CHANNELS, WIDTH).transpose(1, 2)
    return z[..., :-rows, :], both.reshape(batch, -1, WIDTH)


class Clocks:
    """Two schedulers that step as one: that of the pictures and that of the sound, with equally many steps.

    A timestep is of shape (2,), one for each. Neither keeps anything that its timesteps do not tell.
    """

    def __init__(self, pictures: Any, sound: Any) -> None:
        self.pictures, self.sound = pictures, sound
        self.timesteps = torch.stack([pictures.timesteps, sound.timesteps], dim=1)

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        """The next of latents (..., C, H + R, W), each part by its own step."""
        rows = sound_rows(sample.shape[-3], sample.shape[-1])
        stepped = [
            each.step(model_output[..., part, :], time, sample[..., part, :], return_dict=False)[0]
            for each, time, part in (
                (self.pictures, timestep[0], slice(None, -rows)),
                (self.sound, timestep[1], slice(-rows, None)),
            )
        ]
        return (torch.cat(stepped, dim=-2),)
