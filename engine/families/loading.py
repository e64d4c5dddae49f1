"""A model folder's family, found by what its JSON says: its parts, and canvases for its shots."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from engine.canvas import Canvas
from engine.families.facts import family_name
from engine.families.family import Family
from engine.families.known import FAMILIES
from engine.families.reading import read_object
from engine.levels import step_below
from engine.noise import INITIAL, StepNoise, keyed_noise

_TEXT = ("tokenizer", "text_encoder")
_IMAGE = ("image_encoder", "image_processor", "feature_extractor")
# What each stage leaves on disk: a text encoder may be larger than all the rest.
# With a part goes its second, such as text_encoder_2 (Family.load).
LEFT_OUT = {
    "text": ("transformer", "vae", *_IMAGE),
    "transformer": (*_TEXT, "vae", *_IMAGE),
    "vae": (*_TEXT, "transformer", *_IMAGE),
    "given": (*_TEXT, "transformer"),  # what encodes pictures and clips
}


def family_of(folder: Path) -> type[Family]:
    """The class that reads this folder. Raises ValueError for a folder of no known family."""
    module, _, name = FAMILIES[family_name(folder)].loader.partition(":")
    family: type[Family] = getattr(import_module(module), name)
    return family


def check_scheduler(folder: Path) -> None:
    """Raise ValueError where a folder's scheduler is missing, broken, or of a kind its family has not."""
    where = folder / "scheduler" / "scheduler_config.json"
    if not where.is_file():
        raise ValueError(f"{where} is missing: copy the whole folder")
    kind = read_object(where).get("_class_name")
    known = [each.__name__ for each in family_of(folder).schedulers.values()]
    if kind not in known:
        raise ValueError(
            f"{where}: {kind} is none of {', '.join(known)}: is this a folder of another family?"
        )
    try:
        family_of(folder).load_scheduler(folder, 8, window_shape=(1, 1, 32, 32))
    except Exception as error:  # as a value is odd, diffusers raises whatever that leads to
        why = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{where}: no steps can be made of it ({why}): copy the model's folder again"
        ) from error


def load_part(folder: Path, part: str, dtype: str, device: str = "cpu") -> Family:
    """A family object that holds one of the parts in LEFT_OUT, in torch's dtype of that name.

    Raises ValueError for a folder of no known family, a part or a dtype that does not exist.
    """
    if part not in LEFT_OUT:
        raise ValueError(f"no part {part!r}: there are {', '.join(LEFT_OUT)}")
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{dtype!r} is no dtype of torch; use float32 or bfloat16")
    diffusers_logging.disable_progress_bar()  # bars of a tenth of a second, in every worker's log
    transformers_logging.disable_progress_bar()
    return family_of(folder).load(folder, dtype=kind, device=device, leave_out=LEFT_OUT[part])


def give_memory_back() -> None:
    """Hand memory of weights that were let go back: torch keeps a GPU's, others may wait for it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def new_canvas(
    folder: Path,
    *,
    seed: int,
    shot: str,
    n_frames: int,
    frame_shape: Sequence[int],
    dtype: str,
    n_steps: int,
    kind: str | None = None,
    window: int = 0,
    layout: str = "keyed",
    frames: Sequence[int] = (),
    noise_of: Sequence[int] = (),
    steps_before: int = 0,
    drawn: int = INITIAL,
) -> Canvas:
    """A canvas of noise z_BTCHW for pictures of frame_shape (C, H, W), with the folder's scheduler.

    It is on the CPU, (1, n_frames, *frame_shape) but for what a model draws beside pictures
    (Family.canvas_shape). dtype is the name of one of torch's, that of the weights; window the latent frames
    of one window, 0 for a shot that is one, for families whose steps depend on it. layout says how noise lies
    on the canvas: "keyed" by (seed, shot, step, latent frame), in the initial noise and in that of a
    stochastic scheduler's steps; or "stock", drawn as the family's pipeline draws it from a generator of
    `seed`, to be equal to it.

    In the keyed layout the canvas may stand for some `frames` of the shot instead of its first, begin from
    the noise of the frames `noise_of` instead of their own, `drawn` for another use (engine.noise), and have
    steps of the shot before it.
    """
    family = family_of(folder)
    window_shape = (min(n_frames, window or n_frames), *frame_shape)
    scheduler = family.load_scheduler(folder, n_steps, kind, window_shape)
    kept = torch.float32 if family.latents_in_float32 else getattr(torch, dtype)
    sigma = getattr(scheduler, "init_noise_sigma", 1.0)
    telling = replace(family.telling(folder), dtype=getattr(torch, dtype))
    if layout not in ("keyed", "stock"):
        raise ValueError(f"no layout {layout!r} of noise: there are keyed and stock")
    if layout == "keyed":
        own, shape = frames or range(n_frames), family.canvas_shape(frame_shape)
        z_BTCHW = keyed_noise(seed, shot, drawn, noise_of or own, shape, kept)
        return Canvas(z_BTCHW * sigma, scheduler, StepNoise(seed, shot, own, steps_before), telling)
    z_BTCHW, generator = family.stock_canvas(seed, n_frames, frame_shape, kept)
    return Canvas(z_BTCHW * sigma, scheduler, generator, telling)


def first_step_below(
    folder: Path, n_steps: int, kind: str | None, window_shape: Sequence[int], noise: float
) -> int:
    """The first step of a folder's scheduler at which at most this share is noise, for windows (T, C, H, W).

    See engine.levels.step_below.
    """
    return step_below(family_of(folder).load_scheduler(folder, n_steps, kind, window_shape), noise)
