"""Two ranks of one gang, as processes without Ray."""

import multiprocessing as mp
from pathlib import Path

import torch

from cluster.conductor import Request
from cluster.rank import Rank
from cluster.stages import Encoder
from cluster.tasks import Model, PromptTask
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
