"""Sequence parallelism inside a gang: joining a group, sharing out tokens, and DeepSpeed-Ulysses attention.

Dims: B batch, L tokens of the whole sequence with its padding, l = L/P tokens on this rank,
      A attention heads, a = A/P heads on this rank, K head size, P ranks in the group.
The padding, fewer than P tokens at the end, makes every rank's share equal; no real token attends to it.
Decides: how tokens and heads are spread over a group, and how a group is formed. Does not decide: how many
ranks a gang has, where its rendezvous lives, or when it forms anew (cluster), nor which of a model's tensors
are spread (families). `group=None` means one rank everywhere, and costs nothing.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import PrefixStore, ProcessGroup, TCPStore  # type: ignore[attr-defined]


def serve_rendezvous(host: str) -> TCPStore:
    """A store that listens on `host` at a free port, to be read from `.port`.

    The caller keeps it alive as long as its gangs: a store of the supervisor's outlives every rank, and each
    formation needs only a new prefix in it.
    """
    return TCPStore(host, 0, None, True, wait_for_workers=False)


def form_group(
    host: str, port: int, prefix: str, rank: int, size: int, timeout_s: float
) -> ProcessGroup | None:
    """This process as `rank` of `size` in a new group, once all have come; None if it is the only one.

    NCCL where there is CUDA, else gloo. An earlier group of this process is destroyed first, so a rank whose
    peer died calls this again; `prefix` must then be one that no earlier formation used. `timeout_s` bounds
    the forming and every later collective. Raises ValueError for a rank outside the gang, and torch's
    RuntimeError where the store or a peer does not answer in time.
    """
    if not 0 <= rank < size:
        raise ValueError(f"rank {rank} is not in a gang of {size} ranks; ranks count from 0")
    if dist.is_initialized():
        dist.destroy_process_group()
    if size == 1:
        return None
    timeout = timedelta(seconds=timeout_s)
    store = PrefixStore(prefix, TCPStore(host, port, None, False, timeout))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    return dist.group.WORLD


def shard(x: Tensor, dim: int, group: ProcessGroup | None) -> Tensor:
    """This rank's contiguous share of `x` along `dim`, zeros at the end making all shares equal."""
    if group is None:
        return x
    share = -(-x.shape[dim] // group.size())
    start = min(group.rank() * share, x.shape[dim])
    mine = x.narrow(dim, start, min(share, x.shape[dim] - start))
    if mine.shape[dim] == share:
        return mine.contiguous()
    missing = list(mine.shape)
    missing[dim] = share - mine.shape[dim]
    return torch.cat([mine, mine.new_zeros(missing)], dim)


def gather(x: Tensor, dim: int, group: ProcessGroup | None, length: int) -> Tensor:
    """The whole of which every rank holds an equal share `x`, cut to `length` along `dim`: undoes `shard`."""
    if group is None:
        return x.narrow(dim, 0, length)
    shares = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
    dist.all_gather(shares, x.contiguous(), group=group)
    return torch.cat(shares, dim).narrow(dim, 0, length)


def ulysses_attention(
    q_BlAK: Tensor, k_BlAK: Tensor, v_BlAK: Tensor, group: ProcessGroup | None, n_tokens: int
) -> Tensor:
    """Full attention over the `n_tokens` real tokens of the whole sequence: this rank's (B, l, A, K) of it.

    DeepSpeed-Ulysses (arXiv:2309.14509): one all-to-all trades tokens for heads, each rank attends over the
    whole sequence with its heads, another trades back. What stands at the padding is zero. Raises ValueError,
    before anything is sent, where the heads do not divide.
    """
    if group is None:
        return _attend(q_BlAK, k_BlAK, v_BlAK, n_tokens)
    check_heads(q_BlAK.shape[2], group.size())
    attention = load_ulysses()(_attend, group, scatter_idx=2, gather_idx=1)
    out_BlAK: Tensor = attention(q_BlAK, k_BlAK, v_BlAK, 0, n_tokens=n_tokens)
    return out_BlAK


def check_heads(n_heads: int, size: int) -> None:
    """Raise ValueError unless `size` ranks can hold equally many of `n_heads` attention heads each.

    DeepSpeed's own path for uneven heads looks up its rank outside the group, and hangs.
    """
    if size < 1 or n_heads % size:
        fitting = ", ".join(str(n) for n in range(1, n_heads + 1) if n_heads % n == 0)
        raise ValueError(
            f"{n_heads} attention heads cannot be shared equally by {size} ranks of a gang; "
            f"use as many ranks as one of {fitting}"
        )


def _attend(q_BLaK: Tensor, k_BLaK: Tensor, v_BLaK: Tensor, n_tokens: int) -> Tensor:
    """Attention among the first `n_tokens`, zeros after them; heads are independent, any number will do."""
    q_BaLK, k_BaLK, v_BaLK = (x[:, :n_tokens].transpose(1, 2) for x in (q_BLaK, k_BLaK, v_BLaK))
    out_BLaK = F.scaled_dot_product_attention(q_BaLK, k_BaLK, v_BaLK).transpose(1, 2)
    return F.pad(out_BLaK, (0, 0, 0, 0, 0, q_BLaK.shape[1] - n_tokens))


def load_ulysses() -> Any:
    """DeepSpeed's DistributedAttention, its communication layer resting on the torch group there already is.

    Imported on use: one rank alone never pays for it.
    """
    logging.getLogger("DeepSpeed").addFilter(_worth_saying)
    import deepspeed.comm  # type: ignore[import-untyped]
    import deepspeed.ops  # type: ignore[import-untyped]
    from deepspeed.sequence.layer import DistributedAttention  # type: ignore[import-untyped]

    if not deepspeed.comm.is_initialized():
        # On CPU it would look for a compiler and build a shared-memory reduction, which Ulysses never calls:
        # "no op fits this machine" is answered while it starts, and left for it to find out afterwards.
        deepspeed.ops.__compatible_ops__ = {}
        deepspeed.comm.init_distributed()
        del deepspeed.ops.__compatible_ops__
    return DistributedAttention


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not DeepSpeed's warning, on every import without a GPU, that it uses the CPU."""
    return "Setting accelerator to CPU" not in record.getMessage()
