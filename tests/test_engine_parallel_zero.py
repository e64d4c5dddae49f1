"""Weights shared out by ZeRO-3 over real gloo processes, against the same gang with whole weights."""

import multiprocessing as mp
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from engine.families.loading import load_part
from engine.parallel.axes import Axes
from engine.parallel.gang import form_mesh, serve_rendezvous
from engine.parallel.spread import parallelise
from engine.parallel.zero import shard_weights

AXES = {
    "ulysses 2": Axes(2, ulysses=2),
    "ring 2": Axes(2, ring=2),
    "cfg 2": Axes(2, cfg=2),
    "cfg 2 × ulysses 2": Axes(4, cfg=2, ulysses=2),
}


def weights_bytes(transformer) -> int:
    """Bytes of the storages that a transformer's weights really lie in, the parts of ZeRO among them."""
    held = [t for p in transformer.parameters() for t in (p.data, getattr(p, "ds_tensor", None))]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held if t is not None}
    return sum(storages.values())


def predict(family, scale):
    generator, config = torch.Generator().manual_seed(7), family.transformer.config
    latents = torch.randn((1, 3, config.in_channels, 8, 8), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    texts = [{"tokens": text} for text in torch.randn(shape, generator=generator)]
    return family.predict(latents, torch.tensor(500), *texts, scale)


def measure(folder, port, prefix, rank, axes):
    """Predictions of whole weights and of shared ones, and the bytes of each; once a forming of the gang."""
    mesh = form_mesh("127.0.0.1", port, prefix, rank, axes, 60.0)
    family = load_part(folder, "transformer", "float32")
    parallelise(family, mesh)
    whole, before = predict(family, 4.0), weights_bytes(family.transformer)
    linear = F.linear
    shard_weights(family.transformer, "cpu")
    shared = [predict(family, scale) for scale in (4.0, 1.0, 4.0)]
    equal = [torch.equal(whole, shared[0]), torch.equal(whole, shared[2])]
    untouched = F.linear is linear
    return equal, weights_bytes(family.transformer) / before, untouched, not torch.equal(*shared[:2])


def serve(pipe, folder, port, rank, axes, path):
    os.environ["PATH"] = path
    torch.set_num_threads(1)
    try:
        pipe.send([measure(folder, port, prefix, rank, axes) for prefix in ("first", "formed anew")])
    except Exception as error:
        pipe.send(repr(error))


def gang(folder, axes, path=os.environ["PATH"]):
    """What every rank measured."""
    context, store = mp.get_context("spawn"), serve_rendezvous("127.0.0.1")
    pipes, processes = [], []
    for rank in range(axes.ranks):
        ours, theirs = context.Pipe()
        args = (theirs, folder, store.port, rank, axes, path)
        processes.append(context.Process(target=serve, args=args, daemon=True))
        processes[-1].start()
        pipes.append(ours)
    try:
        assert all(pipe.poll(120) for pipe in pipes)
        return [pipe.recv() for pipe in pipes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("name", AXES)
def test_shared_weights_predict_the_same_bits_from_a_part_of_the_bytes_also_after_forming_anew(
    tiny_folder: Path, name
):
    axes = AXES[name]
    for answer in gang(tiny_folder, axes):
        assert isinstance(answer, list), answer
        for equal, part, untouched, differs in answer:
            assert equal == [True, True] and differs and untouched
            assert 1 / axes.ranks <= part < 1 / axes.ranks + 0.05


def test_no_compiler_is_needed(tiny_folder: Path, tmp_path):
    for answer in gang(tiny_folder, AXES["ulysses 2"], path=str(tmp_path)):
        assert isinstance(answer, list) and answer[0][0] == [True, True], answer
