"""Streaming decode: the bits of the whole decode, one chunk at a time."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.video_processor import VideoProcessor

from engine import decode
from engine.blending import NotFinite
from engine.decode import frames_uint8, n_latent_frames, stream_decode
from tests.tiny_vaes import make_cogvideox


@pytest.fixture
def vae() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    return make_cogvideox()


def latents(n_frames: int, batch: int = 1) -> torch.Tensor:
    """Latents (batch, 4, n_frames, 4, 6)."""
    return torch.randn(batch, 4, n_frames, 4, 6, generator=torch.Generator().manual_seed(n_frames))


def whole(vae: Any, z: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.decode(z).sample


def streamed(vae: Any, z: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(stream_decode(vae, z)), dim=2)


def count_calls(module: torch.nn.Module) -> list[int]:
    """A list that grows by the number of latent frames at every call of module."""
    calls: list[int] = []
    module.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[2]))
    return calls


@pytest.mark.parametrize("n_frames", [1, 3, 5, 7, 9])
def test_the_stream_is_the_whole_decode_bit_for_bit(vae: Any, n_frames: int) -> None:
    z = latents(n_frames)
    pixels = streamed(vae, z)
    assert torch.equal(pixels, whole(vae, z))
    assert pixels.shape == (1, 3, 4 * (n_frames - 1) + 1, 32, 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slicing", [False, True])
def test_batches_slicing_and_half_precision_keep_the_bits(vae: Any, slicing: bool, dtype: Any) -> None:
    vae.to(dtype)
    vae.use_slicing = slicing
    z = latents(5, batch=2).to(dtype)
    assert torch.equal(streamed(vae, z), whole(vae, z))


@pytest.mark.parametrize("n_frames", [1, 3, 5, 9])
def test_the_decoder_sees_the_stock_batches(vae: Any, n_frames: int) -> None:
    calls = count_calls(vae.decoder)
    streamed(vae, latents(n_frames))
    ours = calls.copy()
    calls.clear()
    whole(vae, latents(n_frames))
    assert ours == calls


def test_other_batch_boundaries_give_other_bits(vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    z = latents(5)
    monkeypatch.setattr(decode, "_batch_bounds", lambda *_: [(0, 1), (1, 3), (3, 5)])
    other = streamed(vae, z)
    assert other.shape == whole(vae, z).shape
    assert not torch.equal(other, whole(vae, z))


def test_a_lost_cache_gives_other_bits(vae: Any) -> None:
    z = latents(5)
    fresh = [next(stream_decode(vae, z[:, :, :3])), decode._decode_batch(vae, [z[:, :, 3:]], [None])]
    assert not torch.equal(torch.cat(fresh, dim=2), whole(vae, z))


def test_chunks_come_one_at_a_time_and_are_not_kept(vae: Any) -> None:
    calls = count_calls(vae.decoder)
    stream = stream_decode(vae, latents(9))
    assert calls == []
    first = next(stream)
    assert calls == [3] and first.shape[2] == 9
    gone = weakref.ref(first)
    del first
    assert gone() is None
    assert next(stream).shape[2] == 8
    assert calls == [3, 2]


def cache_elements(cache: Any) -> int:
    """The elements of all tensors in a nested conv_cache."""
    if isinstance(cache, dict):
        return sum(cache_elements(entry) for entry in cache.values())
    return 0 if cache is None else cache.numel()


def test_the_cache_does_not_grow_and_holds_no_graph(vae: Any) -> None:
    sizes: list[int] = []
    vae.decoder.register_forward_hook(lambda _m, _a, out: sizes.append(cache_elements(out[1])))
    chunks = list(stream_decode(vae, latents(9)))
    # diffusers' 1x1 convolutions cache their whole input, so the batch of 3 leaves more than those of 2
    assert len(sizes) == 4 and sizes[0] > sizes[1] > 0 and len(set(sizes[1:])) == 1
    assert not any(chunk.requires_grad for chunk in chunks)


@pytest.mark.parametrize("n_frames", [0, 2, 4])
def test_an_even_number_of_latent_frames_is_refused_at_the_call(vae: Any, n_frames: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        stream_decode(vae, torch.zeros(1, 4, n_frames, 4, 6))


def test_why_even_is_refused(vae: Any) -> None:
    assert whole(vae, latents(4)).shape[2] == 16


def test_other_shapes_are_refused(vae: Any) -> None:
    with pytest.raises(ValueError, match="latents are"):
        stream_decode(vae, latents(3)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bytes_are_those_of_the_video_processor(dtype: Any) -> None:
    chunk = (1.2 * torch.randn(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(1))).to(dtype)
    pil = VideoProcessor(vae_scale_factor=8).postprocess_video(chunk, output_type="pil")[0]
    frames = frames_uint8(chunk)
    assert frames.shape == (5, 16, 24, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, np.stack([np.asarray(image) for image in pil]))


def test_bytes_of_several_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="one video"):
        frames_uint8(torch.zeros(2, 3, 1, 4, 4))


def test_a_chunk_with_nan_is_no_black_picture():
    chunk = torch.zeros(1, 3, 2, 4, 4)
    chunk[0, 1, 1, 2, 3] = float("nan")
    with pytest.raises(NotFinite, match="1 of 96 decoded values"):
        frames_uint8(chunk)


def test_pixel_frames_are_of_whole_latent_frames_after_the_first_or_are_refused() -> None:
    assert [n_latent_frames(n) for n in (1, 5, 49)] == [1, 2, 13]
    assert all(n_latent_frames(c * (n - 1) + 1, c) == n for n in range(1, 40) for c in (4, 8))
    for bad in (0, -3, 2, 48):
        with pytest.raises(ValueError):
            n_latent_frames(bad)
