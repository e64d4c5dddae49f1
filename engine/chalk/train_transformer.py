"""Train the transformer and its text encoder on encoded lessons.

Shapes: z_BTCHW latents. Decides the loss, the noise levels, the lengths of windows, and how captions are
phrased and dropped. Does not decide how latents are made (`latents`) or sampled (the stock pipeline).

A step is a function of (seed, step): a resumed run takes the same steps as an undisturbed one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from torch import Tensor, nn

from engine.chalk.clips import append_line, random_caption
from engine.chalk.latents import Latents
from engine.chalk.muon import split_optimizers, update
from engine.chalk.progress import (
    Average,
    frames_of,
    load_checkpoint,
    rate_at,
    save_checkpoint,
    save_grid,
)
from engine.chalk.tokens import MAX_TOKENS

SAMPLE_PROMPTS = (
    "the sun shines over the blue sea",
    "water vapour rises from the sea while the sun shines",
    "white clouds drift right over snowy mountains",
    "rain falls from grey clouds over green hills",
    "a river flows through green hills",
    "the moon and stars shine at night over the sea",
    "the sun sets over the mountains",
    "a plant grows",
)

# Embeddings, time conditioning, the output, and the small text encoder keep the rate of each entry's own
_ADAM_ONLY = ("text.", "patch_embed", "time_embedding", ".linear.", "norm_", "proj_out")


@dataclass(frozen=True)
class TransformerPlan:
    """How the transformer is trained."""

    steps: int
    first_clip_seed: int  # of the clip of latents[0]
    seed: int = 0
    rate: float = 1.5e-3
    muon_size: float = 0.5  # of an update of the blocks' matrices, in units of the rate
    batch_frames: int = 8 * 13  # latent frames of a batch, whatever its windows' length
    lengths: tuple[int, ...] = (5, 9, 13)
    length_chances: tuple[float, ...] = (0.35, 0.3, 0.35)
    languages: tuple[float, ...] = (0.8, 0.1, 0.1)  # chances of "en", "hi", "ta"
    drop: float = 0.1  # captions left out, for classifier-free guidance
    bf16: bool = True
    slowest: float = 0.998  # of the average of the weights
    every: int = 200  # steps between checkpoints and sample grids


class Learner:
    """The trained parts, their optimizers and their average; knows how to take one step and to be saved."""

    def __init__(self, pipeline: CogVideoXPipeline, plan: TransformerPlan) -> None:
        self.pipeline, self.plan = pipeline, plan
        self.model = nn.ModuleDict({"transformer": pipeline.transformer, "text": pipeline.text_encoder})
        _start_quiet(pipeline.transformer)
        self.optimizers = split_optimizers(self.model, plan.rate, _ADAM_ONLY, plan.muon_size)
        self.average = Average.of(self.model)
        self.alphas = pipeline.scheduler.alphas_cumprod.float()
        self.step = 0

    def train_step(self, latents: Latents) -> float:
        """Take step number self.step; returns its loss."""
        plan, rng = self.plan, np.random.default_rng((self.plan.seed, self.step))
        length = int(rng.choice(plan.lengths, p=plan.length_chances))
        chosen = rng.integers(len(latents), size=max(1, plan.batch_frames // length))
        z = torch.from_numpy(latents[chosen, :length].astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
            loss = self._loss(z, self._text(chosen, rng))
        update(self.optimizers, loss, rate_at(self.step, plan.steps, plan.rate, 100))
        self.average.update(self.model, self.step, plan.slowest)
        self.step += 1
        return float(loss.detach())

    def _text(self, chosen: Any, rng: np.random.Generator) -> Tensor:
        """Embeddings (B, tokens, text dim) of one phrasing for each clip, some left out.

        The padding of a batch is drawn between none and MAX_TOKENS: the stock pipeline pads, others trim.
        """
        plan = self.plan
        captions = [random_caption(plan.first_clip_seed + int(i), rng, plan.languages) for i in chosen]
        captions = ["" if rng.random() < plan.drop else caption for caption in captions]
        tokenizer = self.pipeline.tokenizer
        longest = max(len(ids) for ids in tokenizer(captions).input_ids)
        padded = min(MAX_TOKENS, int(rng.choice([longest, MAX_TOKENS])))
        ids = tokenizer(
            captions, padding="max_length", max_length=padded, truncation=True, return_tensors="pt"
        ).input_ids
        embeds: Tensor = self.model["text"](ids)[0]
        return embeds

    def _loss(self, z_BTCHW: Tensor, embeds: Tensor) -> Tensor:
        """Mean squared error of the velocity at noise levels spread evenly over the batch."""
        batch, length, _, height, width = z_BTCHW.shape
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step)
        noise = torch.randn(z_BTCHW.shape, generator=generator)
        share = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
        timesteps = (share * len(self.alphas)).long()
        signal = self.alphas[timesteps].view(-1, 1, 1, 1, 1)
        noisy = signal.sqrt() * z_BTCHW + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * z_BTCHW
        rotary = self.pipeline._prepare_rotary_positional_embeddings(
            height * 8, width * 8, length, torch.device("cpu")
        )
        predicted = self.model["transformer"](
            noisy, embeds, timesteps, image_rotary_emb=rotary, return_dict=False
        )[0]
        loss: Tensor = (predicted.float() - velocity).square().mean()
        return loss

    def save(self, path: Path) -> None:
        """Everything that the next step depends on."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"model": self.model.state_dict(), "average": self.average.shadow, "step": self.step}
        save_checkpoint(path, {**state, "optimizers": optimizers})

    def resume(self, path: Path) -> None:
        """Go on from path, if it is there."""
        if state := load_checkpoint(path):
            self.model.load_state_dict(state["model"])
            self.average, self.step = Average(state["average"]), state["step"]
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)

    def wear_average(self) -> dict[str, Tensor]:
        """Put the averaged weights into the pipeline; returns the replaced ones."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.shadow)
        return own


def train_transformer(
    pipeline: CogVideoXPipeline, latents: Latents, plan: TransformerPlan, work: Path
) -> None:
    """Train in place up to plan.steps, resuming from work/transformer.ckpt; ends with averaged weights."""
    learner = Learner(pipeline, plan)
    learner.resume(work / "transformer.ckpt")
    since, losses = time.monotonic(), []
    while learner.step < plan.steps:
        losses.append(learner.train_step(latents))
        if learner.step % 20 == 0:
            spent = round(time.monotonic() - since, 1)
            mean = round(float(np.mean(losses)), 4)
            append_line(work / "transformer.jsonl", {"step": learner.step, "seconds": spent, "loss": mean})
            losses = []
        if learner.step % plan.every == 0 or learner.step == plan.steps:
            learner.save(work / "transformer.ckpt")
            own = learner.wear_average()
            sample_grid(pipeline, work / f"transformer_{learner.step:05d}.png")
            learner.model.load_state_dict(own)
    learner.wear_average()


def sample_grid(
    pipeline: CogVideoXPipeline, path: Path, *, n_frames: int = 17, steps: int = 12, scale: float = 4.0
) -> None:
    """One row of frames for each of SAMPLE_PROMPTS, by the stock pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    clips = pipeline(
        prompt=list(SAMPLE_PROMPTS), height=64, width=96, num_frames=n_frames, num_inference_steps=steps,
        guidance_scale=scale, max_sequence_length=MAX_TOKENS, output_type="pt",
        generator=torch.Generator().manual_seed(1),
    ).frames  # fmt: skip
    picks = [round(share * (n_frames - 1)) for share in (0, 0.33, 0.67, 1)]
    rows = [frames_of(clip.permute(1, 0, 2, 3) * 2 - 1, picks) for clip in clips]
    half = len(rows) // 2
    pairs = [np.concatenate(pair, axis=1) for pair in zip(rows[:half], rows[half:], strict=True)]
    save_grid(path, pairs)


def _start_quiet(transformer: nn.Module) -> None:
    """Start every block as the identity and the output at zero: the first steps then learn the mean."""
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(".linear") or name == "proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
