"""Full attention over a sequence that a gang shares: the one seam for every family.

Dims: B batch, L tokens of the sequence, l tokens on this rank, A attention heads, a heads on this rank inside
      attention, K head size.
Ulysses (DeepSpeed, arXiv:2309.14509) trades tokens for heads before attention and back after it. A ring
(arXiv:2310.01889) keeps its queries and passes keys and values on, merging partial results by their
log-sum-exp. Together they are USP (arXiv:2405.07719): ulysses inside, ring outside.
Decides: how attention is computed over a mesh. Does not decide: which ranks make it up (axes, gang).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup

from engine.parallel.axes import DEEPSPEED, Split
from engine.parallel.exchange import start_rotation, trade
from engine.parallel.gang import Mesh

_TOKENS, _HEADS = 1, 2  # dims of q_BlAK


def attend(q_BlAK: Tensor, k_BlAK: Tensor, v_BlAK: Tensor, mesh: Mesh | None, split: Split) -> Tensor:
    """Attention of this rank's tokens to all of the sequence's, (B, l, A, K); every rank of it calls this.

    Shares of equal size go through DeepSpeed's DistributedAttention, unless the mesh's exchange is fused;
    others through our own, which sends queries, keys and values at once. Both compute the same bits.
    """
    if mesh is None or mesh.sequence is None:
        return plain_attention(q_BlAK, k_BlAK, v_BlAK)
    local = partial(ring_attention, chunks=split.chunks, group=mesh.ring) if mesh.ring else plain_attention
    if mesh.ulysses is None:
        return local(q_BlAK, k_BlAK, v_BlAK)
    place = mesh.place["ring"]
    if mesh.exchange == DEEPSPEED and split.is_even(place):
        attention = load_ulysses()(_positional(local), mesh.ulysses, scatter_idx=_HEADS, gather_idx=_TOKENS)
        out: Tensor = attention(q_BlAK, k_BlAK, v_BlAK, 0)
        return out
    tokens, heads = split.row(place), split.heads
    qkv_3BlAK = torch.stack([q_BlAK, k_BlAK, v_BlAK])
    out_BLaK = local(*trade(qkv_3BlAK, 1 + _HEADS, heads, 1 + _TOKENS, tokens, mesh.ulysses))
    return trade(out_BLaK, _TOKENS, tokens, _HEADS, heads, mesh.ulysses)


def plain_attention(q_BLAK: Tensor, k_BLAK: Tensor, v_BLAK: Tensor) -> Tensor:
    """Attention of one rank alone, with PyTorch's kernels."""
    q_BALK, k_BALK, v_BALK = (x.transpose(1, 2) for x in (q_BLAK, k_BLAK, v_BLAK))
    return F.scaled_dot_product_attention(q_BALK, k_BALK, v_BALK).transpose(1, 2)


def ring_attention(
    q_BlAK: Tensor, k_BlAK: Tensor, v_BlAK: Tensor, *, chunks: Sequence[int], group: ProcessGroup
) -> Tensor:
    """Attention of this place's queries to the keys and values of all places, whose tokens are `chunks`.

    The next keys and values travel while these are attended to.
    """
    me, size = group.rank(), group.size()
    held = torch.stack([k_BlAK, v_BlAK])
    total: tuple[Tensor, Tensor] | None = None
    for turn in range(size):
        shape = list(held.shape)
        shape[2] = chunks[(me - turn - 1) % size]
        coming = start_rotation(held, held.new_empty(shape), group) if turn < size - 1 else None
        part = attention_with_lse(q_BlAK, held[0], held[1])
        total = part if total is None else merge(total, part)
        held = coming() if coming else held
    assert total is not None
    return total[0].to(q_BlAK.dtype)


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention to two sets of keys, from the outputs and log-sum-exps of each set."""
    lse = torch.logaddexp(one[1], other[1])
    return one[0] * (one[1] - lse).exp() + other[0] * (other[1] - lse).exp(), lse


def attention_with_lse(q_BLAK: Tensor, k_BLAK: Tensor, v_BLAK: Tensor) -> tuple[Tensor, Tensor]:
    """Attention in float32 and the log-sum-exp of its scores, (B, L, A, 1), by the fused kernel there is."""
    q_BALK, k_BALK, v_BALK = (x.transpose(1, 2) for x in (q_BLAK, k_BLAK, v_BLAK))
    out_BALK, lse_BAL = _kernel(q_BLAK)(q_BALK, k_BALK, v_BALK)[:2]
    lse_BAL = lse_BAL[..., : q_BLAK.shape[1]]  # one kernel rounds its length up
    return out_BALK.transpose(1, 2).float(), lse_BAL.transpose(1, 2).unsqueeze(-1)


def _kernel(x: Tensor) -> Any:
    """The fused kernel for this device and dtype that also returns the log-sum-exp."""
    aten = torch.ops.aten
    if x.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu
    if x.dtype == torch.float32:
        return lambda q, k, v: aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
    return aten._scaled_dot_product_flash_attention


def _positional(local: Any) -> Any:
    """DeepSpeed hands its local attention further arguments, of which this needs none."""
    return lambda q, k, v, *_, **__: local(q, k, v)


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
