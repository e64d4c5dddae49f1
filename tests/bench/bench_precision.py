"""What 8 bits and compiled kernels cost chalk, and what they save.

    python tests/bench/bench_precision.py --captions 24            about 6 minutes on an idle core

Bytes are those that the transformer's tensors hold. Errors are of predictions (root mean square, as a share
of float32's) and of finished clips (PSNR against float32's from the same noise). Clips are of held-out
captions, and the oracle reads them. Times are of one guided step of a whole window, by this process's own
clock; contestants take turns, and a figure is the median of its turns over float32's.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from engine.chalk.clips import held_out_captions
from engine.chalk.judge import sample
from engine.chalk.model import GUIDANCE, WEIGHTS
from engine.chalk.oracle.table import evaluate
from engine.families.compiled import compile_blocks
from engine.families.loading import load_part
from engine.families.quantise import quantise
from tests.weigh import held_bytes

KINDS = {
    "float32": ("float32", "", False),
    "float32 compiled": ("float32", "", True),
    "float32 int8": ("float32", "int8", False),
    "float32 int8 compiled": ("float32", "int8", True),
    "bfloat16": ("bfloat16", "", False),
    "bfloat16 int8": ("bfloat16", "int8", False),
}
STEPS = (999, 700, 400, 100)
LANGUAGES = ("en", "hi", "ta")


def load(dtype: str, how: str, compiled: bool) -> Any:
    """Chalk's transformer in one of the KINDS."""
    family = load_part(WEIGHTS, "transformer", dtype)
    if how:
        quantise(family, how, "cpu")
    if compiled:
        compile_blocks(family)
    return family


def predict(family: Any, step: int) -> Tensor:
    """A guided step of a window of 13 latent frames."""
    generator, config = torch.Generator().manual_seed(step), family.transformer.config
    latents = torch.randn((1, 13, config.in_channels, 16, 24), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    texts = [
        {"tokens": text} for text in torch.randn(shape, generator=generator).to(family.transformer.dtype)
    ]
    prediction: Tensor = family.predict(
        latents.to(family.transformer.dtype), torch.tensor(step), *texts, GUIDANCE
    ).float()
    return prediction


def error(family: Any, truth: Any) -> float:
    """Root mean square of what is off over that of what should be, at several steps together."""
    found, true = (torch.stack([predict(each, step) for step in STEPS]) for each in (family, truth))
    return float(torch.linalg.norm(found - true) / torch.linalg.norm(true))


def times(families: dict[str, Any], turns: int) -> dict[str, float]:
    """Median seconds of a step, everyone in turn; of this process's own computing, whoever else computes."""
    taken: dict[str, list[float]] = {name: [] for name in families}
    for _ in range(turns):
        for name, family in families.items():
            began = time.process_time()
            predict(family, STEPS[1])
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def clips(how: str, n: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Scenes and the clips drawn of them, n captions shared out over the languages."""
    from diffusers import CogVideoXPipeline

    pipeline = CogVideoXPipeline.from_pretrained(str(WEIGHTS), local_files_only=True)
    if how:
        pipeline.transformer = load("float32", how, False).transformer
    for language in LANGUAGES:
        pairs = held_out_captions(n // len(LANGUAGES), language)
        yield from zip([s for s, _ in pairs], sample(pipeline, [text for _, text in pairs]), strict=True)


def psnr(found: np.ndarray, true: np.ndarray) -> float:
    """Of 8-bit pictures, in dB."""
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - true.astype(float)) ** 2)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--captions", type=int, default=24, help="0 for none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    families = {name: load(*kind) for name, kind in KINDS.items()}
    truth = families["float32"]
    errors = {name: error(family, truth) for name, family in families.items()}
    seconds = times(families, options.turns)
    for name, family in families.items():
        held = held_bytes([*family.transformer.parameters(), *family.transformer.buffers()])
        ratio = seconds[name] / seconds["float32"]
        print(f"{name:22} {held:>11,} bytes   off by {errors[name]:.2%}   {ratio:.2f} of float32's time")
    if options.captions:
        compare(options.captions)


def compare(n: int) -> None:
    """Clips in float32 and in int8: how like each other, and how well each shows what it should."""
    drawn = {how: list(clips(how, n)) for how in ("", "int8")}
    alike = [psnr(found, true) for (_, found), (_, true) in zip(drawn["int8"], drawn[""], strict=True)]
    print(f"int8's clips are {statistics.median(alike):.1f} dB from float32's (least {min(alike):.1f})")
    for how, of in drawn.items():
        counts = evaluate((clip, scene) for scene, clip in of).axes
        said = "  ".join(f"{axis} {count.right}/{count.asked}" for axis, count in counts.items())
        print(f"{how or 'float32':8} {said}")


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    main()
