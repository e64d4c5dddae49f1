"""How much noise a step stands at, in every scheduler: the one place where clean latents are made noisy.

A scheduler's sample at a step is x = a x0 + s eps of clean latents x0 and unit noise eps:

    flow matching (Euler, UniPC with flow sigmas)       a = 1 - sigma,        s = sigma
    variance preserving (DDIM, DPM, whatever predicts)  a = sqrt(abar_t),     s = sqrt(1 - abar_t)
    variance exploding (Euler of EDM)                   a = 1,                s = sigma

The share of noise, s / (a + s), is flow matching's sigma, and in the others the sigma of the flow that has
the same signal-to-noise ratio: x / (a + s) = (1 - share) x0 + share eps. So a number means one thing to all.
The numbers a and s are the scheduler's own: it is asked for noisy zeros and ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def noised(scheduler: Any, clean: Tensor, noise: Tensor, step: int) -> Tensor:
    """Clean latents with unit noise of their shape, as the scheduler has them before a step.

    In the dtype of both, as video-to-video pipelines do it. The scheduler must have its timesteps and not
    have stepped yet; it is told that it begins there.
    """
    if hasattr(scheduler, "set_begin_index"):  # else it looks for a timestep, which may have a twin
        scheduler.set_begin_index(step)
    timestep = scheduler.timesteps[step : step + 1]
    if scheduler.config.get("invert_sigmas"):  # Mochi's sigmas are shares of the signal
        clean, noise = noise, clean
    if hasattr(scheduler, "scale_noise"):  # those of flow matching
        made = scheduler.scale_noise(clean, timestep, noise)
    else:
        made = scheduler.add_noise(clean, noise, timestep)
    noisy: Tensor = made.to(clean.dtype)
    return noisy


def noise_share(scheduler: Any, step: int) -> float:
    """The share of noise before a step: 1 is noise alone, 0 none."""
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    a, s = (float(noised(scheduler, *pair, step)) for pair in ((one, zero), (zero, one)))
    return s / (a + s)


def step_below(scheduler: Any, share: float) -> int:
    """The first step but the very first whose share of noise is at most `share`; if none is, the last.

    The scheduler is of no other use afterwards. Raises ValueError where there is one step only.
    """
    later = range(1, len(scheduler.timesteps))
    if not later:
        raise ValueError("a run of one step has none to begin at later")
    return next((step for step in later if noise_share(scheduler, step) <= share), later[-1])
