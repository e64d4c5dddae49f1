"""An entry of the table of families: what it says, and how a folder is read by it. No torch.

Decides: which keys of a configuration a number is read from, and what is said where one is absent. Does not
decide: what any family's entry is (known).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.camera import ENGLISH, Idiom
from engine.families.card import Card
from engine.families.reading import Config, fact
from engine.takes import NOTHING, Takes

Parts = Mapping[str, Config]  # a folder's configurations, by part; its index of them as "pipeline"
# A number itself; "part.key" of a configuration, of a list its last; or what a function makes of them.
Read = int | str | Callable[[Parts], int]


@dataclass(frozen=True)
class Holds:
    """Numbers that an autoencoder holds at the most for each pixel of a frame, beside its weights.

    That is `numbers`, and `a_frame` more for each of a shot's frames, of the first `most` alone where that is
    not 0. Frames are latent ones of a decode, and pixel ones of an encode.
    """

    numbers: float = 0.0
    a_frame: float = 0.0
    most: int = 0

    def of(self, n_frames: int) -> float:
        """Numbers a pixel for so many frames."""
        return self.numbers + self.a_frame * min(n_frames, self.most or n_frames)

    def times(self, share: float) -> Holds:
        """As much of everything, as of a narrower decoder."""
        return Holds(self.numbers * share, self.a_frame * share, self.most)


@dataclass(frozen=True)
class Making:
    """Operations of an autoencoder that decodes a pixel of one frame, and the tiles that it may do so in.

    Tiles of space are (rows, columns) of pixels, each a `step` from the one before; (0, 0) where there are
    none. What overlaps is decoded twice.
    """

    operations: float = 0.0
    tile: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (0, 0)

    def of(self, size_px: tuple[int, int], tiled: bool = False) -> float:
        """Operations for one frame of (width, height) pixels, whole or in tiles."""
        width, height = size_px
        if not tiled or not self.tile[0] or (height <= self.tile[0] and width <= self.tile[1]):
            return self.operations * height * width
        along = zip((height, width), self.tile, self.step, strict=True)
        covered = (sum(min(tile, side - at) for at in range(0, side, step)) for side, tile, step in along)
        return self.operations * math.prod(covered)


@dataclass(frozen=True)
class Known:
    """A family: the class that loads it, as module:name, and where its folders say what planning must know.

    Units as in ModelFacts. `denoiser` is the part that predicts; `kinds` are the classes of that and of the
    autoencoder, as a folder's own configurations name them.
    """

    loader: str
    kinds: tuple[str, str]
    schedulers: tuple[str, ...]  # that a profile can ask for
    window_frames: Read
    max_text_tokens: Read
    denoiser: str = "transformer"
    latent_channels: Read = "transformer.in_channels"
    spatial_compression: Read = "vae.spatial_compression_ratio"
    temporal_compression: Read = "vae.temporal_compression_ratio"
    patch: Read = "transformer.patch_size"
    heads: Read = "transformer.num_attention_heads"
    shared: bool = True  # whether a gang can share one window's sequence, by ring and ulysses
    tiles: bool = False  # whether pixels in tiles of space take less memory, as its class says
    period: Read = 0
    window_unit: Read = 1
    patch_frames: Read = 1
    longest_window: Read = 0  # 0 where it is window_frames
    experts: Read = 1  # each of which predicts at noise levels of its own
    given_latents: Read = 0  # that every checkpoint was taught to go on from, at most
    decoding: Callable[[Parts], Holds] = lambda parts: Holds()  # 0 where nobody counted
    encoding: Callable[[Parts], Holds] = lambda parts: Holds()  # of given frames; 0 where nobody counted
    making: Callable[[Parts], Making] = lambda parts: Making()  # of pixels; 0 where nobody counted
    guided: Read = 1  # 0 of a model that no scale of guidance changes
    refuse: Callable[[Parts], None] = lambda parts: None  # raises ValueError
    takes: Callable[[Parts], Takes] = lambda parts: NOTHING  # beside what its weights were taught
    more: tuple[tuple[str, str], ...] = ()  # further parts that are read, and the file of each
    dynamic_guidance: bool = False  # whether its pipeline has a cosine schedule
    adapters: bool = False  # whether LoRA adapters were proven on it
    first_block: bool = False  # whether diffusers' first-block cache was
    camera: Idiom = ENGLISH
    card: Card | Callable[[Parts], Card] = Card()  # noqa: RUF009  # frozen


def number(read: Read, parts: Parts) -> int:
    """What a folder says. Raises ValueError that names a key that is absent, zero or of another type."""
    if isinstance(read, int):
        return read
    if callable(read):
        made: int = read(parts)
        return made
    part, _, key = read.partition(".")
    value: Any = fact(parts[part], key, int | float | list)
    return int(value[-1] if isinstance(value, list) else value)


def either(read: str, older: int) -> Callable[[Parts], int]:
    """Of folders that may leave a key out, as older ones do."""
    part, _, key = read.partition(".")
    return lambda parts: number(read, parts) if key in parts[part] else older


def product(read: str) -> Callable[[Parts], int]:
    """Of a list of factors, one a level."""
    part, _, key = read.partition(".")
    return lambda parts: math.prod(fact(parts[part], key, list))


def halvings(parts: Parts) -> int:
    """An autoencoder that halves the sides between its levels."""
    levels = len(fact(parts["vae"], "block_out_channels", list))
    return int(2 ** (levels - 1))
