"""Weights of a stage: kept while they are asked for, gone when not, and the same when they return."""

import time
import weakref
from pathlib import Path

import torch

from cluster.stages import LoadedPart
from cluster.tasks import Model


def test_weights_leave_when_nobody_asks_for_a_while_and_come_back_with_the_same_bits(tiny_folder: Path):
    model, part = Model(str(tiny_folder), "float32", "digest"), LoadedPart("text", "cpu", 1, idle_s=0.5)
    first = part.of(model).embed("rain", 16)["tokens"]
    encoder = weakref.ref(part.of(model).pipeline.text_encoder)
    assert encoder() is not None
    deadline = time.monotonic() + 30
    while encoder() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert encoder() is None and part.family is None
    assert torch.equal(part.of(model).embed("rain", 16)["tokens"], first)


def test_weights_that_are_asked_for_again_and_again_are_loaded_once(tiny_folder: Path):
    model, part = Model(str(tiny_folder), "float32", "digest"), LoadedPart("text", "cpu", 1, idle_s=5.0)
    family = part.of(model)
    for _ in range(7):
        time.sleep(1.0)
        assert part.of(model) is family


def test_where_a_transformers_weights_lie_reloads_no_text_encoder(tiny_folder: Path):
    part = LoadedPart("text", "cpu", 1)
    family = part.of(Model(str(tiny_folder), "float32", "digest"))
    assert part.of(Model(str(tiny_folder), "float32", "digest", offload="disk")) is family
    assert part.of(Model(str(tiny_folder), "float32", "another")) is not family
