"""Teach chalk to end with a picture, by a LoRA adapter beside weights that stay as they are:

    python -m engine.chalk.train_last --work FOLDER                draw and encode the lessons, then train
    python -m engine.chalk.train_last --work FOLDER --out FILE     write what the last checkpoint holds

Shapes: z_BTCHW latents. Decides which layers the adapter is of, what is free of noise in a window, and how a
run is resumed. Does not decide which lessons there are (`endings`), or the loss (`train_transformer`).

In every window the last latent frame, or the last two, are the picture's, free of noise. In most the first
is free of noise too, or a few are, as in chalk's own training. The adapter is for such windows alone: all
others are drawn without.

A step is a function of (seed, step): a resumed run takes the same steps as an undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import CogVideoXPipeline
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from engine.chalk.clips import append_line, clips_at, random_caption
from engine.chalk.endings import SHARES, encode_lessons, lesson
from engine.chalk.latents import Latents, fingerprint
from engine.chalk.model import WEIGHTS, diffusers_folder
from engine.chalk.muon import update
from engine.chalk.progress import CURVES, Average, Plan, load_checkpoint, losses, rate_at, save_checkpoint
from engine.chalk.train_text import embed
from engine.chalk.train_transformer import HAS_AMX, compile_blocks, mean_square, velocities
from engine.families.adapter_files import ENDING_FILE

STEPS, LESSONS = 800, 800
LatentsByLength = Mapping[int, Latents]
_LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")


@dataclass(frozen=True)
class LastPlan(Plan):
    """How the adapter is trained."""

    rank: int = 32
    rate: float = 2e-3
    batch_frames: int = 160  # latent frames of a batch, whatever its windows' length
    first: float = 0.75  # chance that a window's first frames are given too
    more: float = 0.15  # chance that these are two or three instead of one
    changes: float = 8.0  # weight of the error of what changes in time, as the weights were trained
    languages: tuple[float, ...] = (0.5, 0.25, 0.25)  # chances of "en", "hi", "ta"
    drop: float = 0.1  # captions left out, for classifier-free guidance
    gaps: float = 0.25  # share of words that half of the captions lose
    slowest: float = 0.99  # of the average of the adapter
    every: int = 100  # steps between checkpoints
    half: bool = HAS_AMX
    compiled: bool = True


class LastLearner:
    """The adapter in its transformer, its optimizer and its average; takes one step and can be saved."""

    def __init__(self, pipeline: CogVideoXPipeline, plan: LastPlan) -> None:
        self.pipeline, self.plan, self.model = pipeline, plan, pipeline.transformer
        self.model.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            self.model.add_adapter(
                LoraConfig(r=plan.rank, lora_alpha=plan.rank, target_modules=list(_LAYERS))
            )
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.average = Average.of(self.adapter)
        self.alphas = pipeline.scheduler.alphas_cumprod.float()
        self.step = 0

    @property
    def adapter(self) -> dict[str, Tensor]:
        """The adapter's own weights, by peft's names."""
        return dict(get_peft_model_state_dict(self.model))

    def train_step(self, latents: LatentsByLength) -> float:
        """Take step number self.step; returns its loss."""
        plan, rng = self.plan, np.random.default_rng((self.plan.seed, self.step))
        length = int(rng.choice(list(SHARES), p=list(SHARES.values())))
        stored = latents[length]
        batch = plan.batch_frames // length
        chosen = rng.integers(min(len(stored), lessons_at(self.step, length, len(stored))), size=batch)
        given = 1 + np.where(rng.random(batch) < plan.more, rng.integers(1, 3, batch), 0)
        given = np.where(rng.random(batch) < plan.first, np.minimum(given, length - 2), 0)
        z_BTCHW = torch.from_numpy(stored[chosen].astype(np.float32))
        if length % 2 == 0:
            z_BTCHW = torch.cat([z_BTCHW, z_BTCHW[:, -1:]], dim=1)
        loss = self._loss(z_BTCHW, length - 1, self._text(length, chosen, rng), torch.from_numpy(given))
        update([self.optimizer], loss, rate_at(self.step, plan.steps, plan.rate, 50, fall=0.5))
        self.average.update(self.adapter, self.step, plan.slowest)
        self.step += 1
        return float(loss.detach())

    def _text(self, length: int, lessons: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Embeddings (B, MAX_TOKENS, text dim) of one phrasing for each lesson, some left out.

        Where one scene fades into another it is of either.
        """
        plan, captions = self.plan, []
        for number in lessons:
            scenes = lesson(length, int(number)).scenes
            scene = scenes[int(rng.integers(len(scenes)))]
            captions.append(random_caption(scene, rng, plan.languages, gaps=plan.gaps))
        with torch.no_grad():
            return embed(self.pipeline, ["" if rng.random() < plan.drop else text for text in captions])

    def _loss(self, z_BTCHW: Tensor, rest: int, embeds: Tensor, given_B: Tensor) -> Tensor:
        """Weighed squared error of the velocity at noise levels spread evenly over the batch.

        The first given_B frames of a window and those from `rest` on are free of noise and do not count.
        """
        plan, (batch, length) = self.plan, z_BTCHW.shape[:2]
        frames = torch.arange(length)
        unknown = ((frames >= given_B[:, None]) & (frames < rest)).float().view(batch, length, 1, 1, 1)
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        predicted, velocity = velocities(
            self.model, z_BTCHW, embeds, unknown, self.alphas, generator, half=plan.half
        )
        return mean_square(predicted - velocity, unknown, plan.changes)

    def save(self, path: Path) -> None:
        """Everything that the next step depends on."""
        state = {"adapter": self.adapter, "average": self.average.shadow, "step": self.step}
        save_checkpoint(path, {**state, "optimizer": self.optimizer.state_dict()})

    def resume(self, path: Path) -> None:
        """Go on from path, if it is there."""
        if state := load_checkpoint(path):
            set_peft_model_state_dict(self.model, state["adapter"])
            self.average, self.step = Average(state["average"]), state["step"]
            self.optimizer.load_state_dict(state["optimizer"])

    def export(self, path: Path) -> None:
        """Write the averaged adapter in bfloat16, as diffusers names adapters."""
        weights = {name: value.to(torch.bfloat16) for name, value in self.average.shadow.items()}
        CogVideoXPipeline.save_lora_weights(
            str(path.parent), transformer_lora_layers=weights, weight_name=path.name
        )


