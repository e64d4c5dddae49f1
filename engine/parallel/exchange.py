"""What ranks send each other: shares of a sequence, heads for tokens, keys and values around a ring.

Dims: B batch, L tokens of the sequence, l tokens on this rank. Every size is known beforehand to all ranks,
so nothing is padded inside attention and no sizes are sent. `group=None` is one rank and sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup


def shard(x: Tensor, dim: int, sizes: Sequence[int], group: ProcessGroup | None) -> Tensor:
    """This rank's contiguous share of x; `sizes` are those of all ranks along dim."""
    if group is None:
        return x
    me = group.rank()
    return x.narrow(dim, sum(sizes[:me]), sizes[me]).contiguous()


def gather(x: Tensor, dim: int, sizes: Sequence[int], group: ProcessGroup | None) -> Tensor:
    """The whole of which every rank holds a share x, `sizes` along dim: undoes `shard`."""
    if group is None:
        return x
    most = max(sizes)  # a collective wants equal shapes; shares differ by one token
    behind = [0, 0] * (x.ndim - 1 - dim % x.ndim) + [0, most - x.shape[dim]]
    padded = F.pad(x, behind).contiguous()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part.narrow(dim, 0, size) for part, size in zip(parts, sizes, strict=True)], dim)


def trade(
    x: Tensor, give_dim: int, give: Sequence[int], join_dim: int, join: Sequence[int], group: ProcessGroup
) -> Tensor:
    """Give rank i its `give[i]` of x along give_dim, and join the own parts of all ranks along join_dim.

    Rank i holds `join[i]` along join_dim. One collective, whatever the sizes; `trade` with the pairs changed
    over undoes it.
    """
    me = group.rank()
    shape = list(x.shape)
    shape[give_dim] = give[me]
    got_shapes = [[*shape[:join_dim], size, *shape[join_dim + 1 :]] for size in join]
    gives = [part.reshape(-1) for part in torch.split(x, list(give), give_dim)]
    sizes = [math.prod(got) for got in got_shapes]
    got = x.new_empty(sum(sizes))
    dist.all_to_all_single(got, torch.cat(gives), sizes, [len(part) for part in gives], group=group)
    parts = [part.view(whole) for part, whole in zip(torch.split(got, sizes), got_shapes, strict=True)]
    return torch.cat(parts, join_dim)


def start_rotation(x: Tensor, coming: Tensor, group: ProcessGroup) -> Callable[[], Tensor]:
    """Send x to the next rank, while the one before sends what fills `coming`; calling the result waits."""
    me, size = group.rank(), group.size()
    operations = [
        dist.P2POp(dist.isend, x, group=group, group_peer=(me + 1) % size),
        dist.P2POp(dist.irecv, coming, group=group, group_peer=(me - 1) % size),
    ]
    works = dist.batch_isend_irecv(operations)

    def wait() -> Tensor:
        for work in works:
            work.wait()
        return coming

    return wait
