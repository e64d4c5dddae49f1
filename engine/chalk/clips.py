"""Lesson clips drawn ahead, as one uint8 array on disk that training maps into memory.

Shapes: clips are uint8 f_NTHWC; x_BCTHW is a float32 batch in [-1, 1]. Decides which seed makes which clip
and how a batch is cut from them. Does not decide what a clip shows: `engine.chalk.teacher` does.

A batch is a function of (seed, step): a resumed run sees what an undisturbed run would have seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.chalk.captions import LANGUAGES, caption, seeded_caption
from engine.chalk.scenes import Scene, held_out_scene
from engine.chalk.teacher import teach

N_FRAMES = 49
TRAIN_SEED, HELD_OUT_SEED = 1_000_000, 9_000_000  # of the first clip that is trained on, and that never is
CAPTION_SEED = 9_010_000  # of the first held-out caption
Clips = npt.NDArray[np.uint8]


def draw_clips(path: Path, n: int, first: int) -> Clips:
    """The clips (n, 49, 64, 96, 3) of n seeds from first on; drawn once, then read from path."""

    def drawn() -> Iterator[Clips]:
        return (teach(first + i, n_frames=N_FRAMES).frames[None] for i in range(n))

    clips: Clips = made_once(path, n, drawn)
    return clips


def made_once(path: Path, n: int, make: Callable[[], Iterator[npt.NDArray[Any]]]) -> npt.NDArray[Any]:
    """The n entries that make() yields in batches (B, ...), kept at path; made anew where fewer lie there."""
    if not path.exists() or len(np.load(path, mmap_mode="r")) < n:
        path.parent.mkdir(parents=True, exist_ok=True)
        part, at, kept = path.with_suffix(".part.npy"), 0, None
        for batch in make():
            if kept is None:
                shape = (n, *batch.shape[1:])
                kept = np.lib.format.open_memmap(part, mode="w+", dtype=batch.dtype, shape=shape)
            kept[at : at + len(batch)] = batch
            at += len(batch)
        if kept is None or at != n:
            raise ValueError(f"{path}: {at} entries were made of {n}")
        kept.flush()
        os.replace(part, path)
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped[:n]


def random_caption(
    scene: Scene, rng: np.random.Generator, chances: tuple[float, ...], *, gaps: float = 0.0
) -> str:
    """A phrasing of the scene, in a language chosen with these chances of "en", "hi" and "ta".

    With gaps, half of the captions lose that share of their words: what each word says is then learned by
    itself, which new combinations of words need.
    """
    language = LANGUAGES[int(rng.choice(len(LANGUAGES), p=chances))]
    text = caption(scene, language, rng)
    if not gaps or rng.random() < 0.5:
        return text
    return " ".join(word for word in text.split() if rng.random() >= gaps)


def held_out_captions(n: int, language: str) -> list[tuple[Scene, str]]:
    """n scenes that training never saw, each with a whole caption in this language; always the same ones."""
    seeds = range(CAPTION_SEED, CAPTION_SEED + n)
    scenes = [held_out_scene(np.random.default_rng(seed)) for seed in seeds]
    pairs = zip(scenes, seeds, strict=True)
    return [(scene, seeded_caption(scene, language, seed, whole=True)) for scene, seed in pairs]


def clips_at(step: int, n: int) -> int:
    """How many of n clips a run draws from at this step: few at first, so that its start is soon redone."""
    return min(n, 48 + 4 * step)


def pixel_batch(
    clips: Clips, rng: np.random.Generator, batch: int, n_frames: int, n_clips: int, *, half: bool = False
) -> Tensor:
    """x_BCTHW of random ones of the first n_clips clips, from random first frames.

    With half it is random cuts of half the height and width.
    """
    sides = [side // 2 if half else side for side in clips.shape[2:4]]
    chosen = rng.integers(n_clips, size=batch)
    starts = [
        rng.integers(whole - part + 1, size=batch) if whole > part else np.zeros(batch, int)
        for whole, part in zip(clips.shape[1:4], (n_frames, *sides), strict=True)
    ]
    height, width = sides
    cuts = [
        clips[clip, t : t + n_frames, y : y + height, x : x + width]
        for clip, t, y, x in zip(chosen, *starts, strict=True)
    ]
    return to_float(np.stack(cuts))


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
