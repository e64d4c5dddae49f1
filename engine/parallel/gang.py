"""A gang of processes: how its ranks find each other, and a torch group of every axis.

Decides: how groups are formed, and formed anew after a loss. Does not decide: how many ranks a gang has,
where its rendezvous lives, or when it forms anew (cluster).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, ProcessGroup, TCPStore  # type: ignore[attr-defined]

from engine.parallel.axes import DEEPSPEED, Axes


@dataclass(frozen=True, eq=False)
class Mesh:
    """This rank of a gang, and its group on every axis; None where it is alone on that axis.

    `sequence` holds all ranks that share one sequence: those of ring and ulysses. `exchange` is one of
    axes.EXCHANGES, the way in which ulysses ranks trade tokens for heads; all ranks have the same.
    """

    axes: Axes
    rank: int
    cfg: ProcessGroup | None = None
    ring: ProcessGroup | None = None
    ulysses: ProcessGroup | None = None
    sequence: ProcessGroup | None = None
    exchange: str = DEEPSPEED

    @property
    def place(self) -> dict[str, int]:
        """Where this rank stands on every axis."""
        return self.axes.place(self.rank)


def serve_rendezvous(host: str) -> TCPStore:
    """A store that listens on `host` at a free port, to be read from `.port`.

    The caller keeps it alive as long as its gangs: a store of the supervisor's outlives every rank, and each
    formation needs only a new prefix in it.
    """
    return TCPStore(host, 0, None, True, wait_for_workers=False)


def form_mesh(
    host: str, port: int, prefix: str, rank: int, axes: Axes, timeout_s: float, exchange: str = DEEPSPEED
) -> Mesh | None:
    """This process as `rank` of a new gang with these axes, once all have come; None if it is the only one.

    NCCL where there is CUDA, else gloo. An earlier gang of this process is left first, so a rank whose
    peer died calls this again; `prefix` must then be one that no earlier formation used. `timeout_s` bounds
    the forming and every later collective. Raises ValueError for a rank outside the gang, or axes of several
    gangs, and torch's RuntimeError where the store or a peer does not answer in time.
    """
    if not 0 <= rank < axes.ranks:
        raise ValueError(f"rank {rank} is not in a gang of {axes.ranks} ranks; ranks count from 0")
    if axes.window > 1:
        raise ValueError(f"{axes.equation}: one gang predicts one window at a time, so its window axis is 1")
    if dist.is_initialized():
        dist.destroy_process_group()
    if axes.ranks == 1:
        return None
    timeout = timedelta(seconds=timeout_s)
    store = PrefixStore(prefix, TCPStore(host, port, None, False, timeout))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=axes.ranks, timeout=timeout)
    groups = {name: _join(axes.peers(*names), rank, timeout) for name, names in _GROUPS.items()}
    return Mesh(axes, rank, **groups, exchange=exchange)


_GROUPS = {"cfg": ("cfg",), "ring": ("ring",), "ulysses": ("ulysses",), "sequence": ("ring", "ulysses")}


def _join(groups: tuple[tuple[int, ...], ...], rank: int, timeout: timedelta) -> ProcessGroup | None:
    """This rank's group of all these, which every rank forms in the same order."""
    if len(groups) == 1:
        return dist.group.WORLD
    mine = None
    for ranks in groups:
        if len(ranks) > 1:
            group = dist.new_group(list(ranks), timeout=timeout)
            mine = group if rank in ranks else mine
    return mine
