"""Tensors as bytes for a store and as arrays for the wire, never as pickle.

safetensors carries tensors by name; what is not a tensor goes beside them as JSON. Arrays are NumPy, which
an object store can share without a copy; NumPy has no bfloat16, so that travels as its bits.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

_META = "longtake"


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor's values, or the bits of its values where NumPy lacks the type.

    Of predictions by a first-block cache `full` says of each branch of each window whether it was in full.
    """

    values: NDArray[Any]
    bfloat16: bool = False
    full: tuple[tuple[bool, ...], ...] = ()


def pack(tensor: torch.Tensor) -> Packed:
    """The tensor as a contiguous array on the CPU."""
    flat = tensor.detach().cpu().contiguous()
    if flat.dtype == torch.bfloat16:
        return Packed(flat.view(torch.int16).numpy(), bfloat16=True)
    return Packed(flat.numpy())


def unpack(packed: Packed) -> torch.Tensor:
    """The tensor again, in memory of its own: arrays from an object store are read-only."""
    tensor = torch.from_numpy(np.array(packed.values))
    return tensor.view(torch.bfloat16) if packed.bfloat16 else tensor


def to_bytes(state: dict[str, Any]) -> bytes:
    """`state` as a safetensors file: tensors, and containers of JSON values and tensors.

    Raises TypeError for anything else.
    """
    tensors: dict[str, torch.Tensor] = {}

    def outline(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()  # views would share storage
            return {"tensor": name}
        if isinstance(value, dict):
            odd = [key for key in value if not isinstance(key, str)]
            if odd:
                raise TypeError(f"a key of type {type(odd[0]).__name__} is not stored: JSON's are str")
            return {"dict": {key: outline(item) for key, item in value.items()}}
        if isinstance(value, list):
            return {"list": [outline(item) for item in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        raise TypeError(f"a {type(value).__name__} is not stored: only tensors and JSON values are")

    text = json.dumps(outline(state))
    return save(tensors, metadata={_META: text})


def from_bytes(data: bytes) -> dict[str, Any]:
    """The state that to_bytes() was given. Raises ValueError if `data` is damaged or something else."""
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + size])["__metadata__"][_META]
        state = _fill(json.loads(text), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a stored state: {error}") from error
    if not isinstance(state, dict):
        raise ValueError("not a stored state: no mapping at its root")
    return state


def _fill(outline: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """The value that an outline describes."""
    ((kind, content),) = outline.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _fill(item, tensors) for key, item in content.items()}
    if kind == "list":
        return [_fill(item, tensors) for item in content]
    if kind != "value":
        raise ValueError(f"{kind!r} is no kind of value")
    return content
