"""A gang of processes: how its ranks find each other, and a torch group of every axis.

Decides: how groups are formed, and formed anew after a loss. Does not decide: how many ranks a gang has,
where its rendezvous lives, or when it forms anew (cluster).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, ProcessGroup, TCPStore  # type: ignore[attr-defined]

from engine.faults import PeerFailed
from engine.parallel.axes import DEEPSPEED, Axes


@dataclass(frozen=True, eq=False)
class Mesh:
    """This rank of a gang, and its group on every axis; None where it is alone on that axis.

    `sequence` holds all ranks that share one sequence: those of ring and ulysses. `exchange` is one of
    axes.EXCHANGES, the way in which ulysses ranks trade tokens for heads; all ranks have the same. `store` is
    where all ranks of the gang meet, `meetings` numbers their meetings there.
    """

    axes: Axes
    rank: int
    cfg: ProcessGroup | None = None
    ring: ProcessGroup | None = None
    ulysses: ProcessGroup | None = None
    sequence: ProcessGroup | None = None
    exchange: str = DEEPSPEED
    store: PrefixStore | None = None
    meetings: Iterator[int] = field(default_factory=itertools.count)

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


@contextmanager
def together(mesh: Mesh | None, timeout_s: float) -> Iterator[None]:
    """No rank of the gang goes on before all have done what the block does; every rank calls this.

    For what takes ranks unequally long, such as loading weights: a collective's timeout is for ranks that
    compute alike, and is no measure of it. On the ranks that are through it raises PeerFailed where another's
    block raised, and RuntimeError, as a failed collective does, where another is not through in time.
    """
    if mesh is None or mesh.store is None:
        yield
        return
    meeting = f"meeting/{next(mesh.meetings)}"
    try:
        yield
    except BaseException:
        mesh.store.set(f"{meeting}/{mesh.rank}", "failed")
        raise
    mesh.store.set(f"{meeting}/{mesh.rank}", "ready")
    answers = [f"{meeting}/{rank}" for rank in range(mesh.axes.ranks)]
    mesh.store.wait(answers, timedelta(seconds=timeout_s))
    failed = [rank for rank, key in enumerate(answers) if mesh.store.get(key) == b"failed"]
    if failed:
        raise PeerFailed(f"ranks {failed} of the gang failed before the others could go on with them")


def form_mesh(
    host: str,
    port: int,
    prefix: str,
    rank: int,
    axes: Axes,
    timeout_s: float,
    exchange: str = DEEPSPEED,
    device: str = "cpu",
) -> Mesh | None:
    """This process as `rank` of a new gang with these axes, once all have come; None if it is the only one.

    NCCL for ranks that compute on a GPU, else gloo. An earlier gang of this process is left first, so a rank
    whose peer died calls this again; `prefix` must then be one that no earlier formation used. `timeout_s`
    bounds the forming and every later collective. Raises ValueError for a rank outside the gang, or axes of
    several gangs, and torch's RuntimeError where the store or a peer does not answer in time.
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
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=axes.ranks, timeout=timeout)
    groups = [_join(axes.peers(*names), rank, timeout) for names in _GROUPS]
    # A connection of its own: who waits on one keeps NCCL's watchdog from it.
    place = PrefixStore(prefix, TCPStore(host, port, None, False, timeout))
    cfg, ring, ulysses, sequence = groups
    return Mesh(axes, rank, cfg, ring, ulysses, sequence, exchange, place)


_GROUPS = (("cfg",), ("ring",), ("ulysses",), ("ring", "ulysses"))  # as a Mesh has them


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
