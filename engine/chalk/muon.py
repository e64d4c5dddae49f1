"""Muon for convolutions and matrices, with AdamW for all other parameters.

Decides which parameters get which update. A convolution's kernel is updated as the matrix (out, in × taps).
For runs this short the orthogonal update learns several times faster than AdamW alone, and costs little: the
autoencoder's L1 after 200 steps was 0.10 instead of 0.19.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, as published with Muon


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal; an update's root mean square is size times lr.

    AdamW's updates have a size of about 0.2.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, size: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.size = size

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonal(ahead.flatten(1)).view_as(parameter)
                scale = self.size * max(ahead.flatten(1).shape) ** 0.5  # orthogonal rows are small
                parameter.add_(update, alpha=-scale * group["lr"])


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1 (0.7 to 1.2)."""
    a, b, c = _COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)  # not in bfloat16: without hardware for it that is 50 times slower
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    flat: Tensor = x.T if tall else x
    return flat


def split_optimizers(
    model: nn.Module, rate: float, adam_only: tuple[str, ...], size: float = 0.2
) -> list[torch.optim.Optimizer]:
    """Muon for kernels and matrices whose names hold none of adam_only, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and not any(part in name for part in adam_only)
        (matrices if is_matrix else others).append(parameter)
    return [
        Muon(matrices, lr=rate, size=size),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def update(optimizers: list[torch.optim.Optimizer], loss: Tensor, rate: float) -> None:
    """One step of all optimizers down the loss at this rate, with gradients clipped to a norm of 1."""
    parameters = []
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
            parameters += group["params"]
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        optimizer.step()
