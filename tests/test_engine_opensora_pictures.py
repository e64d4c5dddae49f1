"""Open-Sora 2 from pictures, against the published sampler on plain tensors: head, tail and both."""

import itertools

import numpy as np
import pytest
import torch

from engine.denoise import denoise_here
from engine.families.loading import load_part
from engine.families.opensora import IMAGE_SCALE
from engine.families.published import TABLE
from engine.takes import BEGINNING, BESIDE, ENDING, FIRST, LAST
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from jobs.spec import load_spec
from jobs.stitching import unending
from jobs.stock import stock_published
from tests.test_engine_opensora import (  # noqa: F401  # the fixture
    CHANNELS,
    STEPS,
    Plain,
    assert_near,
    embeds_of,
    folder,
    noise,
    open_canvas,
    published_weights,
)

GIVEN = {"i2v_head": (FIRST,), "i2v_tail": (LAST,), "i2v_loop": (FIRST, LAST)}


def pictures_of(roles):
    generator = np.random.default_rng(3)
    return {role: generator.integers(0, 256, (1, 32, 48, 3), np.uint8) for role in roles}


@torch.no_grad()
def condition(family, kind, pictures):
    """The published mask and masked latents (1, 1 + C, T, H, W), T = 3."""
    vae, masks, known = family.pipeline.vae, torch.zeros(1, 1, 3, 4, 6), torch.zeros(1, CHANNELS, 3, 4, 6)
    for role, frame in ((FIRST, 0), (LAST, -1)):
        if role in GIVEN[kind]:
            pixels = torch.from_numpy(pictures[role]).permute(3, 0, 1, 2)[None] / 127.5 - 1
            masks[:, :, frame] = 1
            known[:, :, frame] = 0.476986 * vae.encode(pixels).latent_dist.mode()[:, :, 0]
    return torch.cat([masks, known], dim=1)


@torch.no_grad()
def sampled(model, x, prompt, negative, scale, shift, seen):
    """The published loop (I2VDenoiser): prompted, unprompted, and blind to the picture, too."""
    times = torch.linspace(1, 0, STEPS + 1)
    times = (shift * times / (1 + (shift - 1) * times)).tolist()
    text, pooled = (
        torch.cat([prompt[name], negative[name], negative[name]]) for name in ("tokens", "pooled")
    )
    cond = torch.cat([seen, seen, torch.zeros_like(seen)])
    for now, after in itertools.pairwise(times):
        t = torch.full((3,), now, dtype=x.dtype)
        told, untold, blind = model(torch.cat([x] * 3), t, text, pooled, cond).chunk(3)
        x = x + (after - now) * (blind + IMAGE_SCALE * (untold - blind) + scale * (told - untold))
    return x


def denoised(canvas, family, embeds, scale):
    windows = plan_windows(canvas.n_frames, 3, 1)
    parts, weights = [Part(window, 0) for window in windows], blend_weights(windows, canvas.n_frames)

    def predict(request):
        texts = [text | ({} if request.beside is None else {BESIDE: request.beside}) for text in embeds]
        return family.predict(request.latents, request.timestep, *texts, scale)

    return denoise_here(canvas, parts, weights, predict)


@pytest.mark.parametrize("kind", GIVEN)
def test_a_shot_from_pictures_equals_the_published_sampler_on_published_weights(folder, kind):  # noqa: F811
    pictures, embeds = pictures_of(GIVEN[kind]), embeds_of(folder)
    encoder = load_part(folder, "given", "float32")
    made = encoder.give(pictures, 9)
    assert set(made) == {{FIRST: BEGINNING, LAST: ENDING}[role] for role in GIVEN[kind]}
    seen = condition(encoder, kind, pictures)
    plain = Plain(published_weights(False), False, True)
    want = sampled(plain, noise(), *embeds, 5.0, 3.0, seen)
    canvas = open_canvas(folder)
    canvas.begin(made)
    assert torch.equal(canvas.beside.transpose(1, 2), seen)
    got = denoised(canvas, load_part(folder, "transformer", "float32"), embeds, 5.0)
    assert_near(got.transpose(1, 2), want)
    blind = sampled(plain, noise(), *embeds, 5.0, 3.0, torch.zeros_like(seen))
    assert (want - blind).abs().max() > 0.1  # it does see them


def test_all_frames_are_drawn_the_given_ones_too(folder):  # noqa: F811
    made = load_part(folder, "given", "float32").give(pictures_of((FIRST,)), 9)
    canvas = open_canvas(folder)
    before = canvas.latents.clone()
    canvas.begin(made)
    assert torch.equal(canvas.latents, before)


@torch.no_grad()
def test_a_window_that_sees_no_picture_is_predicted_as_of_the_text_alone(folder):  # noqa: F811
    family, embeds = load_part(folder, "transformer", "float32"), embeds_of(folder)
    canvas = open_canvas(folder, 5, "keyed")
    canvas.begin(load_part(folder, "given", "float32").give(pictures_of((FIRST,)), 17))
    first, last = plan_windows(5, 3, 1)
    assert canvas.beside_of(first).any() and not canvas.beside_of(last).any()
    told = [text | {BESIDE: canvas.beside_of(last)} for text in embeds]
    latents, timestep = canvas.seen(last)
    got = family.predict(latents, timestep, *told, 5.0)
    assert torch.equal(got, family.predict(latents, timestep, *embeds, 5.0))


@torch.no_grad()
def test_a_guided_prediction_is_followed_by_that_of_the_prompt_alone(folder):  # noqa: F811
    family, embeds = load_part(folder, "transformer", "float32"), embeds_of(folder)
    canvas = open_canvas(folder)
    canvas.begin(load_part(folder, "given", "float32").give(pictures_of((FIRST,)), 9))
    (window,) = plan_windows(3, 3, 1)
    told = [text | {BESIDE: canvas.beside_of(window)} for text in embeds]
    both = family.predict(*canvas.seen(window), *told, 5.0, prompted=True)
    assert torch.equal(both[:1], family.predict(*canvas.seen(window), *told, 5.0))
    torch.testing.assert_close(both[1:], family.predict(*canvas.seen(window), told[0], None, 1.0))


def test_a_shot_that_ends_with_a_picture_is_one_window_and_one_that_begins_so_may_be_longer():
    checkpoint = next(one for one in TABLE if one.family == "OpenSoraPipeline")
    one = stock_published(load_spec(None, []), checkpoint)["chalk"]
    assert one.takes.may == {FIRST, LAST} and not one.takes.must
    assert not unending(one, [FIRST, LAST], 129) and not unending(one, [FIRST], 400)
    assert "at most 129 frames" in unending(one, [LAST], 130)
