"""The text encoder learns what captions say, in a training that repeats itself."""

import json

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.chalk.model import build_pipeline
from engine.chalk.progress import load_checkpoint
from engine.chalk.scenes import Figure, Landscape, random_scene
from engine.chalk.train_text import ATTRIBUTES, Reader, TextPlan, attributes, embed, train_text


@given(seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
def test_scenes_with_the_same_attributes_are_the_same_scene(seeds):
    one, other = (random_scene(np.random.default_rng(seed)) for seed in seeds)
    assert (attributes(one) == attributes(other)) == (one == other)


def test_a_figure_has_no_land_and_a_landscape_no_kind():
    figure = dict(zip(ATTRIBUTES, attributes(Figure("heart", "red", "beat")), strict=True))
    landscape = dict(zip(ATTRIBUTES, attributes(Landscape("sea")), strict=True))
    assert figure["land"] == figure["light"] == 0 < figure["kind"]
    assert landscape["kind"] == landscape["night"] == 0 < landscape["land"]


def test_training_resumes_with_the_numbers_of_an_undisturbed_run(tmp_path):
    def trained(work, *stops):
        work.mkdir()
        for stop in stops:
            train_text(build_pipeline(0, tiny=True), TextPlan(steps=6, batch=8, stop=stop), work)
        losses = [json.loads(line)["loss"] for line in (work / "text.jsonl").read_text().splitlines()]
        return load_checkpoint(work / "text.ckpt"), losses

    (whole, expected), (halves, losses) = trained(tmp_path / "a", 6), trained(tmp_path / "b", 3, 6)
    assert losses == expected and len(losses) == 6
    assert all(torch.equal(value, halves["model"][name]) for name, value in whole["model"].items())


def test_training_reads_captions_ever_better_and_says_how_well(tmp_path):
    pipeline = build_pipeline(0, tiny=True)
    train_text(pipeline, TextPlan(steps=200, batch=16, rate=1e-2), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "text.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    read = json.loads((tmp_path / "text_read.jsonl").read_text())
    assert read["step"] == 200 and all(0 <= read[language] <= 1 for language in ("en", "hi", "ta"))


def test_a_reader_gives_logits_of_every_value_of_every_attribute():
    pipeline = build_pipeline(0, tiny=True)
    logits = Reader(16)(embed(pipeline, ["rain falls", ""]))
    assert [part.shape for part in logits] == [(2, 1 + len(values)) for values in ATTRIBUTES.values()]
