"""Training chalk again from its seed follows the committed loss curves: `make retrain`, some 5 minutes.

Each part is trained for its first 50 steps in a new folder, by the very command of the model card; the
transformer with the committed autoencoder and text encoder, since half an hour of training lies between,
and the adapter that ends with a picture with all of the committed weights.
Once with all that this CPU can do, and once with the kernels of an older one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX
from transformers import T5EncoderModel

from engine.chalk.model import WEIGHTS

ROOT = Path(__file__).parent.parent
CURVES = json.loads((ROOT / "engine" / "chalk" / "curves.json").read_text())
STEPS, WITHIN = 50, 0.01
COMMANDS = {part: ["engine.chalk.train", part] for part in ("vae", "text", "transformer")}
COMMANDS["last_frame"] = ["engine.chalk.train_last"]
KERNELS = {
    "own": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("part", COMMANDS)
def test_the_first_steps_from_the_seed_have_the_committed_losses(tmp_path, part, kernels):
    if part == "transformer":
        for name, kind in (("vae", AutoencoderKLCogVideoX), ("text_encoder", T5EncoderModel)):
            committed = kind.from_pretrained(str(WEIGHTS / name))
            committed.save_pretrained(str(tmp_path / name), safe_serialization=True)
    command = [sys.executable, "-m", *COMMANDS[part], "--work", tmp_path, "--stop", str(STEPS)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | KERNELS[kernels])
    lines = (tmp_path / f"{part}.jsonl").read_text().splitlines()
    losses = np.array([json.loads(line)["loss"] for line in lines])
    committed = np.array(CURVES[part][:STEPS])
    assert len(losses) == len(committed) == STEPS
    worst = np.abs(losses / committed - 1).max()
    assert worst <= WITHIN, f"{part}: step {np.abs(losses / committed - 1).argmax()} is off by {worst:.2%}"
