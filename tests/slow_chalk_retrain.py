"""Training chalk again from its seed follows the committed loss curves: `make retrain`, some 5 minutes.

Each part is trained for its first 50 steps in a new folder, by the very command of the model card; the
transformer with the committed autoencoder and text encoder, since half an hour of training lies between.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX
from transformers import T5EncoderModel

from engine.chalk import train
from engine.chalk.model import WEIGHTS

ROOT = Path(__file__).parent.parent
CURVES = json.loads((ROOT / "engine" / "chalk" / "curves.json").read_text())
STEPS, WITHIN = 50, 0.01


@pytest.mark.parametrize("part", ["vae", "text", "transformer"])
def test_the_first_steps_from_the_seed_have_the_committed_losses(tmp_path, part):
    if part == "transformer":
        for name, kind in (("vae", AutoencoderKLCogVideoX), ("text_encoder", T5EncoderModel)):
            committed = kind.from_pretrained(str(WEIGHTS / name))
            committed.save_pretrained(str(tmp_path / name), safe_serialization=True)
    train.main([part, "--work", str(tmp_path), "--stop", str(STEPS)])
    lines = (tmp_path / f"{part}.jsonl").read_text().splitlines()
    losses = np.array([json.loads(line)["loss"] for line in lines])
    committed = np.array(CURVES[part][:STEPS])
    assert len(losses) == len(committed) == STEPS
    worst = np.abs(losses / committed - 1).max()
    assert worst <= WITHIN, f"{part}: step {np.abs(losses / committed - 1).argmax()} is off by {worst:.2%}"
