"""Does a batch pay? n windows of chalk in one forward, against n forwards, on one thread of this machine.

    python tests/bench/bench_batch.py           about 2 minutes on an idle core; exits 1 where a claim fails

Batches take turns, and a figure is the median of one's turns over n times that of one window: below 1 a batch
pays. Seconds are the processor's, whoever else is at it. The first size is chalk's own. At last it is told
what a window's bits depend on: how many are in its forward, or also which others, and its place among them.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from engine.batch import apart, predict_windows
from engine.families.loading import load_part

CHALK = Path(__file__).parent.parent.parent / "engine" / "chalk" / "weights"
BATCHES, OFF = (1, 2, 4, 8), 1e-4
FRAMES = 13  # latent, of chalk's windows
SIZES = {"96 x 64 px": (16, 24), "48 x 32 px": (8, 12), "24 x 16 px": (4, 6)}  # latent rows and columns
SCALES = {"guided": 6.0, "unguided": 1.0}


def inputs(config: Any, size: tuple[int, int]) -> tuple[Tensor, list[dict[str, Tensor]], dict[str, Tensor]]:
    """As many unlike windows as the largest batch has, a text for each, and the negative text."""
    drawn, n = torch.Generator().manual_seed(1), max(BATCHES)
    latents = torch.randn((n, FRAMES, config.in_channels, *size), generator=drawn)
    shape = (1, config.max_text_seq_length, config.text_embed_dim)
    *prompts, negative = ({"tokens": torch.randn(shape, generator=drawn)} for _ in range(n + 1))
    return latents, prompts, negative


def predictions(family: Any, given: Any, which: Sequence[int], scale: float) -> list[Tensor]:
    """Of these windows, in one forward."""
    latents, prompts, negative = given
    texts = [prompts[n] for n in which], [negative] * len(which)
    return apart(predict_windows(family, latents[list(which)], torch.tensor(500), *texts, scale), len(which))


def depends(family: Any, given: Any, scale: float, n: int) -> list[str]:
    """What a window's bits in a forward of n depend on. Exits where it is another prediction altogether."""
    (alone,) = predictions(family, given, [0], scale)
    first = predictions(family, given, range(n), scale)[0]
    last = predictions(family, given, [*range(n - 1, -1, -1)], scale)[-1]
    others = predictions(family, given, [0, *range(max(BATCHES) - n + 1, max(BATCHES))], scale)[0]
    off = float((first - alone).abs().max())
    if off > OFF:
        sys.exit(f"a window in a forward of {n} is off by {off:.1e}")
    found = {"how many": alone, "its place": last, "which others": others}
    return [name for name, other in found.items() if not torch.equal(first, other)]


def seconds(family: Any, given: Any, scale: float, turns: int) -> dict[int, float]:
    """The median of a forward of each batch."""
    times: dict[int, list[float]] = {n: [] for n in BATCHES}
    for _ in range(turns):
        for n in BATCHES:
            began = time.process_time()
            predictions(family, given, range(n), scale)
            times[n].append(time.process_time() - began)
    return {n: statistics.median(each) for n, each in times.items()}


def main() -> None:
    """Print a line for each size, and exit 1 where a window's bits depend on more than how many there are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    family = load_part(CHALK, "transformer", "float32", "cpu")
    bits: set[str] = set()
    for size, sides in SIZES.items():
        given = inputs(family.transformer.config, sides)
        for guided, scale in SCALES.items():
            bits |= {name for n in BATCHES[1:] for name in depends(family, given, scale, n)}
            medians = seconds(family, given, scale, turns)
            shares = "  ".join(f"{n}: {medians[n] / (n * medians[1]):.2f}" for n in BATCHES[1:])
            print(f"{size:10}  {guided:8}  {1000 * medians[1]:6.1f} ms a window  in a batch of {shares}")
    print(f"a window's bits depend on {', '.join(sorted(bits)) or 'nothing beside it'}")
    sys.exit(bool(bits - {"how many"}))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    main()
