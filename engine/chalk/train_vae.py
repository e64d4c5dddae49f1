"""Train the autoencoder on lesson clips.

Shapes: x_BCTHW pixels in [-1, 1], z_BCTHW latents. Decides the loss, the course of clip lengths and the scale
of the latents. Does not decide what the transformer does with them.

The course, in small batches, since many steps matter more than quiet ones: single frames first, for forms and
colours; then clips of one chunk (9 frames); at last clips of two chunks (17), since from the second chunk on
the causal convolutions see the chunk before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from engine.chalk.clips import Clips, append_line, pixel_batch, to_float
from engine.chalk.progress import (
    Average,
    frames_of,
    load_checkpoint,
    rate_at,
    save_checkpoint,
    save_grid,
)


@dataclass(frozen=True)
class VaePlan:
    """How the autoencoder is trained."""

    steps: int
    seed: int = 0
    rate: float = 1.5e-3
    kl_weight: float = 5e-4
    edge_weight: float = 0.5
    bf16: bool = True
    every: int = 250  # steps between checkpoints and sample grids


def train_vae(vae: AutoencoderKLCogVideoX, clips: Clips, held_out: Clips, plan: VaePlan, work: Path) -> None:
    """Train in place up to plan.steps, resuming from work/vae.ckpt; ends with the averaged weights."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    average, start = Average.of(vae), 0
    if state := load_checkpoint(work / "vae.ckpt"):
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = Average(state["average"]), state["step"]
    vae.train()
    since = time.monotonic()
    for step in range(start, plan.steps):
        losses = _step(vae, optimizer, clips, plan, step)
        average.update(vae, step, 0.995)
        if step % 20 == 0:
            spent = round(time.monotonic() - since, 1)
            append_line(work / "vae.jsonl", {"step": step, "seconds": spent, **losses})
        if (step + 1) % plan.every == 0 or step + 1 == plan.steps:
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(work / "vae.ckpt", {**state, "average": average.shadow, "step": step + 1})
            psnr = reconstruct(vae, average, held_out, work / f"vae_{step + 1:05d}.png")
            append_line(work / "vae.jsonl", {"step": step + 1, "psnr_db": round(psnr, 2)})
    vae.load_state_dict(average.shadow)
    vae.eval()


def _step(
    vae: AutoencoderKLCogVideoX, optimizer: torch.optim.Optimizer, clips: Clips, plan: VaePlan, step: int
) -> dict[str, float]:
    """One update; returns its losses."""
    rng = np.random.default_rng((plan.seed, step))
    x = pixel_batch(clips, rng, *_course(step, plan.steps))
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
        posterior = vae.encode(x).latent_dist
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        y = vae.decode(posterior.sample(generator)).sample.float()
    pixel, edge = (y - x).abs().mean(), _edge_loss(y, x)
    kl = _kl(posterior.mean.float(), posterior.logvar.float())
    loss = pixel + plan.edge_weight * edge + plan.kl_weight * kl
    optimizer.param_groups[0]["lr"] = rate_at(step, plan.steps, plan.rate, 50)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    return {
        name: round(float(value.detach()), 4) for name, value in (("l1", pixel), ("edge", edge), ("kl", kl))
    }


def _course(step: int, n_steps: int) -> tuple[int, int]:
    """Batch and frames of this step."""
    if step < 0.35 * n_steps:
        return 4, 1
    return (1, 9) if step < 0.9 * n_steps else (1, 17)


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
    squares, rows = [], []
    for clip in held_out[:6]:
        x = to_float(clip[None, :17])
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample
        squares.append(float((y.clamp(-1, 1) - x).square().mean()) / 4)
        rows.append(np.concatenate([frames_of(x[0], (0, 5, 12)), frames_of(y[0], (0, 5, 12))], axis=1))
    vae.load_state_dict(own)
    save_grid(path, rows)
    return float(-10 * np.log10(np.mean(squares)))


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
