"""How a shot is stitched: its profile's window, and what its model was taught, as a layout and a mode.

Decides what of a profile's `window` a shot comes to. Does not decide what a mode is or which one suits
(`engine.phases`), nor how noisy a step is (`engine.levels`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.tasks import Layout
from engine.phases import Stitch, choose_mode, overlap_for_gangs
from engine.timeline import Shot, latent_frames
from engine.windows import plan_windows

if TYPE_CHECKING:
    from jobs.plan import Stock


def stitching(shot: Shot, one: Stock, height_px: int, width_px: int) -> tuple[Layout, Stitch]:
    """The windows of a shot of the model's pixels, and how they become one; one window has no mode."""
    window, c = one.profile.window, one.facts.temporal_compression
    size, n_latent = window.size or one.facts.window_frames, latent_frames(shot.n_frames, c)
    n_windows = len(plan_windows(n_latent, size, window.overlap))
    mode, why = _mode(n_windows, one)
    if mode == "extend":
        return Layout(size, min(window.overlap, one.continues, size - 1), 0, c), Stitch(mode, why=why)
    overlap = overlap_for_gangs(n_latent, size, window.overlap, window.gangs)
    layout = Layout(size, overlap, window.lead_in, c)
    if mode == "skeleton":
        return layout, Stitch(mode, first_step=_first_step(one, size, height_px, width_px), why=why)
    shared = n_windows > 1 and len(shot.prompts) == 1
    return layout, Stitch(mode, window.noise if shared else "keyed", why=why)


def _mode(n_windows: int, one: Stock) -> tuple[str, str]:
    """The mode of a shot of so many windows, and why."""
    mode, why = choose_mode(n_windows, one.continues)
    if n_windows > 1 and one.profile.window.mode != "auto":
        mode, why = one.profile.window.mode, "as window.mode says"
    if mode == "skeleton" and one.profile.sampling.n_steps == 1:
        return "blend", "a single step leaves none for windows after a draft"
    return mode, why


def _first_step(one: Stock, size: int, height_px: int, width_px: int) -> int:
    """The step at which windows take over from a draft."""
    facts, sampling = one.facts, one.profile.sampling
    scale = facts.spatial_compression
    shape = (size, facts.latent_channels, height_px // scale, width_px // scale)
    sigma = one.profile.window.sigma
    return _step_below(one.model.folder, sampling.n_steps, sampling.scheduler, shape, sigma)


@lru_cache(maxsize=256)
def _step_below(folder: str, n_steps: int, scheduler: str, shape: tuple[int, ...], sigma: float) -> int:
    from engine.families.loading import first_step_below  # torch, which no other mode of planning waits for

    return first_step_below(Path(folder), n_steps, scheduler or None, shape, sigma)
