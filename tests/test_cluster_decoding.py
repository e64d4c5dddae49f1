"""Claims about memory to decode in: numbers that add up, settings that would fit, and a decoder that asks."""

import re
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from cluster.choose import NoFit, choose, placeable
from cluster.cost import memory
from cluster.decoding import decode_shortage, pixels_gib
from cluster.identity import Model
from cluster.machine import Machine
from cluster.shortage import CODE, Place, Shortage
from cluster.shots import GivenTask
from cluster.sketch import load_of, refusal, shape_of, sketch_of
from cluster.stages import Decoder, Encoder
from engine.decode import stream_decode
from engine.families import hunyuan15_vae, wan_vae
from engine.families.entry import Holds
from engine.families.facts import facts_of
from engine.families.hunyuan_vae import stream_tiles
from engine.families.known import FAMILIES
from engine.families.ltx import LTX
from engine.families.mochi_vae import stream_pixels
from engine.families.published import MINIMAX_H3, published
from engine.families.svd import CHUNK, StableVideoDiffusion
from engine.memory import GIB, Free
from engine.parallel.axes import ALONE
from jobs.sketch import work_of
from tests.test_engine_decode_paths import alone
from tests.weigh import Weigh

sides = st.integers(4, 120).map(lambda n: 16 * n)
dtypes = st.sampled_from(["float32", "bfloat16"])
NUMBERS = re.compile(r"needs ([\d.e-]+) GiB .* has ([\d.e-]+) GiB: ([\d.e-]+) GiB short")


@pytest.fixture(scope="session")
def sketched(tiny_folder):
    return sketch_of(tiny_folder)


@given(st.integers(1, 40_000), dtypes, sides, sides, st.floats(0.01, 90), st.integers(0, 8))
@settings(deadline=None)
def test_a_decode_is_refused_exactly_where_it_does_not_fit_and_what_is_named_would(
    held, dtype, width, height, free, gpus
):
    place = Place(Free(free, "this machine"), gpus)
    short = decode_shortage("m", held, dtype, (width, height), place)
    assert (short is None) == (pixels_gib(held, dtype, (width, height)) <= free)
    if short is None:
        return
    needs, has, missing = map(float, NUMBERS.search(short.message).groups())
    assert short.code == CODE and missing == pytest.approx(needs - has, abs=0.11 + 0.02 * has)
    for words in short.hint.removeprefix("use ").split(" or "):
        if size := re.fullmatch(r"a picture of (\d+)x(\d+) px", words):
            assert pixels_gib(held, dtype, tuple(map(int, size.groups()))) <= free
        if words.startswith("model.dtype"):
            assert dtype == "float32" and pixels_gib(held, "bfloat16", (width, height)) <= free


