"""Pixels decoded in tiles of space, each as a stream of its own: less memory, with the bits of stock's tiles.

Dims: B batch, C channels, T latent frames, t pixel frames, H and W rows and columns.
An autoencoder of diffusers that tiles decodes each tile through all of time and blends the tiles then. Here
the tiles' streams go side by side, a chunk of each at a time, so that a shot's length costs no memory. Pixels
are near those of the untiled decode and not equal: norms see one tile, and where tiles meet they are blended.
Decides: which tiles there are, and how their chunks become one. Does not decide: how a tile is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Stream = Callable[[Tensor], Iterator[Tensor]]  # latents z_BCTHW of a tile to its chunks (B, 3, t, H, W)


@dataclass(frozen=True)
class Grid:
    """Rows and columns of an autoencoder's tiles: latents of one, latents from one to the next, and pixels of
    it that are blended with the one before, and that are shown."""

    size: tuple[int, int]
    step: tuple[int, int]
    blended: tuple[int, int]
    shown: tuple[int, int]

    def starts(self, sides: tuple[int, int]) -> tuple[range, range]:
        """The first row and column of every tile, for latents of H x W."""
        rows, columns = (range(0, side, step) for side, step in zip(sides, self.step, strict=True))
        return rows, columns


def grid_of(vae: Any) -> Grid:
    """The grid that an autoencoder of diffusers tiles by, which says it in one of two ways."""
    if hasattr(vae, "tile_sample_stride_height"):
        least = (vae.tile_sample_min_height, vae.tile_sample_min_width)
        shown = (vae.tile_sample_stride_height, vae.tile_sample_stride_width)
        size, step = (_in_latents(vae, sides) for sides in (least, shown))
        return Grid(size, step, (least[0] - shown[0], least[1] - shown[1]), shown)
    factors = vae.tile_overlap_factor_height, vae.tile_overlap_factor_width
    size = (vae.tile_latent_min_height, vae.tile_latent_min_width)
    least = (vae.tile_sample_min_height, vae.tile_sample_min_width)
    step = int(size[0] * (1 - factors[0])), int(size[1] * (1 - factors[1]))
    blended = int(least[0] * factors[0]), int(least[1] * factors[1])
    return Grid(size, step, blended, (least[0] - blended[0], least[1] - blended[1]))


def _in_latents(vae: Any, sides: tuple[int, int]) -> tuple[int, int]:
    return sides[0] // vae.spatial_compression_ratio, sides[1] // vae.spatial_compression_ratio


def in_tiles(vae: Any, stream: Stream, z_BCTHW: Tensor) -> Iterator[Tensor]:
    """The chunks of a whole picture: of `stream` itself, unless the autoencoder tiles and needs several."""
    grid, sides = grid_of(vae) if vae.use_tiling else None, (z_BCTHW.shape[3], z_BCTHW.shape[4])
    if grid is None or (sides[0] <= grid.size[0] and sides[1] <= grid.size[1]):
        yield from stream(z_BCTHW)
        return
    rows, columns = grid.starts(sides)
    high, wide = grid.size
    streams = [stream(z_BCTHW[..., i : i + high, j : j + wide]) for i in rows for j in columns]
    for chunks in zip(*streams, strict=True):
        in_rows = [list(chunks[n : n + len(columns)]) for n in range(0, len(chunks), len(columns))]
        yield _joined(vae, grid, in_rows)


def _joined(vae: Any, grid: Grid, tiles: list[list[Tensor]]) -> Tensor:
    """One chunk of all tiles, each blended into those above and left of it, in stock's order."""
    rows = []
    for i, row in enumerate(tiles):
        shown = []
        for j, tile in enumerate(row):
            if i > 0:
                tile = vae.blend_v(tiles[i - 1][j], tile, grid.blended[0])
            if j > 0:
                tile = vae.blend_h(row[j - 1], tile, grid.blended[1])
            shown.append(tile[..., : grid.shown[0], : grid.shown[1]])
        rows.append(torch.cat(shown, dim=-1))
    return torch.cat(rows, dim=-2)
