"""Train the transformer on encoded lessons and on captions as the trained text encoder reads them.

Shapes: z_BTCHW latents. Decides the loss, the noise levels, the sizes and lengths of windows, and how
captions are phrased and dropped. Does not decide which lessons there are (`course`), how latents are made
(`latents`) or sampled (the pipeline).

Some windows keep their first latent frames free of noise and learn to go on from them: the same weights then
animate a given image (one latent frame) or extend a given clip. Half of these begin later than their clip.
All others begin with it, so that a caption and a place in the window decide what stands there.

What changes in time is a twentieth of the latents' energy, so its error would hardly count: it counts
`changes` times. The best prediction stays the same; it is only learned sooner.

A step is a function of (seed, step): a resumed run takes the same steps as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch._inductor.config
from diffusers import CogVideoXPipeline
from torch import Tensor, nn
from torch.backends.cpu import get_cpu_capability

from engine.chalk.clips import append_line, clips_at, random_caption
from engine.chalk.course import course
from engine.chalk.latents import Latents
from engine.chalk.model import GUIDANCE
from engine.chalk.muon import split_optimizers, update
from engine.chalk.progress import (
    Average,
    Plan,
    frames_of,
    load_checkpoint,
    rate_at,
    save_checkpoint,
    save_grid,
)
from engine.chalk.teacher import SIZES
from engine.chalk.tokens import MAX_TOKENS
from engine.chalk.train_text import embed

SAMPLE_PROMPTS = (
    "a red circle moves right",
    "a yellow triangle grows at night",
    "a blue ball bounces",
    "a green pendulum swings",
    "orange gears turn at night",
    "a blue planet orbits the sun",
    "चाँद बढ़ता है",
    "சிவப்பு இதயம் துடிக்கிறது",
    "the sun shines and water vapour rises from the sea",
    "white clouds drift right over snowy mountains",
    "rain falls from grey clouds over green hills",
    "the sun shines as a river flows through green hills",
    "the moon and stars shine at night over the sea",
    "the sun sets over the mountains",
    "a plant with a red flower grows",
    "the sun shines over snowy mountains, the camera pans right",
)

# of which PyTorch makes use where it is not told to keep to older kernels
HAS_AMX = bool(torch.cpu.get_capabilities().get("amx_bf16")) and get_cpu_capability() == "AVX512"
LatentsBySize = Mapping[tuple[int, int], Latents]

# Embeddings, time conditioning and the output keep the rate of each entry's own
_ADAM_ONLY = ("patch_embed", "time_embedding", ".linear.", "norm_", "proj_out")


@dataclass(frozen=True)
class TransformerPlan(Plan):
    """How the transformer is trained."""

    rate: float = 3e-3
    muon_size: float = 0.5  # of an update of the blocks' matrices, in units of the rate
    batch_frames: int = 160  # latent frames of a batch, whatever its windows' length
    size_chances: tuple[float, ...] = (0.76, 0.12, 0.12)  # of teacher.SIZES
    most: int = 80  # windows of a batch
    lengths: tuple[int, ...] = (1, 5, 9, 13)
    length_chances: tuple[float, ...] = (0.02, 0.08, 0.1, 0.8)
    known: float = 0.15  # chance that a window's first frames are given
    later: float = 0.5  # chance that such a window begins anywhere in its clip
    changes: float = 8.0  # weight of the error of what changes in time
    languages: tuple[float, ...] = (0.5, 0.25, 0.25)  # chances of "en", "hi", "ta"
    drop: float = 0.1  # captions left out, for classifier-free guidance
    gaps: float = 0.25  # share of words that half of the captions lose
    slowest: float = 0.998  # of the average of the weights
    every: int = 1000  # steps between checkpoints and sample grids
    half: bool = HAS_AMX  # the model's matrix products in bfloat16: half again as fast with AMX, else slower
    compiled: bool = True  # blocks, by torch.compile: half again as fast


class Learner:
    """The transformer, its optimizers and its average; knows how to take one step and to be saved."""

    def __init__(self, pipeline: CogVideoXPipeline, plan: TransformerPlan) -> None:
        self.pipeline, self.plan = pipeline, plan
        self.model: nn.Module = pipeline.transformer
        _start_quiet(self.model)
        self.optimizers = split_optimizers(self.model, plan.rate, _ADAM_ONLY, plan.muon_size)
        self.average = Average.of(self.model.state_dict())
        self.alphas = pipeline.scheduler.alphas_cumprod.float()
        self.step = 0

    def train_step(self, latents: LatentsBySize) -> float:
        """Take step number self.step; returns its loss."""
        plan, rng = self.plan, np.random.default_rng((self.plan.seed, self.step))
        size = SIZES[int(rng.choice(len(SIZES), p=plan.size_chances))]
        length = int(rng.choice(plan.lengths, p=plan.length_chances))
        stored = latents[size]
        batch = min(plan.most, plan.batch_frames // length)
        chosen = course().pick(rng, batch, among=clips_at(self.step, len(stored)))
        given = np.where(rng.random(len(chosen)) < plan.known, rng.integers(1, 4, len(chosen)), 0)
        given = np.minimum(given, length - 1)
        late = rng.integers(stored.shape[1] - length + 1, size=len(chosen))
        starts = np.where((given > 0) & (rng.random(len(chosen)) < plan.later), late, 0)
        windows = [stored[clip, start : start + length] for clip, start in zip(chosen, starts, strict=True)]
        z_BTCHW = torch.from_numpy(np.stack(windows).astype(np.float32))
        loss = self._loss(z_BTCHW, self._text(chosen, rng), torch.from_numpy(given))
        update(self.optimizers, loss, rate_at(self.step, plan.steps, plan.rate, 100, fall=0.4))
        self.average.update(self.model.state_dict(), self.step, plan.slowest)
        self.step += 1
        return float(loss.detach())

    def _text(self, lessons: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Embeddings (B, MAX_TOKENS, text dim) of one phrasing for each lesson, some left out."""
        plan = self.plan
        scenes = [course().scenes[number] for number in lessons]
        captions = [random_caption(scene, rng, plan.languages, gaps=plan.gaps) for scene in scenes]
        with torch.no_grad():
            return embed(self.pipeline, ["" if rng.random() < plan.drop else text for text in captions])

    def _loss(self, z_BTCHW: Tensor, embeds: Tensor, given_B: Tensor) -> Tensor:
        """Weighed squared error of the velocity at noise levels spread evenly over the batch.

        The first given_B frames of a window are free of noise and do not count.
        """
        plan, (batch, length) = self.plan, z_BTCHW.shape[:2]
        unknown = (torch.arange(length) >= given_B[:, None]).float().view(batch, length, 1, 1, 1)
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        predicted, velocity = velocities(
            self.model, z_BTCHW, embeds, unknown, self.alphas, generator, half=plan.half
        )
        return mean_square(predicted - velocity, unknown, plan.changes)

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


