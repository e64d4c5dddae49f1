"""Weights of linear layers in 8 bits, through torchao: a quarter of float32's memory, and other predictions.

int8: each row of a weight is whole numbers from -128 to 127 and one scale, the row's largest weight by 127.5.
They are turned back for each product, which stays in the dtype of the model: less memory, hardly less time.
float8: weights and what is multiplied with them are float8 (e4m3) with one scale a row and a token, as new
GPUs multiply them: less memory and less time, for six times int8's error in chalk.
What is no linear layer stays as it was, and so do layers that a model's authors keep in float32.
Decides: which layers, and how. Does not decide: whether that pays (a profile's model.quantise).
"""

from typing import Any

import torch
from torch.nn import Linear
from torchao.quantization import (
    Float8DynamicActivationFloat8WeightConfig,
    Int8WeightOnlyConfig,
    PerRow,
    quantize_,
)

_FLOAT8_FROM = (8, 9)  # CUDA's compute capability: Ada, Hopper and later
# torchao would else tune the compiler, for the whole process and whatever else it compiles.
_SETTINGS: dict[str, Any] = {"granularity": PerRow(), "set_inductor_config": False}
_CONFIGS = {
    "int8": lambda: Int8WeightOnlyConfig(**_SETTINGS),
    "float8": lambda: Float8DynamicActivationFloat8WeightConfig(**_SETTINGS),
}


class NoFloat8(RuntimeError):
    """This process's device does not multiply float8; another worker's may."""

    code = "E624_FLOAT8"
    hint = "set profiles.NAME.model.quantise=int8, or render on Ada, Hopper or later GPUs"


def quantise(family: Any, how: str, device: torch.device | str) -> None:
    """Put a family's transformers on `device`, linear layer after linear layer in 8 bits ("int8", "float8").

    The family must have been loaded onto the CPU, so that the device never holds the weights as they were.
    Raises ValueError for another way, NoFloat8 for a device without float8.
    """
    if how not in _CONFIGS:
        raise ValueError(f"quantise={how!r}: there are {', '.join(_CONFIGS)}")
    if how == "float8":
        need_float8(device)
    for transformer in family.transformers:
        quantise_layers(transformer, how, device)
    family.computes_on = torch.device(device)


def quantise_layers(transformer: Any, how: str, device: torch.device | str) -> None:
    """One transformer's linear layers, and all of it on `device`, whether that multiplies float8 or not."""
    kept = set(getattr(transformer, "_keep_in_fp32_modules", None) or ())

    def chosen(module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, Linear) and kept.isdisjoint(name.split("."))

    quantize_(transformer, _CONFIGS[how](), chosen, device=device)


def need_float8(device: torch.device | str) -> None:
    """Raise NoFloat8 where a device does not multiply float8."""
    device = torch.device(device)
    if device.type != "cuda":
        raise NoFloat8(
            f"model.quantise=float8 needs a GPU that multiplies float8, and this worker has {device}"
        )
    found = torch.cuda.get_device_capability(device)
    if found < _FLOAT8_FROM:
        name = torch.cuda.get_device_name(device)
        raise NoFloat8(
            f"model.quantise=float8 needs compute capability {'.'.join(map(str, _FLOAT8_FROM))} or more, and "
            f"{name} has {'.'.join(map(str, found))}"
        )
