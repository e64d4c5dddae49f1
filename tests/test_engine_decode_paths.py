"""README's table of decode paths: streams against diffusers' whole decodes, and what longer shots cost.

Bytes are held against the whole decode of the same latents by the same autoencoder, tiny and random. Memory
is what the tensors of a decode hold at once, the shot's latents among them, but neither weights nor pictures
that were handed out. Shots are long enough to have every kind of chunk, and for kept pixels to show.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.modular_pipelines.minimax_h3.decoders import MiniMaxH3VideoDecodeStep
from diffusers.video_processor import VideoProcessor

from engine.families.cogvideox import CogVideoX
from engine.families.h3_sound import add_sound, n_sound
from engine.families.hunyuan import HunyuanVideo
from engine.families.hunyuan15 import HunyuanVideo15
from engine.families.ltx import DECODE_SEED, DECODE_TIMESTEP, LTX
from engine.families.minimax_h3 import MiniMaxH3
from engine.families.mochi import Mochi
from engine.families.opensora import OpenSora
from engine.families.skyreels import SkyReels
from engine.families.svd import CHUNK, StableVideoDiffusion
from engine.families.wan import Wan
from tests import tiny_h3, tiny_svd, tiny_vaes
from tests.readme_table import told
from tests.weigh import Weigh

FLAT = 1.15  # of memory, at four times the length


@dataclass(frozen=True)
class Path:
    """How families decode: each with its autoencoder, and the whole decode of it and z_BCTHW by diffusers."""

    streams: str
    n_latent: int
    whole: Callable[[Any, Any], Any]
    ways: tuple[tuple[type, Callable[[], Any]], ...]
    most_off: int = 0  # bytes: 1 of streams that are the whole decode but for rounding
    sides: tuple[int, int] = (2, 3)


def scaled(family, z):
    return family.pipeline.vae.decode(z / family.pipeline.vae.config.scaling_factor).sample


def whitened(family, z):
    config = family.pipeline.vae.config
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (config.latents_mean, config.latents_std))
    return family.pipeline.vae.decode(z / (1.0 / std) + mean).sample


def denormalised(family, z):
    """By LTX and Mochi, whose own tests hold this scale, and LTX's noise, against stock's."""
    vae = family.pipeline.vae
    timestep = [torch.tensor([DECODE_TIMESTEP]).to(z)] if vae.config.get("timestep_conditioning") else []
    torch.manual_seed(DECODE_SEED)
    return vae.decode(family._denormalised(z), *timestep).sample


def by_h3_step(family, z):
    stock = MiniMaxH3VideoDecodeStep().init_pipeline()
    stock.update_components(vae=family.pipeline.vae)
    return stock(latents=z, output_type="np", output="videos")


def by_cogvideox(family, z):
    return family.pipeline.decode_latents(z.transpose(1, 2))


def by_svd(family, z):
    return family.pipeline.decode_latents(z.transpose(1, 2), z.shape[2], CHUNK)


WAN, HUNYUAN = tiny_vaes.make_wan, partial(tiny_vaes.make_hunyuan, 4)
# Keys and values grow with a shot: widths in the published proportions, so that they do as fast as those.
HUNYUAN15 = partial(tiny_vaes.make_hunyuan15, 4, (2, 4, 8, 16, 16))
LTX_VAES = [partial(tiny_vaes.make_ltx, 8, denoises) for denoises in (False, True)]
PATHS = {
    "CogVideoX 1.0, 1.5": Path(
        "two latent frames at a time, with their past", 17, by_cogvideox,
        ((CogVideoX, tiny_vaes.make_cogvideox),),
    ),
    "Wan, SkyReels-V2": Path(
        "latent frame by latent frame, with its past", 3, whitened, ((Wan, WAN), (SkyReels, WAN)), most_off=1
    ),
    "Wan 2.2 TI2V": Path(
        "as Wan, then patches to pixels", 3, whitened, ((Wan, partial(WAN, 2)),), most_off=1
    ),
    "HunyuanVideo, Open-Sora 2": Path(
        "overlapping tiles in time, blended as in stock", 9, scaled,
        ((HunyuanVideo, HUNYUAN), (OpenSora, HUNYUAN)),
    ),
    "HunyuanVideo 1.5": Path(
        "latent frame by latent frame, attending to all before it", 31, scaled,
        ((HunyuanVideo15, HUNYUAN15),), most_off=1,
    ),
    "LTX-Video": Path(
        "runs with all that their pixels depend on", 49, denormalised,
        tuple((LTX, vae) for vae in LTX_VAES), most_off=1,
    ),
    "Mochi": Path(
        "two latent frames at a time, with their past", 17, denormalised, ((Mochi, tiny_vaes.make_mochi),),
        most_off=1,
    ),
    "Stable Video Diffusion": Path(
        "chunks of 14 frames, as in stock", 112, by_svd, ((StableVideoDiffusion, tiny_svd.make_vae),)
    ),
    "MiniMax-H3": Path(
        "clips of five latent frames, faded into each other", 16, by_h3_step,
        ((MiniMaxH3, tiny_h3.make_vae),), sides=(8, 12),
    ),
}  # fmt: skip


def alone(family, vae):
    """A family that holds nothing but its autoencoder."""
    if family.pipeline_class is SimpleNamespace:
        return family(SimpleNamespace(vae=vae, device="cpu"))
    asked = list(inspect.signature(family.pipeline_class.__init__).parameters.values())[1:]
    parts = {each.name: None for each in asked if each.default is inspect.Parameter.empty}
    return family(family.pipeline_class(**parts | {"vae": vae}))


def shot_of(family, n_latent, sides):
    """Latents z_BTCHW, and as a canvas leaves them."""
    config = family.pipeline.vae.config
    shape = (1, n_latent, config.get("z_dim") or config["latent_channels"], *sides)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    sound = isinstance(family, MiniMaxH3)
    return z, add_sound(z, torch.zeros(1, 2 * n_sound(n_latent), 32)) if sound else z


def stream(family, shot, want):
    """The most bytes held at once, and the largest difference from the frames wanted."""
    off = 0
    with Weigh() as weigh:
        for frame, wanted in zip(family.frames(shot), want, strict=True):
            off = max(off, int(np.abs(frame.astype(int) - wanted).max()))
    return weigh.peak, off


def decode_twice(path, family):
    """The largest difference of bytes, and how much more memory four times the length takes."""
    peaks, offs = [], []
    for n_latent in (path.n_latent, 4 * path.n_latent - 3):  # those of four times as many pixel frames
        z_BTCHW, shot = shot_of(family, n_latent, path.sides)
        with torch.no_grad():
            whole = path.whole(family, z_BTCHW.transpose(1, 2))
        if path.whole is not by_h3_step:  # which ends with pictures
            whole = VideoProcessor().postprocess_video(whole, "np")
        want = (whole[0] * 255).round()
        assert want.std() > 1
        peak, off = stream(family, shot, want)
        peaks.append(peak)
        offs.append(off)
    return max(offs), peaks[1] / peaks[0]


@cache
def measured(name):
    """The largest of all families that decode so."""
    torch.manual_seed(0)
    found = [decode_twice(PATHS[name], alone(family, make_vae())) for family, make_vae in PATHS[name].ways]
    return tuple(map(max, zip(*found, strict=True)))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models are so small that more threads take more time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", PATHS)
def test_a_stream_has_the_bytes_of_the_whole_decode_in_memory_that_does_not_grow(name):
    off, growth = measured(name)
    assert off <= PATHS[name].most_off
    assert growth <= FLAT


def test_readme_has_the_table_of_these_measurements():
    """LONGTAKE_CONTRACT=1 writes it anew. Where sums are rounded, a byte may be off on one machine only."""
    columns = ["family", "how it streams", "bytes off", "memory at 4 × the length"]
    rows = [columns, ["---", "---", "---:", "---:"]]
    for name, path in PATHS.items():
        off, growth = measured(name)
        rows.append([name, path.streams, str(off), f"{growth:.1f}"])
    found = told(rows)
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in rows]
    assert all(int(row[2]) <= PATHS[row[0]].most_off for row in found[2:])
