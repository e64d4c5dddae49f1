"""A transformer's weights shared out over a gang: DeepSpeed's ZeRO-3 (arXiv:1910.02054), for inference alone.

Each rank keeps its part of every weight, and a layer's weights are gathered for as long as it computes. A
rank of n then holds 1/n of the weights and one layer, and sends its part to all others at every forward.
The arithmetic stays that of whole weights, bit for bit: what DeepSpeed puts in place of torch's linear layer,
with other rounding and for the whole process, is left off.
Decides: how weights are shared out. Does not decide: when that pays (a profile's model.zero).
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from engine.parallel.attention import load_ulysses

_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,  # asked for, though nothing is trained
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,  # share out the smallest too
        "memory_efficient_linear": False,  # it multiplies first and adds the bias after: other bits
    },
}


def share_weights(family: Any, device: torch.device | str) -> None:
    """Share out all transformers of a family that was parallelised, weights of which are still whole."""
    for transformer in family.transformers:
        shard_weights(transformer, device)
    family.computes_on = torch.device(device)


def load_zero() -> tuple[Any, Any, Any]:
    """DeepSpeed's ZeRO-3, imported: seconds, which no peer should wait for in a collective."""
    load_ulysses()  # DeepSpeed's communication, without a compiler
    from deepspeed.runtime.zero import parameter_offload  # type: ignore[import-untyped]
    from deepspeed.runtime.zero.partition_parameters import Init  # type: ignore[import-untyped]
    from deepspeed.utils.timer import NoopTimer  # type: ignore[import-untyped]

    return parameter_offload, Init, NoopTimer


def shard_weights(transformer: Any, device: torch.device | str) -> None:
    """Leave this rank its part of every weight, on `device`; every rank of the gang calls this.

    Rests on the process group that form_mesh made, and is for that gang alone: after forming anew, load the
    weights again, since a lost rank took its part with it. No rank may call forward without the others.
    """
    parameter_offload, Init, NoopTimer = load_zero()
    # What its launcher would say: which GPU is this process's. A rank sees one alone, and that is the first.
    os.environ.setdefault("LOCAL_RANK", "0")
    Init(module=transformer, data_parallel_group=dist.group.WORLD, config_dict_or_path=_CONFIG)
    parameter_offload.DeepSpeedZeRoOffload(
        transformer,
        NoopTimer(),
        _CONFIG,
        overlap_comm=False,
        prefetch_bucket_size=0,
        max_live_parameters=0,
        param_persistence_threshold=0,
        dp_process_group=dist.group.WORLD,
    )
    parameter_offload.FWD_MODULE_STACK.remove(transformer)  # it would keep the weights after their last user
    for module in transformer.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
