"""What a shot is given: fitted to the model, encoded, and kept on the canvas."""

import struct
from fractions import Fraction
from io import BytesIO

import av
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
from engine.given import clip_length, frame_times, picked_frames, read_clip, read_picture
from engine.noise import StepNoise, keyed_noise
from engine.takes import BEGINNING, BESIDE, ENDING, LAST, STILL, WHOLE
from engine.telling import Telling
from engine.windows import Window


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
    with pytest.raises(ValueError, match=r"no picture that can be read: it is .*: save ") as told:
        read_picture(content, 32, 32)
    assert "BytesIO" not in str(told.value) and "cannot identify" not in str(told.value)


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
    for canvas in (whole, half, again):
        canvas.begin({BEGINNING: held})
    again.restore(run(half, 2).checkpoint())
    assert torch.equal(run(again, 5).latents, run(whole, 5).latents)
    assert (whole.latents[:, n_given:] != 7).all()


@pytest.mark.parametrize("kind", [CogVideoXDDIMScheduler, UniPCMultistepScheduler])
@pytest.mark.parametrize("begun", [True, False])
def test_a_given_ending_stays_on_the_canvas_beside_a_beginning_and_through_a_resume(kind, begun):
    held = {ENDING: torch.full((1, 1, 2, 3, 3), 5.0)}
    held |= {BEGINNING: torch.full((1, 2, 2, 3, 3), 7.0)} if begun else {}

    def run(canvas, upto):
        while canvas.step_index < upto:
            canvas.step(0.1 * canvas.latents)
            assert (canvas.latents[:, -1] == 5).all() and (canvas.latents[:, :2] == 7).all() == begun
        return canvas

    whole, half, again = (open_canvas(kind) for _ in range(3))
    for canvas in (whole, half, again):
        canvas.begin(held)
    again.restore(run(half, 2).checkpoint())
    assert torch.equal(run(again, 5).latents, run(whole, 5).latents)
    assert (whole.latents[:, 2] != 5).all()


def test_two_ends_that_leave_nothing_to_draw_are_refused():
    with pytest.raises(ValueError, match="3 and 1 latent frames are given for 4: nothing is left to draw"):
        open_canvas(CogVideoXDDIMScheduler).begin(
            {BEGINNING: torch.zeros(1, 3, 2, 3, 3), ENDING: torch.zeros(1, 1, 2, 3, 3)}
        )


def test_a_last_picture_is_encoded_as_the_end_of_a_clip_that_stands_still():
    family = CogVideoX(build_pipeline(0, tiny=True))
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 48, 3), dtype=np.uint8)
    made = family.give({LAST: picture}, 25)
    assert set(made) == {ENDING}
    assert torch.equal(made[ENDING], family.encode(np.repeat(picture, STILL, axis=0))[:, -1:])
    once = family.encode(picture)  # this encoder pads a clip's beginning with its first frame
    torch.testing.assert_close(made[ENDING], once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 4, 2, 3, 3), (1, 0, 2, 3, 3), (1, 1, 1, 3, 3), (2, 1, 2, 3, 3)])
def test_given_latents_that_are_not_of_the_canvas_or_leave_nothing_to_draw_are_refused(shape):
    for end in (BEGINNING, ENDING):
        with pytest.raises(ValueError, match="are given for"):
            open_canvas(CogVideoXDDIMScheduler).begin({end: torch.zeros(shape)})


@pytest.mark.parametrize("step", [-1, 5])
def test_a_clip_is_redrawn_from_one_of_the_steps_and_is_of_the_canvas(step):
    with pytest.raises(ValueError, match="of 5"):
        open_canvas(CogVideoXDDIMScheduler).begin({WHOLE: torch.zeros(1, 4, 2, 3, 3)}, step)
    with pytest.raises(ValueError, match="are given for"):
        open_canvas(CogVideoXDDIMScheduler).begin({WHOLE: torch.zeros(1, 3, 2, 3, 3)}, 2)


@pytest.mark.parametrize(("start", "given"), [(0, 3), (2, 1), (3, 0)])
def test_a_window_is_told_a_time_of_each_frame_that_is_given_and_sees_it_under_keyed_noise(start, given):
    clean, window = torch.full((1, 3, 2, 3, 3), 7.0), Window(start, start + 4)
    plain, told = (open_canvas(UniPCMultistepScheduler, 8) for _ in range(2))
    told.telling, told.step_noise = Telling(times=True, noise=20), StepNoise(5, "s", range(10, 18), 40)
    for canvas in (plain, told):
        canvas.begin({BEGINNING: clean})
    latents, timestep = plain.seen(window)
    seen, times = told.seen(window)
    assert timestep.ndim == 0 and torch.equal(seen[:, given:], latents[:, given:])
    if not given:
        assert times.ndim == 0
        return
    assert times.tolist() == [[20] * given + [timestep.item()] * (4 - given)]
    noise = keyed_noise(5, "s", 40, range(10 + start, 13), (2, 3, 3), torch.float32)
    torch.testing.assert_close(seen[:, :given], 0.98 * 7 + 0.02 * noise)
    assert torch.equal(told.latents[:, :3], clean)


