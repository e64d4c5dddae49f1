"""Train the autoencoder on lesson clips.

Shapes: x_BCTHW pixels in [-1, 1], z_BCTHW latents. Decides the loss, the course of clip lengths and the scale
of the latents. Does not decide what the transformer does with them.

The course: single frames first, for forms and colours; then clips of one chunk (9 frames), whole ones and
then many small cuts, whose gradients are quieter; at last clips of two chunks (17), since from the second
chunk on the causal convolutions see the chunk before. Always two clips or more, since PyTorch convolves a
single one by a path four times slower on CPUs.

The decoder may go on alone, on clips of two chunks: latents that were made with its encoder stay good.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from engine.chalk.clips import Clips, append_line, clips_at, pixel_batch, to_float
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

_ADAM_ONLY = ("conv_in.", "conv_out.")  # the ends, whose rows are colours and latent channels


@dataclass(frozen=True)
class VaePlan(Plan):
    """How the autoencoder is trained."""

    rate: float = 2e-3
    warm_up: int = 400  # steps; after 50, two kinds of CPU were 10 % apart by step 49
    kl_weight: float = 2e-4
    edge_weight: float = 0.5
    every: int = 250  # steps between checkpoints and sample grids
    decoder_only: bool = False  # the encoder is done

    @property
    def name(self) -> str:
        """Of the run's checkpoint, log and grids."""
        return "decoder" if self.decoder_only else "vae"


def train_vae(vae: AutoencoderKLCogVideoX, clips: Clips, held_out: Clips, plan: VaePlan, work: Path) -> None:
    """Train in place up to plan.last, resuming from work/<name>.ckpt; ends with the averaged weights."""
    optimizers = split_optimizers(vae.decoder if plan.decoder_only else vae, plan.rate, _ADAM_ONLY)
    checkpoint, log = work / f"{plan.name}.ckpt", work / f"{plan.name}.jsonl"
    average, start = Average.of(vae.state_dict()), 0
    if state := load_checkpoint(checkpoint):
        vae.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average, start = Average(state["average"]), state["step"]
    since = time.monotonic()
    for step in range(start, plan.last):
        losses = _step(vae, optimizers, clips, plan, step)
        average.update(vae.state_dict(), step, 0.995)
        append_line(log, {"step": step, "seconds": round(time.monotonic() - since, 1), **losses})
        if (step + 1) % plan.every == 0 or step + 1 == plan.last:
            states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"model": vae.state_dict(), "optimizers": states, "average": average.shadow}
            save_checkpoint(checkpoint, {**state, "step": step + 1})
            psnr = reconstruct(vae, average, held_out, work / f"{plan.name}_{step + 1:05d}.png")
            append_line(work / f"{plan.name}_psnr.jsonl", {"step": step + 1, "psnr_db": round(psnr, 2)})
    vae.load_state_dict(average.shadow)


def _step(
    vae: AutoencoderKLCogVideoX,
    optimizers: list[torch.optim.Optimizer],
    clips: Clips,
    plan: VaePlan,
    step: int,
) -> dict[str, float]:
    """One update; returns its losses."""
    rng = np.random.default_rng((plan.seed, step))
    batch, n_frames, half = (2, 17, False) if plan.decoder_only else _course(step / plan.steps)
    x = pixel_batch(clips, rng, batch, n_frames, clips_at(step, len(clips)), half=half)
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    with torch.set_grad_enabled(not plan.decoder_only):
        posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample(generator)).sample
    pixel, edge = (y - x).abs().mean(), _edge_loss(y, x)
    kl = _kl(posterior.mean, posterior.logvar)
    loss = pixel + plan.edge_weight * edge + plan.kl_weight * kl
    update(optimizers, loss, rate_at(step, plan.steps, plan.rate, plan.warm_up, fall=0.5))
    parts = (("loss", loss), ("l1", pixel), ("edge", edge), ("kl", kl))
    return {name: round(float(value.detach()), 5) for name, value in parts}


def _course(done: float) -> tuple[int, int, bool]:
    """Batch, frames, and whether clips are cut to half their sides, at this share of the steps."""
    if done < 0.3:
        return 4, 1, False
    if done < 0.45:
        return 2, 9, False
    return (8, 9, True) if done < 0.8 else (2, 17, False)


def _edge_loss(y_BCTHW: Tensor, x_BCTHW: Tensor) -> Tensor:
    """L1 of differences between neighbours in rows, columns and frames: keeps outlines and motion crisp."""
    error = y_BCTHW - x_BCTHW
    dims = (2, 3, 4) if error.shape[2] > 1 else (3, 4)
    return torch.stack([error.diff(dim=dim).abs().mean() for dim in dims]).sum()


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Nats for each latent value, against a unit normal."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


@torch.no_grad()
def reconstruct(vae: AutoencoderKLCogVideoX, average: Average, held_out: Clips, path: Path) -> float:
    """PSNR in dB of held-out clips with the averaged weights; draws originals above reconstructions."""
    own = {name: value.clone() for name, value in vae.state_dict().items()}
    vae.load_state_dict(average.shadow)
    psnr, pairs = fidelity(vae, held_out)
    vae.load_state_dict(own)
    rows = [[frames_of(clip, (0, 5, 12)) for clip in pair] for pair in pairs[::2]]
    save_grid(path, [np.concatenate(row, axis=1) for row in rows])
    return psnr


@torch.no_grad()
def fidelity(vae: AutoencoderKLCogVideoX, held_out: Clips) -> tuple[float, list[tuple[Tensor, Tensor]]]:
    """PSNR in dB of the first 17 frames of clips, and each clip x_CTHW beside what is decoded of it."""
    squares, pairs = [], []
    for first in range(0, len(held_out), 2):
        x = to_float(held_out[first : first + 2, :17])
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        squares.append(float((y - x).square().mean()) / 4)
        pairs += list(zip(x, y, strict=True))
    return float(-10 * np.log10(np.mean(squares))), pairs


@torch.no_grad()
def unit_scale(vae: AutoencoderKLCogVideoX, std_C: Tensor) -> None:
    """Divide every latent channel by its standard deviation, inside the weights; decoded pixels stay equal.

    A shift could not be folded in so, because the decoder's convolutions pad the latents with zeros.
    """
    n = len(std_C)
    out = vae.encoder.conv_out.conv
    out.weight[:n] /= std_C.view(-1, 1, 1, 1, 1)
    out.bias[:n] /= std_C
    out.bias[n:] -= 2 * std_C.log()
    for name, module in vae.decoder.named_modules():
        if name.endswith(("conv_y.conv", "conv_b.conv")) or name == "conv_in.conv":
            module.weight *= std_C.view(1, -1, 1, 1, 1)
