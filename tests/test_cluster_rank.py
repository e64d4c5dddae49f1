"""Ranks as processes without Ray: two of one gang, and one of a machine with little memory."""

import multiprocessing as mp
import resource
from pathlib import Path

import torch

from cluster.conductor import Request
from cluster.crew import judge
from cluster.identity import Model
from cluster.rank import Rank
from cluster.shortage import Shortage
from cluster.shots import PromptTask
from cluster.stages import Encoder
from engine.parallel.axes import Axes
from engine.parallel.gang import serve_rendezvous
from engine.tensors import pack

STEPS = (500, 400)


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
    assert all(pipe.poll(120) for pipe in pipes)
    for answer in [pipe.recv() for pipe in pipes]:
        assert isinstance(answer, list), answer
        assert answer[:2] == answer[2:4] == answer[4:] and answer[0] != answer[1]


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
