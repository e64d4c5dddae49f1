"""A picture that a shot starts from: fitted to the model, encoded, and kept on the canvas."""

from io import BytesIO

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.canvas import Canvas
from engine.chalk.model import build_pipeline
from engine.families.cogvideox import CogVideoX
from engine.given import read_picture


def png(pixels, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


@given(width=st.integers(1, 90), height=st.integers(1, 90))
@settings(max_examples=20, deadline=None)
def test_a_picture_of_any_size_becomes_one_of_the_models_and_keeps_its_colour(width, height):
    pixels = np.full((height, width, 3), (200, 30, 60), np.uint8)
    fitted = read_picture(png(pixels), 48, 32)
    assert fitted.shape == (32, 48, 3) and fitted.dtype == np.uint8
    assert (fitted == (200, 30, 60)).all()


def test_a_wide_picture_is_cut_evenly_and_not_squeezed():
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64] = 255  # its middle third is a square
    fitted = read_picture(png(pixels), 32, 32)
    assert (fitted[:, 2:-2] == 255).all()


def test_a_picture_is_turned_as_its_camera_says():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # the upper half, of a camera that lay on its side
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF's Orientation: turn by 90 degrees clockwise
    fitted = read_picture(png(pixels, exif=exif), 32, 32)
    assert (fitted[:, 20:] == 255).all() and not fitted[:, :12].any()


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"%PDF-1.7", png(np.zeros((64, 64, 3), np.uint8))[:60]])
def test_what_is_no_picture_or_a_broken_one_is_refused(content):
    with pytest.raises(ValueError, match="no picture that can be read"):
        read_picture(content, 32, 32)


def test_what_is_transparent_becomes_white():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 16:] = (10, 20, 30, 255)
    fitted = read_picture(png(pixels), 32, 32)
    assert (fitted[:, :14] == 255).all() and (fitted[:, 18:] == (10, 20, 30)).all()


def test_a_picture_of_16_bits_a_moving_one_and_one_of_another_format_are_refused():
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_picture(png(np.full((32, 32), 20000, np.uint16)), 32, 32)
    moving, other = BytesIO(), BytesIO()
    still = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    still[0].save(moving, "WEBP", save_all=True, append_images=still[1:])
    with pytest.raises(ValueError, match="it moves"):
        read_picture(moving.getvalue(), 32, 32)
    still[0].save(other, "TIFF")
    with pytest.raises(ValueError, match="no picture that can be read"):
        read_picture(other.getvalue(), 32, 32)


def test_a_picture_is_encoded_as_stock_encodes_one():
    family = CogVideoX(build_pipeline(0, tiny=True))
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 48, 3), dtype=np.uint8)
    vae = family.pipeline.vae
    x = family.pipeline.video_processor.preprocess(Image.fromarray(picture[0]), 32, 48).unsqueeze(2)
    with torch.no_grad():
        want = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
    got = family.encode(picture)
    assert got.shape == (1, 1, vae.config.latent_channels, 8, 12)
    torch.testing.assert_close(got.transpose(1, 2), want, rtol=0, atol=1e-5)


def open_canvas(kind, n_frames=4):
    scheduler = kind()
    scheduler.set_timesteps(5)
    return Canvas(torch.randn(1, n_frames, 2, 3, 3, generator=torch.Generator().manual_seed(0)), scheduler)


@pytest.mark.parametrize("kind", [CogVideoXDDIMScheduler, UniPCMultistepScheduler])
@pytest.mark.parametrize("n_given", [1, 2])
def test_given_latents_stay_on_the_canvas_through_every_step_and_a_resume(kind, n_given):
    held = torch.full((1, n_given, 2, 3, 3), 7.0)

    def run(canvas, upto):
        while canvas.step_index < upto:
            canvas.step(0.1 * canvas.latents)
            assert (canvas.latents[:, :n_given] == 7).all()
        return canvas

    whole, half, again = (open_canvas(kind) for _ in range(3))
    for canvas in (whole, half):
        canvas.hold(held)
    state = run(half, 2).checkpoint()
    again.restore(state)
    again.hold(held)
    assert torch.equal(run(again, 5).latents, run(whole, 5).latents)
    assert (whole.latents[:, n_given:] != 7).all()


@pytest.mark.parametrize("shape", [(1, 4, 2, 3, 3), (1, 0, 2, 3, 3), (1, 1, 1, 3, 3), (2, 1, 2, 3, 3)])
def test_given_latents_that_are_not_of_the_canvas_or_leave_nothing_to_draw_are_refused(shape):
    with pytest.raises(ValueError, match="are given for"):
        open_canvas(CogVideoXDDIMScheduler).hold(torch.zeros(shape))
