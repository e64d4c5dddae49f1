"""Claims about keyed noise."""

import torch

from engine.noise import INITIAL, StepNoise, keyed_noise, noise_key, stock_noise

SHAPE = (4, 6, 8)


def test_any_slice_in_any_order_has_the_bits_of_the_whole():
    whole = keyed_noise(7, "s1", INITIAL, range(20), SHAPE, torch.float32)
    for frames in (range(13, 20), range(0, 13), range(5, 9)):
        part = keyed_noise(7, "s1", INITIAL, frames, SHAPE, torch.float32)
        assert torch.equal(part, whole[:, frames.start : frames.stop])


def test_seed_shot_step_and_frame_each_change_the_noise():
    keys = {noise_key(*place) for place in [(1, "a", 0, 0), (2, "a", 0, 0), (1, "b", 0, 0), (1, "a", 1, 0)]}
    keys |= {noise_key(1, "a", 0, 1), noise_key(1, "a1", 1, 0), noise_key(1, "a", 11, 0)}
    assert len(keys) == 7


def test_noise_is_standard_normal_and_frames_are_unrelated():
    z = keyed_noise(3, "s", 0, range(64), (16, 16, 16), torch.float32)[0].flatten(1)
    assert abs(z.mean().item()) < 0.01 and abs(z.std().item() - 1) < 0.01
    correlation = torch.corrcoef(z)
    assert (correlation - torch.eye(64)).abs().max() < 0.1


def test_the_stock_layout_is_one_draw_of_the_canvas():
    generator = torch.Generator().manual_seed(11)
    want = torch.randn((1, 5, *SHAPE), generator=generator)
    drawn, after = stock_noise(11, (1, 5, *SHAPE), torch.float32)
    assert torch.equal(drawn, want)
    assert torch.equal(torch.randn(3, generator=after), torch.randn(3, generator=generator))


def test_step_noise_is_keyed_by_seed_shot_step_and_frame():
    def first(noise, step, n_frames=4):
        return [torch.randn(2, generator=each) for each in noise.generators(step, n_frames)]

    drawn = first(StepNoise(1, "a"), 0)
    others = [(StepNoise(2, "a"), 0), (StepNoise(1, "b"), 0), (StepNoise(1, "a"), 1)]
    assert len({tuple(z.tolist()) for z in drawn + [z for o in others for z in first(*o)]}) == 16
    assert all(torch.equal(a, b) for a, b in zip(drawn, first(StepNoise(1, "a"), 0, 9), strict=False))
