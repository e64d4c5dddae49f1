"""What a step cache costs and saves: chalk's held-out captions, drawn with and without it.

    python tests/bench/bench_cache.py [--captions 30]      a minute of one core a caption

Every caption is drawn by every setting in turn, from the same noise and on one thread, so that what else the
machine does weighs on all alike; time is the processor's. Steps a second count the steps of the canvas, those
that are skipped too. Likeness is the PSNR of the frames' bytes to those without a cache. "right" is what the
oracle of `engine.chalk.judge` finds of all that captions ask for. A cache is held against as many predictions
without one, that is, fewer steps: it must lie nearer to all steps than those. How many predictions in full a
first-block cache takes, a film decides; its fewer steps are as many as it took on the mean, and drawn last.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import numpy as np
import torch

from engine.cache import EVERY_STEP, StepCache
from engine.chalk.clips import held_out_captions
from engine.chalk.model import GUIDANCE, HEIGHT, WEIGHTS, WIDTH
from engine.chalk.oracle.table import evaluate
from engine.chalk.tokens import MAX_TOKENS
from engine.denoise import WindowRequest, answer_here, denoise_shot
from engine.families.cogvideox import CogVideoX
from engine.families.first_block import first_blocks
from engine.families.loading import new_canvas
from engine.timeline import Part
from engine.windows import Window

N_STEPS, N_FRAMES, N_LATENT = 20, 33, 9
FRAME = (4, HEIGHT // 4, WIDTH // 4)


@dataclass
class Setting:
    """A way to draw, and what came of it."""

    name: str
    n_steps: int = N_STEPS
    cache: StepCache = EVERY_STEP
    threshold: float = 0.0  # of a first-block cache, and the branches that it had in full
    full: int = 0
    seconds: float = 0.0
    clips: list[Any] = field(default_factory=list)

    @property
    def n_predicted(self) -> int:
        """Predictions of one window, in full."""
        return round(self.full / len(self.clips)) if self.threshold else self.cache.n_predicted(self.n_steps)


def settings() -> Iterator[Setting]:
    """All steps, then each cache, and where that says so itself as many predictions without one."""
    yield Setting("no cache")
    for interval in (2, 3):
        cached = Setting(f"taylorseer, interval {interval}", cache=StepCache(interval))
        yield cached
        yield Setting("no cache, fewer steps", cached.n_predicted)
    for threshold in (0.05, 0.1):
        yield Setting(f"first_block, threshold {threshold}", threshold=threshold)


def draw(family: CogVideoX, setting: Setting, texts: list[Any], seed: int) -> None:
    """Add a clip to a setting's, and the processor's time of its denoising."""
    canvas = new_canvas(
        WEIGHTS, seed=seed, shot="s", n_frames=N_LATENT, frame_shape=FRAME, dtype="float32",
        n_steps=setting.n_steps,
    )  # fmt: skip
    parts, weights = [Part(Window(0, N_LATENT), 0)], np.ones((1, N_LATENT))
    blocks = first_blocks(family, setting.threshold)

    def answer(request: WindowRequest) -> Any:
        asked = (request.latents, request.timestep, *texts, GUIDANCE)
        if blocks is None:
            return family.predict(*asked)
        anchored = blocks.predict(*asked, request.anchors)
        setting.full += sum(anchored.full)
        return anchored

    began = time.process_time()
    latents = answer_here(
        denoise_shot(canvas, parts, weights, cache=setting.cache, anchored=blocks is not None),
        answer,
        lambda: False,
    )
    setting.seconds += time.process_time() - began
    assert latents is not None
    setting.clips.append(np.stack(list(family.frames(latents))))


def psnr_db(clip: Any, whole: Any) -> float:
    """How like two clips of bytes are, in dB; infinite where they are equal."""
    error = float(np.mean((clip.astype(np.float64) - whole) ** 2))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def row(setting: Setting, whole: Setting, scenes: list[Any]) -> tuple[str, float]:
    """A line of the table, and the mean likeness in dB."""
    n = len(setting.clips)
    likeness = [psnr_db(*pair) for pair in zip(setting.clips, whole.clips, strict=True)]
    parts = evaluate(zip(setting.clips, scenes, strict=True)).parts.values()
    right, asked = sum(count.right for count in parts), sum(count.asked for count in parts)
    rate = setting.n_steps * n / setting.seconds
    mean = float(np.mean(likeness))
    times = f"{whole.seconds / setting.seconds:5.2f} x"
    return (
        f"{setting.name:<26}{setting.n_predicted:>4}{rate:>9.1f} steps/s {times}{mean:>8.1f} dB"
        f"{min(likeness):>8.1f} dB{right:>6} of {asked}"
    ), mean


def main() -> None:
    """Print the table; exit 1 where a cache is no nearer to all steps than as many predictions without it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--captions", type=int, default=30, metavar="N")
    n = parser.parse_args().captions
    torch.set_num_threads(1)
    family = CogVideoX.load(WEIGHTS, dtype=torch.float32)
    pairs, tried = held_out_captions(n, "en"), list(settings())
    negative = family.embed("", MAX_TOKENS)
    draw(family, Setting("warm-up", 4), [negative, negative], 0)

    def draw_all(asked: list[Setting]) -> None:
        for seed, (_, text) in enumerate(pairs):
            for setting in asked:
                draw(family, setting, [family.embed(text, MAX_TOKENS), negative], seed)

    draw_all(tried)
    decided = [each for each in tried if each.threshold]
    fewer = [Setting("no cache, fewer steps", each.n_predicted) for each in decided]
    draw_all(fewer)
    tried = tried[: -len(decided)] + [each for pair in zip(decided, fewer, strict=True) for each in pair]
    print(f"{n} captions, {N_FRAMES} frames of {WIDTH} x {HEIGHT} pixels; PSNR of all clips and of the worst")
    print(f"{'':<26}predictions{'':>16}time{'':>8}PSNR{'':>9}worst     right")
    means = []
    for setting in tried:
        line, mean = row(setting, tried[0], [scene for scene, _ in pairs])
        print(line, flush=True)
        means.append(mean)
    sys.exit(any(cached <= without for cached, without in zip(means[1::2], means[2::2], strict=True)))


if __name__ == "__main__":
    main()
