"""Ranks as processes without Ray: two of one gang, and one of a machine with little memory."""

import multiprocessing as mp
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster.conductor import Request
from cluster.crew import judge
from cluster.identity import Model
from cluster.rank import Rank
from cluster.shortage import Shortage
from cluster.shots import PromptTask
from cluster.stages import Encoder
from engine.families.adapter_files import weights_of
from engine.faults import PeerFailed
from engine.parallel.axes import Axes
from engine.parallel.gang import serve_rendezvous
from engine.tensors import pack
from manifests.store import open_store
from tests.test_engine_adapters import make_adapter

STEPS = (500, 400)
BUSY_S = 240.0  # until an answer comes on a busy machine


def serve(pipe, store_url, port, rank, models, prompt):
    """Predict a window at two steps with every model in turn, in one gang."""
    try:
        worker = Rank(store_url)
        worker.form("127.0.0.1", port, "gang", rank, Axes(2, ulysses=2), 60.0)
        z_BTCHW = pack(torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)))
        asked = [
            Request(model, z_BTCHW, pack(torch.tensor(step)), (prompt,), prompt, 4.0)
            for model in models
            for step in STEPS
        ]
        pipe.send([worker.predict(request)[1].values.tobytes() for request in asked])
    except Exception as error:
        pipe.send(repr(error))


def test_a_rank_that_shares_its_weights_out_predicts_the_bits_of_one_that_does_not(
    tiny_folder: Path, tmp_path
):
    whole = Model(str(tiny_folder), "float32", "digest")
    shared = Model(str(tiny_folder), "float32", "digest", zero=True)
    prompt = PromptTask(whole, "rain", 32)
    Encoder(str(tmp_path)).run(prompt)
    context, store, pipes = mp.get_context("spawn"), serve_rendezvous("127.0.0.1"), []
    for rank in range(2):
        ours, theirs = context.Pipe()
        args = (theirs, str(tmp_path), store.port, rank, (whole, shared, whole), prompt.key)
        context.Process(target=serve, args=args, daemon=True).start()
        pipes.append(ours)
    assert all(pipe.poll(BUSY_S) for pipe in pipes)
    for answer in [pipe.recv() for pipe in pipes]:
        assert isinstance(answer, list), answer
        assert answer[:2] == answer[2:4] == answer[4:] and answer[0] != answer[1]


GROUP_S = 6.0  # that ranks wait for each other in a collective


class LateStore:
    """A store from which an adapter comes late, or the first times not at all."""

    def __init__(self, store, late_s, failures):
        self.store, self.late_s, self.failures = store, late_s, failures

    def __getattr__(self, name):
        return getattr(self.store, name)

    def fetch_artefact(self, artefact, path):
        time.sleep(self.late_s)
        self.failures -= 1
        if self.failures >= 0:
            raise TimeoutError("the store is slow")
        self.store.fetch_artefact(artefact, path)


def serve_adapters(pipe, store_url, port, rank, late_s, failures):
    """Answer requests, one after another, with bytes or an error."""
    worker = Rank(store_url)
    worker.store = LateStore(worker.store, late_s, failures)
    pipe.send("living")
    pipe.recv()
    worker.form("127.0.0.1", port, "gang", rank, Axes(2, ulysses=2), GROUP_S)
    while True:
        try:
            pipe.send(worker.predict(pipe.recv())[1].values.tobytes())
        except Exception as error:
            pipe.send(error)


@pytest.fixture
def gang_of_two(tiny_folder: Path, tmp_path):
    """Ask two ranks, of which the second's store is as told; and requests without and with adapters."""
    store, rendezvous, context = (
        open_store(str(tmp_path)),
        serve_rendezvous("127.0.0.1"),
        mp.get_context("spawn"),
    )
    model = Model(str(tiny_folder), "float32", "digest")
    prompt = PromptTask(model, "rain", 32)
    Encoder(str(tmp_path)).run(prompt)
    weights, pipes, processes = weights_of(tiny_folder), [], []
    module = "transformer_blocks.0.attn1.to_q"
    adapters = [
        store.put_file(make_adapter(tmp_path / f"{seed}.safetensors", weights, [module], seed))
        for seed in (1, 2)
    ]
    z_BTCHW = pack(torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)))
    plain = Request(model, z_BTCHW, pack(torch.tensor(500)), (prompt.key,), prompt.key, 4.0)

    def start(late_s, failures):
        for rank in range(2):
            ours, theirs = context.Pipe()
            trouble = (late_s, failures) if rank else (0.0, 0)
            args = (theirs, str(tmp_path), rendezvous.port, rank, *trouble)
            processes.append(context.Process(target=serve_adapters, args=args, daemon=True))
            processes[-1].start()
            pipes.append(ours)
        assert all(pipe.poll(BUSY_S) and pipe.recv() for pipe in pipes)
        for pipe in pipes:
            pipe.send("form")

        def ask(request):
            for pipe in pipes:
                pipe.send(request)
            assert all(pipe.poll(BUSY_S) for pipe in pipes)
            return [pipe.recv() for pipe in pipes]

        return ask

    yield start, plain, [replace(plain, adapters=((adapter, 1.0),)) for adapter in adapters]
    for process in processes:
        process.kill()
        process.join()


