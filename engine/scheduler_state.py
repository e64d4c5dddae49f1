"""What a scheduler of diffusers holds between two steps, as plain values that a checkpoint can hold."""

from __future__ import annotations

from typing import Any

import torch


def scheduler_state(scheduler: Any) -> dict[str, Any]:
    """The scheduler's plain attributes. None is left out, as the absent say the same."""
    return {
        name: _copy(value)
        for name, value in vars(scheduler).items()
        if _is_plain(value) and value is not None
    }


def restore_scheduler(scheduler: Any, state: dict[str, Any], device: torch.device) -> None:
    """Set every plain attribute to its saved value, tensors on the device where the scheduler keeps them."""
    current = {name: value for name, value in vars(scheduler).items() if _is_plain(value)}
    for name in current.keys() | state.keys():
        value = _copy(state.get(name))
        if isinstance(value, torch.Tensor):
            mine = current.get(name)
            value = value.to(mine.device if isinstance(mine, torch.Tensor) else device)
        setattr(scheduler, name, value)


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor, a number, None or a list of such."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, torch.Tensor | bool | int | float)


def _copy(value: Any) -> Any:
    """A copy of a plain value that shares no memory with it."""
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
