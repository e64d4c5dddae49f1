"""Streams in tiles of space against diffusers' own tiled decodes, by tiny autoencoders of every family."""

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor

from engine.families.hunyuan import HunyuanVideo
from engine.tiles import grid_of
from tests.test_engine_decode_paths import PATHS, alone, shot_of, stream

TILED = [name for name, path in PATHS.items() if path.ways[0][0].tiles]


def small_tiles(vae):
    """Tiles of 4 x 4 latents, each a latent into the next, in whichever way this autoencoder says it."""
    if hasattr(vae, "tile_sample_stride_height"):
        pixels = vae.spatial_compression_ratio
        vae.tile_sample_min_height = vae.tile_sample_min_width = 4 * pixels
        vae.tile_sample_stride_height = vae.tile_sample_stride_width = 3 * pixels
    else:
        pixels = vae.tile_sample_min_height // vae.tile_latent_min_height
        vae.tile_latent_min_height = vae.tile_latent_min_width = 4
        vae.tile_sample_min_height = vae.tile_sample_min_width = 4 * pixels
        vae.tile_overlap_factor_height = vae.tile_overlap_factor_width = 0.25
    vae.enable_tiling()
    return vae


def made(name, n_latent, sides):
    """Of each family of a path: itself, a shot, and the frames that stock makes of it."""
    for kind, make_vae in PATHS[name].ways:
        torch.manual_seed(0)
        family = alone(kind, small_tiles(make_vae()))
        z_BTCHW, shot = shot_of(family, n_latent, sides)
        with torch.no_grad():
            whole = PATHS[name].whole(family, z_BTCHW.transpose(1, 2))
        yield family, shot, (VideoProcessor().postprocess_video(whole, "np")[0] * 255).round()


@pytest.mark.parametrize("sides", [(6, 9), (4, 8), (5, 3)])
@pytest.mark.parametrize("name", TILED)
def test_a_stream_in_tiles_has_the_bytes_of_stocks_tiled_decode(name, sides):
    for family, shot, want in made(name, 5, sides):
        _, off = stream(family, shot, want)
        assert off <= PATHS[name].most_off
        family.tile_pixels(False)
        plain = np.stack(list(family.frames(shot)))
        assert np.abs(plain.astype(int) - want).max() > 0  # so that tiles it was


@pytest.mark.parametrize("name", TILED)
def test_tiles_hold_less_than_the_whole_picture(name):
    n_latent = min(PATHS[name].n_latent, 9)
    for family, shot, want in made(name, n_latent, (14, 14)):
        tiled, _ = stream(family, shot, want)
        family.tile_pixels(False)
        plain, _ = stream(family, shot, want)
        assert tiled < 0.8 * plain


def test_a_picture_no_larger_than_a_tile_has_the_bits_of_no_tiles():
    family = alone(HunyuanVideo, small_tiles(PATHS["HunyuanVideo, Open-Sora 2"].ways[0][1]()))
    _, shot = shot_of(family, 3, (4, 4))
    tiled = np.stack(list(family.frames(shot)))
    family.tile_pixels(False)
    assert np.array_equal(tiled, np.stack(list(family.frames(shot))))


@pytest.mark.parametrize("name", TILED)
def test_tiles_shown_meet_without_gap_and_are_blended_over_less_than_a_tile(name):
    family = alone(PATHS[name].ways[0][0], PATHS[name].ways[0][1]())  # as published
    if name == "LTX-Video":
        return  # tiled by diffusers' own call
    grid = grid_of(family.pipeline.vae)
    for size, step, blended, shown in zip(grid.size, grid.step, grid.blended, grid.shown, strict=True):
        assert 0 < step < size and blended > 0
        assert shown / step == (shown + blended) / size


def test_a_family_whose_tiles_would_save_nothing_says_so():
    others = [way for name, path in PATHS.items() if name not in TILED for way in path.ways]
    assert len(others) == 6
    for kind, make_vae in others:
        family = alone(kind, make_vae())
        family.tile_pixels(False)
        with pytest.raises(ValueError, match="take less memory"):
            family.tile_pixels(True)