def test_ranks_of_a_gang_wait_for_an_adapter_that_comes_late_to_one_as_they_do_for_weights(gang_of_two):
    start, plain, (adapted, _) = gang_of_two
    ask = start(late_s=GROUP_S * 1.5, failures=0)
    before, other = ask(plain)
    assert isinstance(before, bytes) and before == other
    one, two = ask(adapted)
    assert isinstance(one, bytes) and one == two and one != before
    assert ask(plain) == [before, before]


def test_an_adapter_that_comes_to_one_rank_alone_costs_its_window_and_not_the_gang(gang_of_two):
    start, plain, (adapted, also) = gang_of_two
    ask = start(late_s=0.0, failures=1)
    before, _ = ask(plain)
    peer, own = ask(adapted)
    assert isinstance(own, TimeoutError) and isinstance(peer, PeerFailed) and "ranks [1]" in str(peer)
    assert ask(plain) == [before, before]
    answers = [ask(request) for request in (adapted, also, adapted, plain)]
    assert all(isinstance(one, bytes) and one == two for one, two in answers)
    (first, _), (second, _), (third, _), (bare, _) = answers
    assert first == third and len({first, second, bare}) == 3 and bare == before


def test_ranks_meet_over_a_model_or_an_adapter_that_is_new_or_may_be_and_over_nothing_else(
    gang_of_two, tmp_path, monkeypatch
):
    _, plain, (one, other) = gang_of_two
    worker, met = Rank(str(tmp_path)), []

    @contextmanager
    def together(mesh, timeout_s):
        met.append(timeout_s)
        yield

    monkeypatch.setattr("cluster.rank.together", together)

    def meets(request):
        met.clear()
        worker.predict(request)
        return met == [worker.loading_s]

    asked = (plain, plain, one, plain, one, other, one)
    assert [meets(request) for request in asked] == [True, False, True, False, False, True, False]
    absent = replace(plain, adapters=(("0" * 64, 1.0),))
    with pytest.raises(FileNotFoundError):
        worker.predict(absent)
    assert [meets(request) for request in (one, one, other)] == [True, False, True]
    monkeypatch.setattr("cluster.rank.KEPT", 1)
    assert [meets(request) for request in (one, other, other)] == [False, False, False]
    worker.met = frozenset()
    assert [meets(request) for request in (one, other, one, one)] == [True, True, True, False]


LEFT_MIB = 48  # of address space
LARGE = (1, 9, 4, 320, 320)  # latents whose forward takes more, by arithmetic and in truth


def starve(pipe, store_url, model, prompt):
    """Predict a small window, then with little address space left a large one, once checked and once not."""
    torch.set_num_threads(1)
    worker = Rank(store_url)

    def ask(shape):
        return worker.predict(
            Request(model, pack(torch.zeros(shape)), pack(torch.tensor(500)), (prompt,), prompt, 4.0)
        )

    ask((1, 3, 4, 8, 8))
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + (LEFT_MIB << 20), resource.RLIM_INFINITY))
    told = []
    for check in (True, False):
        worker.transformer.check_memory = check
        try:
            ask(LARGE)
        except Exception as error:
            told.append((type(error), judge(error)))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ask((1, 3, 4, 8, 8))
    pipe.send(told)


def test_a_large_window_is_refused_before_it_is_begun_and_what_runs_out_in_truth_is_told_so(
    tiny_folder: Path, tmp_path
):
    model = Model(str(tiny_folder), "float32", "digest")
    prompt = PromptTask(model, "rain", 32)
    Encoder(str(tmp_path)).run(prompt)
    ours, theirs = mp.get_context("spawn").Pipe()
    args = (theirs, str(tmp_path), model, prompt.key)
    process = mp.get_context("spawn").Process(target=starve, args=args, daemon=True)
    process.start()
    theirs.close()
    foreseen, true = ours.recv()
    assert foreseen[0] is Shortage and foreseen[1].code == "E920_MEMORY"
    assert "the process's limit (ulimit -v)" in foreseen[1].message and "GiB short" in foreseen[1].message
    assert issubclass(true[0], (RuntimeError, MemoryError)) and true[1].code == "E922_HOST_OOM"
    for _, failure in (foreseen, true):
        assert "a picture of " in failure.hint
        assert failure.error_class == "HOST_OOM"