def velocities(
    model: nn.Module,
    z_BTCHW: Tensor,
    embeds: Tensor,
    unknown_BT111: Tensor,
    alphas: Tensor,
    generator: torch.Generator,
    *,
    half: bool,
) -> tuple[Tensor, Tensor]:
    """The velocity that the model predicts and the true one, at noise levels spread evenly over the batch.

    Frames that are not unknown are free of noise; `half` computes in bfloat16 where that pays.
    """
    batch = len(z_BTCHW)
    noise = torch.randn(z_BTCHW.shape, generator=generator)
    share = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
    timesteps = (share * len(alphas)).long()
    signal = alphas[timesteps].view(-1, 1, 1, 1, 1)
    noisy = signal.sqrt() * z_BTCHW + (1 - signal).sqrt() * noise
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * z_BTCHW
    seen = torch.lerp(z_BTCHW, noisy, unknown_BT111)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        predicted: Tensor = model(seen, embeds, timesteps, return_dict=False)[0]
    return predicted.float(), velocity


def mean_square(error_BTCHW: Tensor, counts_BT111: Tensor, changes: float) -> Tensor:
    """Mean square of the errors of frames that count, of which the part that differs between a window's
    frames counts `changes` times.
    """
    error = error_BTCHW * counts_BT111
    steady = error.sum(1, keepdim=True) / counts_BT111.sum(1, keepdim=True)
    change = (error - steady) * counts_BT111
    n = counts_BT111.expand_as(error).sum()
    loss: Tensor = (error.square().sum() + (changes - 1) * change.square().sum()) / n
    return loss


def compile_blocks(pipeline: CogVideoXPipeline) -> None:
    """Compile the transformer's blocks for training: once for all blocks, sizes and lengths."""
    torch._dynamo.config.recompile_limit = 64  # beyond it, blocks would run uncompiled
    if get_cpu_capability() == "AVX2":  # as asked for, or found: kernels of two kinds together give NaN
        torch._inductor.config.cpp.simdlen = 256
    for block in pipeline.transformer.transformer_blocks:
        block.compile(dynamic=True)


def train_transformer(
    pipeline: CogVideoXPipeline, latents: LatentsBySize, plan: TransformerPlan, work: Path
) -> None:
    """Train in place up to plan.last, resuming from work/transformer.ckpt; ends with averaged weights."""
    learner = Learner(pipeline, plan)
    learner.resume(work / "transformer.ckpt")
    if plan.compiled:
        compile_blocks(pipeline)
    since = time.monotonic()
    while learner.step < plan.last:
        loss = round(learner.train_step(latents), 5)
        if not math.isfinite(loss):
            raise FloatingPointError(f"step {learner.step - 1} has the loss {loss}: nothing of it is saved")
        seconds = round(time.monotonic() - since, 1)
        append_line(work / "transformer.jsonl", {"step": learner.step - 1, "seconds": seconds, "loss": loss})
        if learner.step % plan.every == 0 or learner.step == plan.last:
            learner.save(work / "transformer.ckpt")
            own = learner.wear_average()
            sample_grid(pipeline, work / f"transformer_{learner.step:05d}.png")
            learner.model.load_state_dict(own)
    learner.wear_average()


def sample_grid(
    pipeline: CogVideoXPipeline, path: Path, *, n_frames: int = 33, steps: int = 16, scale: float = GUIDANCE
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
