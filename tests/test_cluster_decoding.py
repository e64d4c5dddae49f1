"""Claims about memory to decode in: numbers that add up, settings that would fit, and a decoder that asks."""

import re
from dataclasses import replace

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMochi,
    AutoencoderKLWan,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.choose import NoFit, choose, placeable
from cluster.cost import memory
from cluster.decoding import decode_gib, decode_shortage
from cluster.machine import Machine
from cluster.shortage import CODE, Place, Shortage
from cluster.sketch import load_of, refusal, shape_of, sketch_of
from cluster.stages import Decoder
from engine.decode import stream_decode
from engine.families import hunyuan15_vae, wan_vae
from engine.families.entry import number
from engine.families.hunyuan_vae import stream_tiles
from engine.families.known import FAMILIES
from engine.families.mochi_vae import stream_pixels
from engine.memory import GIB, Free
from engine.parallel.axes import ALONE
from jobs.sketch import work_of
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
    assert (short is None) == (decode_gib(held, dtype, (width, height)) <= free)
    if short is None:
        return
    needs, has, missing = map(float, NUMBERS.search(short.message).groups())
    assert short.code == CODE and missing == pytest.approx(needs - has, abs=0.11 + 0.02 * has)
    for words in short.hint.removeprefix("use ").split(" or "):
        if size := re.fullmatch(r"a picture of (\d+)x(\d+) px", words):
            assert decode_gib(held, dtype, tuple(map(int, size.groups()))) <= free
        if words.startswith("model.dtype"):
            assert dtype == "float32" and decode_gib(held, "bfloat16", (width, height)) <= free


def test_a_decoder_refuses_a_shot_before_it_begins(tiny_folder, make_film, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    decoder = Decoder(str(tmp_path / "store"))
    shot = make_film("a").master.segments[0].source
    monkeypatch.setattr("cluster.stages.read_decoding", lambda folder: 1000)
    needs = decode_gib(1000, "float32", (64, 64))
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
    sketch = replace(sketch_of(tiny_folder), decoding=10**6)
    needs = decode_gib(sketch.decoding, "float32", (64, 64))
    for gpus, free, refused in ((0, needs / 2, True), (0, needs * 2, False), (1, needs / 2, False)):
        refuse = refusal({shot.model: sketch}, ALONE, Place(Free(free, "this machine"), gpus))
        failures = refuse(film.tasks.values())
        assert bool(failures) is refused
        assert not refused or "decoding" in failures[shot.key].message


PUBLISHED = [  # autoencoders as their classes are configured, by which family, how; latents C x T x H x W
    (AutoencoderKLCogVideoX, "CogVideoXPipeline", stream_decode, (16, 5, 60, 90)),
    (AutoencoderKLWan, "WanPipeline", wan_vae.stream_frames, (16, 5, 60, 104)),
    (AutoencoderKLWan, "SkyReelsV2Pipeline", wan_vae.stream_frames, (16, 5, 60, 104)),
    (AutoencoderKLHunyuanVideo, "HunyuanVideoPipeline", stream_tiles, (16, 9, 68, 120)),
    (AutoencoderKLHunyuanVideo, "OpenSoraPipeline", stream_tiles, (16, 9, 68, 120)),
    (AutoencoderKLHunyuanVideo15, "HunyuanVideo15Pipeline", hunyuan15_vae.stream_frames, (32, 5, 30, 53)),
    (AutoencoderKLMochi, "MochiPipeline", stream_pixels, (12, 5, 60, 106)),
]


@pytest.mark.parametrize(("kind", "family", "stream", "shape"), PUBLISHED)
def test_what_a_published_decoder_holds_is_foretold_and_hardly_more(kind, family, stream, shape):
    """Its tensors are counted at full size, without their numbers."""
    with torch.device("meta"):
        vae, z_BCTHW = kind().to(torch.bfloat16).eval(), torch.empty(1, *shape, dtype=torch.bfloat16)
    with Weigh() as weigh:
        for _ in stream(vae, z_BCTHW):
            pass
    pixels = getattr(vae, "spatial_compression_ratio", 8)
    size_px = pixels * shape[3], pixels * shape[2]
    told = decode_gib(number(FAMILIES[family].decoding, {"vae": dict(vae.config)}), "bfloat16", size_px)
    assert 0.99 * weigh.peak / GIB <= told <= 1.15 * weigh.peak / GIB


def test_a_narrower_decoder_holds_less_and_where_nobody_counted_none_is_foretold():
    read = FAMILIES["HunyuanVideo15Pipeline"].decoding
    whole, half = (number(read, {"vae": {"block_out_channels": [n, 2 * n]}}) for n in (128, 64))
    assert half == pytest.approx(whole / 2, rel=1e-3)
    assert number(FAMILIES["LTXPipeline"].decoding, {"vae": {}}) == 0


def test_where_decoders_stand_beside_ranks_pixels_have_what_a_rank_leaves(tiny_folder, make_film):
    film = make_film("a")
    shot = film.master.segments[0].source
    sketch = replace(sketch_of(tiny_folder), decoding=10**6)
    needs = decode_gib(sketch.decoding, "float32", (64, 64))
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
    models = {segment.source.model: replace(sketched, decoding=held)}
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
    sketch = replace(sketch_of(tiny_folder), decoding=10**6)
    refuse = refusal({segment.source.model: sketch}, ALONE, Place(Free(1.0, "this machine")))
    (failure,) = refuse([segment.source, segment]).values()
    assert failure.hint.startswith("use model.tiles=true or ")
    assert not refuse([segment.source, replace(segment, tiles=True)])