def test_given_latents_that_are_told_to_be_noisy_must_be():
    with pytest.raises(ValueError, match="20 thousandths of noise"):
        Telling(times=True, noise=20).of(torch.zeros(1, 3, 2, 3, 3), torch.tensor(500), 1, None)


def test_channels_beside_the_latents_are_of_every_frame_and_cut_with_each_window():
    canvas, beside = open_canvas(CogVideoXDDIMScheduler), torch.randn(1, 4, 7, 3, 3)
    with pytest.raises(ValueError, match="beside"):
        canvas.begin({BESIDE: beside[:, 1:]})
    assert canvas.beside_of(Window(1, 3)) is None
    canvas.begin({BESIDE: beside})
    assert torch.equal(canvas.beside_of(Window(1, 3)), beside[:, 1:3])


def test_frames_are_picked_as_they_are_on_the_screen_and_from_the_end_the_last_is_the_clips():
    times = [Fraction(number, 24) for number in range(48)]
    assert picked_frames(times, Fraction(8), 4, from_end=False) == [0, 3, 6, 9]
    assert picked_frames(times, Fraction(8), 4, from_end=True) == [38, 41, 44, 47]
    assert picked_frames(times, Fraction(48), 4, from_end=False) == [0, 0, 1, 1]
    assert clip_length(times, Fraction(8)) == 16 and clip_length(times, Fraction(24)) == 48


@given(
    n=st.integers(1, 60),
    rate=st.sampled_from([Fraction(8), Fraction(25), Fraction(24000, 1001)]),
    from_end=st.booleans(),
    clock=st.sampled_from([1000, 12800, 90000]),
)
def test_a_clip_at_its_own_rate_is_itself_whatever_its_containers_clock(n, rate, from_end, clock):
    times = [Fraction(round(number / rate * clock), clock) for number in range(n)]
    assert picked_frames(times, rate, n, from_end=from_end) == list(range(n))
    assert clip_length(times, rate) == n


@given(
    gaps=st.lists(st.integers(1, 9), max_size=30), rate=st.integers(1, 60), wanted=st.integers(1, 40),
    from_end=st.booleans(),
)  # fmt: skip
def test_picked_frames_are_of_the_clip_in_order_and_a_short_clip_stands_still(gaps, rate, wanted, from_end):
    times = [Fraction(sum(gaps[:number]), 24) for number in range(len(gaps) + 1)]
    picked = picked_frames(times, Fraction(rate), wanted, from_end=from_end)
    assert len(picked) == wanted and picked == sorted(picked)
    assert picked[0] >= 0 and picked[-1] < len(times)
    assert picked[-1] == len(times) - 1 if from_end else picked[0] == 0


def film(path, colours, rate=8, size=(64, 48)):
    """A clip of still frames in these greys."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for grey in colours:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), grey, np.uint8), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_clip_is_read_at_the_models_size_and_rate_its_beginning_or_its_end(tmp_path):
    greys = list(range(0, 240, 10))
    path = film(tmp_path / "a.mp4", greys, rate=24)
    for from_end, want in ((False, greys[0:9:3]), (True, greys[17::3])):
        frames = read_clip(path, 32, 32, Fraction(8), 3, from_end=from_end)
        assert frames.shape == (3, 32, 32, 3) and frames.dtype == np.uint8
        assert np.abs(frames.mean(axis=(1, 2, 3)) - want).max() < 3


def test_a_clip_is_turned_as_its_camera_says(tmp_path):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24] = 255
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(upright, "rgb24")))
        out.mux(stream.encode(None))
    # of the two matrices in an MP4, the track's is the second: "turn by 90 degrees clockwise" for "as it is"
    one = 1 << 16
    plain, turned = (struct.pack(">9i", *matrix, 0, 0, 1 << 30) for matrix in (
        (one, 0, 0, 0, one, 0), (0, one, 0, -one, 0, 0)
    ))  # fmt: skip
    before, between, after = path.read_bytes().split(plain)
    path.write_bytes(before + plain + between + turned + after)
    (frame,) = read_clip(path, 48, 64, Fraction(8), 1, from_end=False)
    assert frame.shape == (64, 48, 3)
    assert frame[:, 30:].min() > 200 and frame[:, :18].max() < 50


@pytest.mark.parametrize("content", [b"", b"no clip", png(np.zeros((64, 64, 3), np.uint8))])
def test_what_is_no_clip_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"no video that can be read: it is .*: save ") as told:
        frame_times(tmp_path / "a.mp4")
    assert "Errno" not in str(told.value)


def test_a_file_that_may_not_be_opened_is_not_called_damaged(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name, why in (("folder.mp4", "Is a directory"), ("none.mp4", "No such file or directory")):
        with pytest.raises(ValueError, match=f"^it cannot be read: {why}$"):
            frame_times(tmp_path / name)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.5,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile a.mp4\n",
    ],
)
def test_a_playlist_that_would_lead_to_other_files_is_no_clip(tmp_path, playlist):
    path = film(tmp_path / "a.mp4", [0, 100])
    (tmp_path / "b.mp4").write_text(playlist.format(path=path))
    with pytest.raises(ValueError, match="no video that can be read"):
        frame_times(tmp_path / "b.mp4")
