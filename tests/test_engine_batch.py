"""Claims about windows that share a forward: each gets what it gets alone, of every family."""

from types import SimpleNamespace

import pytest
import torch

from engine.batch import apart, predict_windows, timestep_of, together
from engine.denoise import WindowRequest
from engine.telling import Telling
from engine.timeline import Part
from engine.windows import Window
from tests.test_engine_parallel import Case, make_family, predict

CASES = {
    "CogVideoX": Case(),
    "CogVideoX, unguided": Case(scale=1.0),
    "CogVideoX, from a picture": Case(beside=4),
    "CogVideoX 1.5": Case("CogVideoX 1.5", n_frames=4),
    "Wan": Case("Wan"),
    "Wan 2.2 of two experts": Case("Wan 2.2"),
    "Wan 2.2, timesteps of tokens": Case("Wan 2.2 TI2V", width=10),
    "Wan 2.2, a picture in its place": Case("Wan 2.2 TI2V", n_given=1, width=10),
    "Wan, from a picture that CLIP sees": Case("Wan", beside=8, clip=True, n_text=512),
    "Open-Sora 2": Case("Open-Sora 2"),
    "HunyuanVideo": Case("HunyuanVideo"),
    "HunyuanVideo, told": Case("HunyuanVideo, told"),
    "HunyuanVideo 1.5": Case("HunyuanVideo 1.5", n_glyphs=3),
    "HunyuanVideo 1.5, from a picture": Case("HunyuanVideo 1.5", beside=5, clip=True),
    "LTX-Video": Case("LTX-Video"),
    "LTX-Video, from a picture": Case("LTX-Video", n_given=1),
    "LTX-Video, texts of unequal lengths": Case("LTX-Video", n_negative=2),
    "Mochi": Case("Mochi", text_width=16),
    "MiniMax-H3": Case("MiniMax-H3"),
    "SkyReels-V2": Case("SkyReels-V2"),
    "SkyReels-V2 plain": Case("SkyReels-V2 plain"),
    "SkyReels-V2, told": Case("SkyReels-V2, told"),
    "SkyReels-V2, told, after given latents": Case("SkyReels-V2, told", n_given=2),
    "SkyReels-V2, after given latents": Case("SkyReels-V2", n_given=2),
    "Stable Video Diffusion": Case("Stable Video Diffusion", scale=3.0),
}
N, IN_TURN = 3, "SkyReels-V2, told"


def asked(case):
    """What three unlike windows are predicted from: latents, timestep, texts of both kinds, scale."""
    of_all = Case(**{**vars(case), "batch": N})
    latents, timestep, *texts, scale = predict(SimpleNamespace(predict=lambda *args: args), of_all)
    prompts, negatives = ([{k: x[n : n + 1] for k, x in text.items()} for n in range(N)] for text in texts)
    if case.n_given:  # the picture is in the first window alone
        timestep[1:] = timestep[0, -1]
    return latents, timestep, prompts, negatives, scale


class Counting:
    """A family that counts what it is asked."""

    def __init__(self, family):
        self.family, self.takes_batches, self.calls = family, family.takes_batches, []

    def predict(self, latents, *args, **kwargs):
        self.calls.append(len(latents))
        return self.family.predict(latents, *args, **kwargs)


@pytest.mark.parametrize("name", CASES)
def test_a_window_of_any_family_is_predicted_among_others_as_alone(name):
    case = CASES[name]
    family, (latents, timestep, prompts, negatives, scale) = make_family(case), asked(case)
    counting = Counting(family)
    both = apart(predict_windows(counting, latents, timestep, prompts, negatives, scale), N)
    assert counting.calls == ([1] * N if name.startswith(IN_TURN) else [N])
    for n, prediction in enumerate(both):
        time = timestep[n : n + 1] if case.n_given else timestep
        alone = family.predict(latents[n : n + 1], time, prompts[n], negatives[n], scale)
        assert prediction.shape == alone.shape and alone.std() > 0.01
        torch.testing.assert_close(prediction, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompted", [False, True])
def test_texts_of_unequal_lengths_are_predicted_in_turn_and_come_in_the_same_order(prompted):
    family, (latents, timestep, prompts, negatives, scale) = make_family(Case("Wan")), asked(Case("Wan"))
    counting, more = Counting(family), {"prompted": prompted}
    whole = predict_windows(family, latents, timestep, prompts, negatives, scale, **more)
    prompts[1] = {"tokens": torch.cat([prompts[1]["tokens"]] * 2, dim=1)}
    in_turn = predict_windows(counting, latents, timestep, prompts, negatives, scale, **more)
    assert counting.calls == [1] * N and in_turn.shape == whole.shape == (
        (1 + prompted) * N,
        *latents.shape[1:],
    )
    for n, prediction in enumerate(apart(in_turn, N)):
        alone = family.predict(latents[n : n + 1], timestep, prompts[n], negatives[n], scale, **more)
        assert torch.equal(prediction, alone)
    torch.testing.assert_close(in_turn[::N], whole[::N], rtol=0, atol=1e-5)


def test_windows_of_which_some_are_given_have_a_time_of_each_frame_and_all_others_the_canvas_s():
    z_BTCHW, step = torch.zeros(1, 3, 2, 2, 2), torch.tensor(500)
    plain = WindowRequest(0, Part(Window(3, 6), 0), step, z_BTCHW)
    _, times = Telling(times=True).of(z_BTCHW, step, 2, None)
    given = WindowRequest(0, Part(Window(0, 3), 0), times, z_BTCHW)
    assert timestep_of([plain, plain]) is step
    assert timestep_of([given, plain]).tolist() == [[0, 0, 500], [500, 500, 500]]


def test_what_was_put_together_comes_apart_as_it_was():
    windows = list(torch.randn(N, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    assert all(map(torch.equal, apart(together(windows), N), windows))
    prompted = [torch.cat([window, 2 * window]) for window in windows]
    both = torch.cat([together(windows), 2 * together(windows)])
    assert all(map(torch.equal, apart(both, N), prompted))
