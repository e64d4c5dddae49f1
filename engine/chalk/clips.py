"""Lesson clips drawn ahead, as one uint8 array on disk that training maps into memory.

Shapes: clips are uint8 f_NTHWC; x_BCTHW is a float32 batch in [-1, 1]. Decides which seed makes which clip
and how a batch is cut from them. Does not decide what a clip shows: `engine.chalk.teacher` does.

A batch is a function of (seed, step): a resumed run sees what an undisturbed run would have seen.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.chalk.captions import LANGUAGES, caption
from engine.chalk.scenes import random_scene
from engine.chalk.teacher import SIZES, teach

N_FRAMES = 49
Clips = npt.NDArray[np.uint8]


def draw_clips(path: Path, n: int, first_seed: int, size: tuple[int, int] = SIZES[0]) -> Clips:
    """The clips (n, 49, H, W, 3) of n seeds from first_seed on; drawn once, then read from path."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        shape = (n, N_FRAMES, *size, 3)
        clips: Any = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        for i in range(n):
            clips[i] = teach(first_seed + i, n_frames=N_FRAMES, size=size).frames
        clips.flush()
        os.replace(part, path)
    mapped: Clips = np.load(path, mmap_mode="r")
    return mapped


def random_caption(clip_seed: int, rng: np.random.Generator, chances: tuple[float, ...]) -> str:
    """A phrasing of the clip of this seed, in a language chosen with these chances of "en", "hi" and "ta"."""
    language = LANGUAGES[int(rng.choice(len(LANGUAGES), p=chances))]
    return caption(random_scene(np.random.default_rng(clip_seed)), language, rng)


def pixel_batch(clips: Clips, rng: np.random.Generator, batch: int, n_frames: int) -> Tensor:
    """x_BCTHW of random clips from random first frames."""
    chosen = rng.integers(len(clips), size=batch)
    starts = rng.integers(clips.shape[1] - n_frames + 1, size=batch)
    f_BTHWC = np.stack([clips[i, s : s + n_frames] for i, s in zip(chosen, starts, strict=True)])
    return to_float(f_BTHWC)


def to_float(f_BTHWC: Clips) -> Tensor:
    """Bytes (B, T, H, W, C) as x_BCTHW in [-1, 1]."""
    x: Tensor = torch.from_numpy(np.array(f_BTHWC)).permute(0, 4, 1, 2, 3).float()
    return x / 127.5 - 1


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add one JSON line to a log and print it."""
    line = json.dumps(record)
    with path.open("a") as log:
        log.write(line + "\n")
    print(line, flush=True)
