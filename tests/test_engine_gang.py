"""Claims about how ranks of a gang meet: none goes on before all are ready, or waits for one that failed."""

import threading
import time
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore

from engine.faults import PeerFailed
from engine.parallel.axes import Axes
from engine.parallel.gang import Mesh, form_mesh, serve_rendezvous, together

PAIR = Axes(2, ulysses=2)


@pytest.fixture(scope="module")
def store():
    return serve_rendezvous("127.0.0.1")


def pair(store, prefix):
    """Two ranks of a gang, each with a connection of its own, without a process group."""
    ends = (TCPStore("127.0.0.1", store.port, None, False) for _ in range(2))
    return [Mesh(PAIR, rank, store=PrefixStore(prefix, end)) for rank, end in enumerate(ends)]


def meet(meshes, blocks, timeout_s=30.0):
    """What became of every rank: when it was through, or its error."""
    results = [None] * len(meshes)

    def run(rank):
        try:
            with together(meshes[rank], timeout_s):
                blocks[rank]()
            results[rank] = time.monotonic()
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(meshes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def fail():
    raise ValueError("no weights here")


def test_ranks_go_on_when_the_slowest_is_ready_meeting_after_meeting(store):
    meshes = pair(store, "slow")
    for slow in (0, 1):
        began = time.monotonic()
        through = meet(meshes, [partial(time.sleep, 0.5 * (rank == slow)) for rank in range(2)])
        assert min(through) - began >= 0.5


def test_a_rank_that_fails_keeps_its_error_and_its_peer_is_told_who_failed(store):
    own, peer = meet(pair(store, "fails"), [fail, lambda: None])
    assert isinstance(own, ValueError)
    assert isinstance(peer, PeerFailed) and "ranks [0]" in str(peer)
    assert all(isinstance(error, ValueError) for error in meet(pair(store, "both"), [fail, fail]))


def test_a_rank_that_never_comes_is_an_error_after_the_timeout(store):
    mesh, _ = pair(store, "lonely")
    with pytest.raises(RuntimeError, match=r"(?i)time"), together(mesh, 0.3):
        pass


def test_a_rank_alone_waits_for_nobody():
    with together(None, 0.0):
        pass


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl"), ("cuda:0", "nccl")])
def test_a_gang_talks_as_its_device_does_whatever_else_the_machine_has(store, monkeypatch, device, backend):
    class Asked(Exception):
        pass

    def asked(name, **_):
        raise Asked(name)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dist, "init_process_group", asked)
    with pytest.raises(Asked, match=f"^{backend}$"):
        form_mesh("127.0.0.1", store.port, "device", 0, PAIR, 5.0, device=device)
