"""How a shot is stitched: its profile's window, and what its model was taught, as a layout and a mode.

Decides what of a profile's `window` a shot comes to, which shots can be blended only, and which can end with
a picture. Does not decide what a mode is or which one suits (`engine.phases`), nor how noisy a step is
(`engine.levels`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.shots import ShotTask
from engine.phases import Stitch, choose_mode, overlap_for_gangs
from engine.takes import CLIP, FIRST, LAST, SOURCE
from engine.timeline import first_pixel, latent_frames
from engine.windows import Layout

if TYPE_CHECKING:
    from jobs.stock import Stock

DRAFTED = ("skeleton", "extend")  # modes that not every shot can have


def stitching(shot: ShotTask, one: Stock, redrawn_from: int = 0) -> tuple[Layout, Stitch]:
    """The windows of a shot, whose layout is still its profile's, and how they become one.

    One window has no mode. A clip that is given to be redrawn is, from the step `redrawn_from`.
    """
    window, layout = one.profile.window, shot.layout
    n_windows = len(layout.windows(shot.n_canvas))
    roles = {asset.role for task in shot.given for asset in task.assets}
    mode, why = _mode(n_windows, one, blends_only(one, roles))
    if mode == "extend":
        overlap = min(window.overlap, one.given_latents, layout.size - 1)
        return replace(layout, overlap=overlap, lead_in=0), Stitch(mode, why=why)
    layout = replace(layout, overlap=overlap_for_gangs(layout, shot.n_canvas, window.gangs))
    if mode == "skeleton":
        return layout, Stitch(mode, first_step=_first_step(shot, one), why=why)
    shared = n_windows > 1 and len(shot.shot.prompts) == 1
    return layout, Stitch(mode, window.noise if shared else "keyed", redrawn_from, why)


def blends_only(one: Stock, roles: Collection[str]) -> str:
    """Why a shot that is given files for these roles can be blended only; "" where it need not be."""
    if one.facts.patch_frames > 1:
        return "its model's patches are of several latent frames, which are only blended"
    if one.facts.period:
        return "its model's latent frames are uneven in time, which are only blended"
    if SOURCE in roles:
        return "a clip that is redrawn is the draft itself"
    if roles and (one.takes.together or one.takes.must):
        return "its model sees what is given beside the latents, which are only blended"
    return ""


def refusal(one: Stock, roles: Collection[str], n_frames: int) -> str:
    """Why a shot of so many frames cannot be stitched as its profile says; "" where it can."""
    n_latent = latent_frames(n_frames, one.facts.temporal_compression, one.facts.period)
    drafted = one.profile.window.mode in DRAFTED and n_latent > one.window_frames
    return blends_only(one, roles) if drafted else ""


def unending(one: Stock, roles: Collection[str], n_frames: int) -> str:
    """Why a shot of so many frames, given files for these roles, cannot end with a picture; "" where it can.

    Models know a picture at a window's end alone. A clip that is extended counts as the most of it that they
    see. What is encoded at the length of the shot has its own bound, that of Takes.one_window.
    """
    if LAST not in roles or one.takes.together:
        return ""
    c, before = one.facts.temporal_compression, one.given_latents if CLIP in roles else int(FIRST in roles)
    hidden = c * (before - 1) + 1 if CLIP in roles else 0
    size, least = one.window_frames, c * before + 2 - hidden
    if latent_frames(hidden + n_frames, c) > size:
        most = first_pixel(size - (size % 2 == 0), c) - hidden
        return f"a shot that ends with a picture is one window, here of at most {most} frames"
    if n_frames < least:
        return f"between what it is given nothing is left to draw below {least} frames"
    return ""


def _mode(n_windows: int, one: Stock, only: str) -> tuple[str, str]:
    """The mode of a shot of so many windows, and why."""
    mode, why = choose_mode(n_windows, one.given_latents, only)
    if n_windows > 1 and one.profile.window.mode != "auto":
        mode, why = one.profile.window.mode, "as window.mode says"
    if mode == "skeleton" and one.profile.sampling.n_steps == 1:
        return "blend", "a single step leaves none for windows after a draft"
    return mode, why


def _first_step(shot: ShotTask, one: Stock) -> int:
    """The step at which windows take over from a draft."""
    facts, sampling = one.facts, shot.sampling
    scale = facts.spatial_compression
    shape = (shot.layout.size, facts.latent_channels, shot.height_px // scale, shot.width_px // scale)
    sigma = one.profile.window.sigma
    return _step_below(one.folder, sampling.n_steps, sampling.scheduler, shape, sigma)


@lru_cache(maxsize=256)
def _step_below(folder: Path, n_steps: int, scheduler: str, shape: tuple[int, ...], sigma: float) -> int:
    if not folder.is_dir():  # a published checkpoint, in a plan without it: as if noise fell evenly
        return max(1, round((1 - sigma) * n_steps))
    from engine.families.loading import first_step_below  # torch, which no other mode of planning waits for

    return first_step_below(folder, n_steps, scheduler or None, shape, sigma)