def lessons_at(step: int, length: int, n: int) -> int:
    """How many of n lessons of a length a run draws from at this step: few at first."""
    return min(n, max(4, round(SHARES[length] * clips_at(step, LESSONS))))


def train_last(
    pipeline: CogVideoXPipeline, latents: LatentsByLength, plan: LastPlan, work: Path
) -> LastLearner:
    """Train an adapter up to plan.last, resuming from work/last_frame.ckpt."""
    learner = LastLearner(pipeline, plan)
    learner.resume(work / "last_frame.ckpt")
    if plan.compiled:
        compile_blocks(pipeline)
    since = time.monotonic()
    while learner.step < plan.last:
        loss = round(learner.train_step(latents), 5)
        if not math.isfinite(loss):
            raise FloatingPointError(f"step {learner.step - 1} has the loss {loss}: nothing of it is saved")
        seconds = round(time.monotonic() - since, 1)
        append_line(work / "last_frame.jsonl", {"step": learner.step - 1, "seconds": seconds, "loss": loss})
        if learner.step % plan.every == 0 or learner.step == plan.last:
            learner.save(work / "last_frame.ckpt")
    return learner


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    pipeline = CogVideoXPipeline.from_pretrained(str(options.weights), local_files_only=True)
    plan = LastPlan(options.steps, options.seed, stop=options.stop)
    if options.out:
        learner = LastLearner(pipeline, plan)
        learner.resume(options.work / "last_frame.ckpt")
        learner.export(options.out)
        _record(losses(options.work / "last_frame.jsonl"), options.out)
        print(f"wrote {options.out} from step {learner.step}")
        return
    made_by, latents = fingerprint(pipeline.vae), {}
    for length, share in SHARES.items():
        n = lessons_at(plan.last, length, round(share * LESSONS))
        path = options.work / f"endings_{length}_{made_by}.npy"
        latents[length] = encode_lessons(path, pipeline.vae, length, n)
    train_last(pipeline, latents, plan, options.work)


def _record(curve: list[float], adapter: Path) -> None:
    """Put the losses among those of the weights that the adapter is beside, if it is beside any."""
    curves = adapter.parent.parent / CURVES.name
    if curves.is_file():
        told = json.loads(curves.read_text())
        curves.write_text(json.dumps(told | {"last_frame": curve}) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Teach chalk to end with a picture.")
    parser.add_argument("--work", type=Path, required=True, help="folder of latents, checkpoint, log")
    parser.add_argument("--weights", type=diffusers_folder, default=WEIGHTS, help="diffusers folder")
    parser.add_argument("--out", type=Path, help=f"file to write, such as {ENDING_FILE}")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the whole run, resumed or not")
    parser.add_argument("--stop", type=int, help="stop here, before the rate's course is over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
