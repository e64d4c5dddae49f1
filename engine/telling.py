"""What a model is told of a window whose first latent frames are given: how much noise each frame has.

Dims: B batch, T latent frames of a window, C channels, H and W rows and columns of its latents.
Decides: a window's latents and timesteps as its model sees them. Does not decide: which latents are given
(canvas), or which models are told (families).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Telling:
    """How a model knows which of its latents are given.

    With `times` it has a timestep for every latent frame, and given ones stand at `noise`, in thousandths,
    under that share of noise in `dtype`, the weights', or stand at 0 with `fading` times the square of the
    step's noise level added. Without, it has one for all, and sees or is told otherwise which are free of
    noise. With `beside` it sees them beside its latents, of which it draws all.
    """

    times: bool = False
    noise: int = 0
    dtype: torch.dtype = torch.float32
    beside: bool = False
    fading: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether given latents are shown under noise."""
        return bool(self.noise or self.fading)

    def of(
        self, latents: Tensor, timestep: Tensor, given: int, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Latents (B, T, C, H, W) and timesteps (B, T), of which the first `given` are given.

        noise is (1, given, C, H, W), needed where given latents are shown under some.
        """
        times_BT = timestep.repeat(*latents.shape[:2])
        times_BT[:, :given] = self.noise
        if not self.noisy:
            return latents, times_BT
        if noise is None:
            shown = f"{self.noise} thousandths of" if self.noise else "fading"
            raise ValueError(f"given latents are shown under {shown} noise: give it")
        if self.fading:
            seen = latents.clone()
            seen[:, :given] += self.fading * noise.to(seen) * (timestep / 1000.0) ** 2
            return seen, times_BT
        seen, share = latents.to(self.dtype, copy=True), self.noise / 1000
        seen[:, :given] = seen[:, :given] * (1.0 - share) + noise.to(seen) * share
        return seen, times_BT


def shown_beside(latents: Tensor, beginning: Tensor, ending: Tensor) -> Tensor:
    """(B, T, 1 + C, H, W) beside latents of T frames: a mask of those given at either end, and these."""
    first, last = beginning.shape[1], ending.shape[1]
    if first + last > latents.shape[1]:
        raise ValueError(f"{first} and {last} latent frames are given for {latents.shape[1]}")
    between = torch.zeros_like(latents[:, first : latents.shape[1] - last])
    mask = torch.zeros_like(latents[:, :, :1])
    mask[:, :first], mask[:, latents.shape[1] - last :] = 1, 1
    return torch.cat([mask, torch.cat([beginning, between, ending], dim=1)], dim=2)


ONE_TIME = Telling()