def test_a_decoder_refuses_a_shot_before_it_begins(tiny_folder, make_film, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    decoder = Decoder(str(tmp_path / "store"))
    shot = make_film("a").master.segments[0].source
    monkeypatch.setattr("cluster.stages.read_decoding", lambda folder: Holds(1000))
    needs = pixels_gib(1000, "float32", (64, 64))
    for free, fits in ((needs * 1.01, True), (needs * 0.99, False)):
        place = Place(Free(free, "this machine"))
        monkeypatch.setattr("cluster.stages.place_on", lambda device, place=place: place)
        if fits:
            decoder._check(shot)
            continue
        with pytest.raises(Shortage, match=r"decoding .* in float32 at 64x64 px needs"):
            decoder._check(shot)
        decoder.vae.check_memory = False
        decoder._check(shot)


def test_a_shot_that_could_not_be_decoded_fails_before_it_is_drawn(tiny_folder, make_film):
    film = make_film("a")
    shot = film.master.segments[0].source
    sketch = replace(sketch_of(tiny_folder), decoding=Holds(10**6))
    needs = pixels_gib(10**6, "float32", (64, 64))
    for gpus, free, refused in ((0, needs / 2, True), (0, needs * 2, False), (1, needs / 2, False)):
        refuse = refusal({shot.model: sketch}, ALONE, Place(Free(free, "this machine"), gpus))
        failures = refuse(film.tasks.values())
        assert bool(failures) is refused
        assert not refused or "decoding" in failures[shot.key].message


def by_ltx(vae, z_BCTHW):
    return alone(LTX, vae).chunks(z_BCTHW.transpose(1, 2))


def by_svd(vae, z_BCTHW):
    family = alone(StableVideoDiffusion, vae)
    return (family._decode(z_TCHW) for z_TCHW in torch.split(z_BCTHW[0].transpose(0, 1), CHUNK))


LTX_095 = partial(  # as published in Lightricks/LTX-Video-0.9.5
    AutoencoderKLLTXVideo, block_out_channels=(128, 256, 512, 1024, 2048), layers_per_block=(4, 6, 6, 2, 2),
    down_block_types=("LTXVideo095DownBlock3D",) * 4, spatio_temporal_scaling=(True,) * 4,
    downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    decoder_block_out_channels=(256, 512, 1024), decoder_layers_per_block=(5,) * 4,
    decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4, upsample_factor=(2,) * 3,
    upsample_residual=(True,) * 3, timestep_conditioning=True, spatial_compression_ratio=32,
    temporal_compression_ratio=8,
)  # fmt: skip
SVD_VAE = partial(
    AutoencoderKLTemporalDecoder, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
    down_block_types=("DownEncoderBlock2D",) * 4,
)  # fmt: skip
PUBLISHED = [  # autoencoders as their classes are configured, by which family, how; latents C x T x H x W
    (AutoencoderKLCogVideoX, "CogVideoXPipeline", stream_decode, (16, 5, 60, 90)),
    (AutoencoderKLWan, "WanPipeline", wan_vae.stream_frames, (16, 5, 60, 104)),
    (AutoencoderKLWan, "SkyReelsV2Pipeline", wan_vae.stream_frames, (16, 5, 60, 104)),
    (AutoencoderKLHunyuanVideo, "HunyuanVideoPipeline", stream_tiles, (16, 9, 68, 120)),
    (AutoencoderKLHunyuanVideo, "OpenSoraPipeline", stream_tiles, (16, 9, 68, 120)),
    (AutoencoderKLHunyuanVideo15, "HunyuanVideo15Pipeline", hunyuan15_vae.stream_frames, (32, 5, 30, 53)),
    (AutoencoderKLMochi, "MochiPipeline", stream_pixels, (12, 5, 60, 106)),
    (AutoencoderKLHunyuanVideo15, "HunyuanVideo15Pipeline", hunyuan15_vae.stream_frames, (32, 9, 30, 53)),
    (AutoencoderKLLTXVideo, "LTXPipeline", by_ltx, (128, 7, 15, 22)),
    (AutoencoderKLLTXVideo, "LTXPipeline", by_ltx, (128, 41, 15, 22)),
    (LTX_095, "LTXConditionPipeline", by_ltx, (128, 21, 16, 24)),
    (SVD_VAE, "StableVideoDiffusionPipeline", by_svd, (4, 25, 72, 128)),
]


def on_meta(kind):
    """An autoencoder in bfloat16 without its numbers."""
    with torch.device("meta"):
        return kind().to("meta", torch.bfloat16).eval()


@pytest.mark.parametrize(("kind", "family", "stream", "shape"), PUBLISHED)
def test_what_a_published_decoder_holds_is_foretold_and_hardly_more(kind, family, stream, shape):
    """Its tensors are counted at full size, without their numbers."""
    vae, z_BCTHW = on_meta(kind), torch.empty(1, *shape, dtype=torch.bfloat16, device="meta")
    with Weigh() as weigh:
        for _ in stream(vae, z_BCTHW):
            pass
    pixels = getattr(vae, "spatial_compression_ratio", 8)
    size_px = pixels * shape[3], pixels * shape[2]
    held = FAMILIES[family].decoding({"vae": dict(vae.config)}).of(shape[1])
    told = pixels_gib(held, "bfloat16", size_px)
    assert 0.99 * weigh.peak / GIB <= told <= 1.15 * weigh.peak / GIB


WAN_22 = partial(  # as published in Wan-AI/Wan2.2-TI2V-5B-Diffusers
    AutoencoderKLWan, base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12,
    out_channels=12, patch_size=2, scale_factor_spatial=16, latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
)  # fmt: skip
COMPUTED = [*PUBLISHED, (WAN_22, "WanPipeline", wan_vae.stream_frames, (48, 5, 44, 80))]


def computed(vae, stream, shape):
    """Operations of a decode, and its pixel frames."""
    z_BCTHW = torch.empty(1, *shape, dtype=torch.bfloat16, device="meta")
    with FlopCounterMode(display=False) as counted:
        n_frames = sum(chunk.shape[2] if chunk.ndim == 5 else len(chunk) for chunk in stream(vae, z_BCTHW))
    return counted.get_total_flops(), n_frames


@pytest.mark.parametrize(("kind", "family", "stream", "shape"), COMPUTED)
def test_what_a_published_decoder_computes_is_foretold_within_a_tenth(kind, family, stream, shape):
    vae = on_meta(kind)
    scale = vae.config.get("scale_factor_spatial") or getattr(vae, "spatial_compression_ratio", 8)
    operations, n_frames = computed(vae, stream, shape)
    told = FAMILIES[family].making({"vae": dict(vae.config)}).of((scale * shape[3], scale * shape[2]))
    assert n_frames * told == pytest.approx(operations, rel=0.1)


def test_what_overlaps_in_tiles_is_computed_twice_and_foretold():
    vae, shape = on_meta(AutoencoderKLCogVideoX), (16, 3, 60, 90)
    whole, n_frames = computed(vae, stream_decode, shape)
    vae.enable_tiling()
    tiled, _ = computed(vae, stream_decode, shape)
    made = FAMILIES["CogVideoXPipeline"].making({"vae": dict(vae.config)})
    told = made.of((720, 480), tiled=True)
    assert n_frames * told == pytest.approx(tiled, rel=0.1)
    assert told / made.of((720, 480)) == pytest.approx(tiled / whole, rel=0.01)


ENCODED = [  # as above; frames T x H x W that are given
    (AutoencoderKLCogVideoX, "CogVideoXPipeline", (17, 480, 720)),
    (AutoencoderKLCogVideoX, "CogVideoXPipeline", (49, 480, 720)),
    (AutoencoderKLWan, "WanPipeline", (17, 480, 832)),
    (AutoencoderKLWan, "WanImageToVideoPipeline", (49, 480, 832)),
    (AutoencoderKLWan, "SkyReelsV2DiffusionForcingPipeline", (17, 544, 960)),
    (AutoencoderKLHunyuanVideo, "OpenSoraPipeline", (1, 576, 1024)),
    (AutoencoderKLLTXVideo, "LTXPipeline", (1, 480, 704)),
    (LTX_095, "LTXConditionPipeline", (17, 512, 768)),
    (SVD_VAE, "StableVideoDiffusionPipeline", (1, 576, 1024)),
    (AutoencoderKLHunyuanVideo15, "HunyuanVideo15ImageToVideoPipeline", (1, 480, 848)),
]


@pytest.mark.parametrize(("kind", "family", "shape"), ENCODED)
def test_what_a_published_encoder_holds_of_given_frames_is_foretold_and_hardly_more(kind, family, shape):
    n_frames, height, width = shape
    of_clip = (1, 3) if family.startswith("Stable") else (1, 3, n_frames)
    vae = on_meta(kind)
    with torch.no_grad(), Weigh() as weigh:
        vae.encode(
            torch.empty(*of_clip, height, width, dtype=torch.bfloat16, device="meta")
        ).latent_dist.mode()
    held = FAMILIES[family].encoding({"vae": dict(vae.config)}).of(n_frames)
    told = pixels_gib(held, "bfloat16", (width, height))
    assert 0.99 * weigh.peak / GIB <= told <= 1.15 * weigh.peak / GIB


def test_every_family_but_the_one_that_always_tiles_counts_what_it_decodes_and_is_given():
    for name, known in FAMILIES.items():
        parts = next((each.parts for each in published().values() if each.family == name), None)
        if parts is None:
            continue
        takes = facts_of(name, {part: dict(config) for part, config in parts.items()}).takes
        assert bool(takes.may) <= (known.encoding(parts).of(1) > 0), name
        counted = known.decoding(parts).of(1), known.making(parts).operations
        assert (min(counted) > 0) == (max(counted) > 0) == (name != MINIMAX_H3), name


def test_a_narrower_decoder_holds_less():
    read = FAMILIES["HunyuanVideo15Pipeline"].decoding
    whole, half = (read({"vae": {"block_out_channels": [n, 2 * n]}}).of(9) for n in (128, 64))
    assert half == pytest.approx(whole / 2, rel=1e-3)


@given(st.floats(0, 1e4), st.floats(0, 1e3), st.integers(0, 40), st.integers(1, 99))
def test_what_grows_with_frames_stops_to_where_no_more_are_held_at_once(numbers, a_frame, most, n_frames):
    held = Holds(numbers, a_frame, most)
    assert held.of(n_frames) == pytest.approx(numbers + a_frame * min(n_frames, most or n_frames))
    assert held.of(n_frames) <= held.of(n_frames + 1)
    assert not most or held.of(most + n_frames) == held.of(most)


def test_what_is_given_is_refused_before_it_is_encoded(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    task = GivenTask(Model(str(tiny_folder), "float32", "tiny"), (), 9, Fraction(8), 64, 96)
    sketch = replace(sketch_of(tiny_folder), encoding=Holds(1000, 100))
    needs = pixels_gib(1900, "float32", (96, 64))
    encoder = Encoder(str(tmp_path / "store"))
    monkeypatch.setattr("cluster.stages.read_encoding", lambda folder: sketch.encoding)
    for gpus, free, fits in ((0, 1.01 * needs, True), (0, 0.99 * needs, False), (1, 0.99 * needs, None)):
        place = Place(Free(free, "this machine"), gpus)
        told = refusal({task.model: sketch}, ALONE, place)([task])
        assert bool(told) is (fits is False), "beside ranks encoders ask for themselves"
        monkeypatch.setattr("cluster.stages.place_on", lambda device, place=place: place)
        if fits:
            encoder._check(task)
            continue
        with pytest.raises(Shortage, match=r"encoding 9 given frames for .* in float32 at 96x64 px needs"):
            encoder._check(task)
    encoder.given.check_memory = False
    encoder._check(task)


def test_where_decoders_stand_beside_ranks_pixels_have_what_a_rank_leaves(tiny_folder, make_film):
    film = make_film("a")
    shot = film.master.segments[0].source
    sketch = replace(sketch_of(tiny_folder), decoding=Holds(10**6))
    needs = pixels_gib(10**6, "float32", (64, 64))
    rank = memory(shape_of(load_of(shot), sketch), ALONE).gib
    for free, refused in ((rank + 0.9 * needs, True), (rank + 1.1 * needs, False)):
        place = Place(Free(free, "the GPU H100"), 1)
        told = refusal({shot.model: sketch}, ALONE, place, beside=True)(film.tasks.values())
        assert bool(told) is refused
        assert not refused or "the GPU H100 beside a rank has" in told[shot.key].message


@given(st.floats(0.01, 2.5), st.integers(1, 10**5), st.booleans(), st.booleans())
@settings(deadline=None)
def test_an_explanation_counts_pixels_beside_a_rank_exactly_as_a_run_does(
    make_film, sketched, free, held, beside, tiled
):
    """What the run would refuse before it begins is what no gang of the explanation holds, and no more."""
    segment = make_film("a").master.segments[0]
    segment = replace(segment, tiles=tiled)
    models = {segment.source.model: replace(sketched, decoding=Holds(held))}
    gpu = Machine(1, 1, free, 100.0, 0.5, 8.0, 1.0, 1e-4)
    refused = refusal(models, ALONE, Place(Free(free, "the GPU"), 1), beside)([segment.source, segment])
    work = work_of({load_of(segment.source, tiled): 1}, models, beside)
    try:
        held_gib = choose(work, work, gpu, open_shots=1).best.memory.gib
    except NoFit as error:
        (failure,) = refused.values()
        assert str(error) == f"{failure.message}: {failure.hint}" and placeable(work, gpu) == {}
    else:
        assert not refused and held_gib <= free and placeable(work, gpu) == work


def test_a_shot_in_tiles_is_not_refused_for_its_whole_picture(tiny_folder, make_film):
    film = make_film("a")
    segment = film.master.segments[0]
    sketch = replace(sketch_of(tiny_folder), decoding=Holds(10**6))
    refuse = refusal({segment.source.model: sketch}, ALONE, Place(Free(1.0, "this machine")))
    (failure,) = refuse([segment.source, segment]).values()
    assert failure.hint.startswith("use model.tiles=true or ")
    assert not refuse([segment.source, replace(segment, tiles=True)])
