"""Weights that lie elsewhere than where they are used: diffusers' group offloading, for all families alike.

Each layer's weights come to the device for its own forward and go again: a device holds one layer at a time,
and every window pays for moving all weights once. They wait in main memory or in files of their own.
Nothing else changes: the same kernels see the same weights, bit for bit.
Decides: where weights wait. Does not decide: whether that pays (a profile's model.offload).
"""

import tempfile
import weakref
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading


def offload(family: Any, where: str, device: torch.device | str) -> None:
    """Keep the weights of a family's transformers in main memory ("memory") or on disk ("disk").

    The family must have been loaded onto the CPU; it predicts on `device` from now on. Files, as large as the
    weights, lie in a folder below TMPDIR that goes with the family; memory for them is still reserved.
    Raises ValueError for another place.
    """
    if where not in ("memory", "disk"):
        raise ValueError(f"offload={where!r}: weights wait in memory or on disk")
    device = torch.device(device)
    for number, transformer in enumerate(family.transformers):
        apply_group_offloading(
            transformer,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            offload_to_disk_path=_folder(family, number) if where == "disk" else None,
        )
    family.computes_on = device


def _folder(family: Any, number: int) -> str:
    """A folder for one transformer's weights that is removed with its family, or with the process."""
    folder = tempfile.TemporaryDirectory(prefix=f"longtake-weights-{number}-")
    weakref.finalize(family, folder.cleanup)
    return folder.name
