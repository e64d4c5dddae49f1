"""Claims about what a window step sends, weighed as it goes over the wire, beside what sharing it would send.

Ray sends arguments and answers as pickles of protocol 5, arrays beside them: as many bytes as one with both.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from cluster.conductor import Conductor, Request
from cluster.cost import moved_bytes, sent_bytes
from cluster.events import Fared
from cluster.identity import Model
from cluster.rank import Rank
from cluster.sketch import load_of, shape_of, sketch_of
from cluster.stages import Encoder
from engine.parallel.axes import ALONE, Axes
from engine.tensors import Packed
from tests.test_cluster_cost import COGVIDEOX, COGVIDEOX_15, HUNYUAN_720P, OPENSORA_768, WAN_480P, WAN_720P

AROUND = 2048  # bytes of a request or an answer beside its arrays: names, keys, numbers


def weighed(thing):
    return len(pickle.dumps(thing, protocol=5))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_step_sends_its_windows_there_and_back_and_hardly_more(tiny_folder, make_film, tmp_path, batch):
    shot = make_film("a", batch=batch).master.segments[1].source
    encoder = Encoder(str(tmp_path))
    for task in shot.sources:
        encoder.run(task)
    _, *requests = Conductor(str(tmp_path), checkpoint_every=100).open(shot, 0)
    window, rank = shape_of(load_of(shot), sketch_of(tiny_folder)), Rank(str(tmp_path))
    sizes = [len(request.prompts) for request in requests if request is not None]
    assert sum(sizes) == shot.course.n_windows and max(sizes) == batch
    for request, n in zip(requests, sizes, strict=False):
        sent = weighed(request), weighed(rank.predict(request))
        assert all(0 < each - n * window.latent_bytes < AROUND for each in sent)
        assert 0 < sum(sent) - n * moved_bytes(window) < 2 * AROUND


def exchanged(window, channels_beside=0):
    """A request for a window of this size, as a conductor makes it, and what a rank answers."""
    sides = window.frames, window.height, window.width
    latents, seen = (
        Packed(np.zeros((1, sides[0], channels, *sides[1:]), np.float32))
        for channels in (window.channels, channels_beside)
    )
    key, beside = "0" * 64, seen if channels_beside else None
    timestep = Packed(np.zeros((), np.int64))
    request = Request(Model("a folder", "bfloat16", key), latents, timestep, (key,), key, 6.0, beside)
    return request, (Fared(1.0, "a GPU", ALONE), latents)


PUBLISHED = [COGVIDEOX, COGVIDEOX_15, HUNYUAN_720P, OPENSORA_768, WAN_480P]


# Wan's picture and its mask, 20 channels, go with every request.
@pytest.mark.parametrize("channels_beside", [0, 20], ids=["text", "picture beside"])
@pytest.mark.parametrize("window", PUBLISHED)
@pytest.mark.parametrize("ulysses", [2, 4, 8])
def test_giving_a_window_away_sends_500_times_less_than_sharing_it_by_ulysses(
    window, ulysses, channels_beside
):
    """Of all ranks together; test_engine_parallel counts that they send what `sent_bytes` says."""
    sent = sum(map(weighed, exchanged(window, channels_beside)))
    beside = window.latent_bytes * channels_beside // window.channels
    assert 0 < sent - moved_bytes(window) - beside < 2 * AROUND
    traded, rotated = sent_bytes(window, Axes(ulysses, ulysses=ulysses))
    assert rotated == 0
    assert window.branches * ulysses * traded >= 500 * sent


# Of a guided step, and of one branch where there is no more: what each of 8 ranks sends by ulysses and by a
# ring, in GB, and what branches of guidance exchange, in MB, by the table of research/engines.md, 2.3.
TABLE = [
    (COGVIDEOX, 4.0, 16.1, 2.3),
    (replace(COGVIDEOX_15, frames=22), 10.2, 40.7, 11.5),  # 81 pixel frames, in whole patches
    (HUNYUAN_720P, 19.2, 76.8, None),
    (WAN_480P, 11.7, 47.0, 4.2),
    (WAN_720P, 27.1, 108.4, 9.7),
]


@pytest.mark.parametrize(("window", "ulysses_gb", "ring_gb", "cfg_mb"), TABLE)
def test_what_is_sent_by_every_axis_is_that_of_the_published_formulas(window, ulysses_gb, ring_gb, cfg_mb):
    traded, _ = sent_bytes(window, Axes(8, ulysses=8))
    _, rotated = sent_bytes(window, Axes(8, ring=8))
    assert window.branches * traded / 1e9 == pytest.approx(ulysses_gb, rel=0.02)
    assert window.branches * rotated / 1e9 == pytest.approx(ring_gb, rel=0.02)
    if cfg_mb is not None:  # a latent in bfloat16; ours travel in float32
        assert window.latent_bytes / 2e6 == pytest.approx(cfg_mb, rel=0.03)
