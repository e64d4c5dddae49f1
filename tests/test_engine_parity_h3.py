"""One window of ours against MiniMax-H3's own blocks, bit for bit, with tiny random models of that kind."""

import json

import numpy as np
import pytest
import torch

from engine.denoise import denoise_here
from engine.families.facts import ModelFacts, read_facts
from engine.families.h3_sound import add_sound, n_sound, split_sound
from engine.families.h3_vae import stream_clips
from engine.families.loading import load_part, new_canvas
from engine.tensors import from_bytes, to_bytes
from engine.timeline import Part, first_pixel
from engine.windows import blend_weights, plan_windows
from tests.tiny_h3 import CHANNELS, SIZE, save_folder, stock_pipeline

SEED, STEPS, FRAMES, WINDOW, TOKENS = 5, 4, 124, 37, 32  # stock draws five seconds at least
PROMPT, SHAPE = "rain falls on a quiet hill", (CHANNELS, SIZE[0] // 4, SIZE[1] // 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("h3")
    save_folder(path)
    return path


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def stock(folder, request):
    """What stock's blocks leave behind: latents of pictures and sound, and pictures."""
    pipeline = stock_pipeline(folder, request.param)
    state = pipeline(
        prompt=PROMPT, height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS + 1,
        generator=torch.Generator().manual_seed(SEED), output_type="np",
    )  # fmt: skip
    return request.param, state


def open_canvas(folder, n_frames=WINDOW, layout="stock"):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, frame_shape=SHAPE, dtype="float32", n_steps=STEPS,
        layout=layout,
    )  # fmt: skip


def denoise(canvas, family, prompt, size=WINDOW, stop=None):
    windows = plan_windows(canvas.n_frames, size, 5, unit=15)
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, [Part(window, 0) for window in windows], weights,
        lambda r: family.predict(r.latents, r.timestep, prompt, None, 6.0), stop,
    )  # fmt: skip


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def test_a_whole_folder_from_text_to_latents_of_pictures_and_sound_is_bit_identical_to_stock(folder, stock):
    dtype, state = stock
    prompt = load_part(folder, "text", name_of(dtype)).embed(PROMPT, TOKENS)
    assert torch.equal(prompt["tokens"], state.get("prompt_embeds")) and prompt["tokens"].std() > 0.01
    canvas = open_canvas(folder)
    noise = canvas.latents
    got = denoise(canvas, load_part(folder, "transformer", name_of(dtype)), prompt)
    pictures, sound = split_sound(got)
    assert torch.equal(pictures.transpose(1, 2), state.get("latents"))
    assert torch.equal(sound.view(2, -1, 32).transpose(1, 2), state.get("audio_latents"))
    assert min((a - b).std() for a, b in zip(split_sound(noise), (pictures, sound), strict=True)) > 0.1


def test_streamed_frames_are_those_of_the_whole_decode(folder, stock):
    dtype, state = stock
    latents = add_sound(state.get("latents").transpose(1, 2), torch.randn(1, 2 * n_sound(WINDOW), 32))
    frames = np.stack(list(load_part(folder, "vae", name_of(dtype)).frames(latents)))
    assert frames.shape == (FRAMES, *SIZE, 3) and frames.std() > 10
    assert np.array_equal(frames, (state.get("videos")[0] * 255).round().astype(np.uint8))


@pytest.mark.parametrize("n_latent", [7, 8, 9, 11, 12, 22])
def test_frames_of_several_clips_are_those_of_the_whole_decode_at_any_length(folder, n_latent):
    """Stock fills the last clip where latent frames do not, and shows nothing of what it filled."""
    family = load_part(folder, "vae", "float32")
    z_BTCHW = torch.randn(1, n_latent, *SHAPE, generator=torch.Generator().manual_seed(1))
    vae = family.pipeline.vae
    with torch.no_grad():
        whole = vae.decode(z_BTCHW.transpose(1, 2)).sample
        clips = list(stream_clips(vae, z_BTCHW.transpose(1, 2)))
    assert len(clips) > 1 and torch.equal(torch.cat(clips, 2), whole)
    assert whole.shape[2] == first_pixel(n_latent, 4, 5)


def test_frames_tiled_in_space_as_stock_does_by_itself_are_those_of_the_whole_decode(folder):
    vae = load_part(folder, "vae", "float32").pipeline.vae
    z_BCTHW = torch.randn(1, CHANNELS, 12, 12, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = vae.decode(z_BCTHW).sample
        vae.enable_tiling(32, 32, 8, 8)
        tiled = vae.decode(z_BCTHW).sample
    assert torch.equal(torch.cat(list(stream_clips(vae, z_BCTHW)), 2), tiled) and not torch.equal(
        tiled, whole
    )


def test_a_long_shot_resumes_with_the_same_bits(folder):
    family = load_part(folder, "transformer", "float32")
    prompt = load_part(folder, "text", "float32").embed(PROMPT, TOKENS)
    whole = denoise(open_canvas(folder, 37, "keyed"), family, prompt, size=22)
    half = open_canvas(folder, 37, "keyed")
    denoise(half, family, prompt, size=22, stop=2)
    again = open_canvas(folder, 37, "keyed")
    again.restore(from_bytes(to_bytes(half.checkpoint())))
    assert torch.equal(denoise(again, family, prompt, size=22), whole)


@pytest.mark.parametrize("n_latent", [2, 7, 22, 37])
def test_sound_lies_on_the_canvas_and_comes_back_as_it_was(n_latent):
    seconds = first_pixel(n_latent, 4, 5) / 24
    assert n_sound(n_latent) == round(seconds * 40)
    pictures, sound = torch.randn(2, n_latent, *SHAPE), torch.randn(2, 2 * n_sound(n_latent), 32)
    for got, want in zip(split_sound(add_sound(pictures, sound)), (pictures, sound), strict=True):
        assert torch.equal(got, want)


def test_a_window_that_begins_at_a_multiple_of_fifteen_latent_frames_has_the_sound_that_begins_there():
    pictures, sound = torch.randn(1, 37, *SHAPE), torch.randn(1, 2 * n_sound(37), 32)
    window = split_sound(add_sound(pictures, sound)[:, 15:])[1]
    both, later = sound.view(2, -1, 32), window.view(2, -1, 32)
    assert n_sound(15) == 85 and torch.equal(later, both[:, 85:])


def test_a_long_text_is_cut_and_an_empty_one_has_no_tokens(folder):
    text = load_part(folder, "text", "float32")
    assert [text.embed(PROMPT, n)["tokens"].shape[1] for n in (3, 6, 32)] == [3, 6, 6]
    assert text.embed("", 32)["tokens"].shape == (1, 0, 16)


def test_the_facts_are_those_of_the_folder(folder):
    assert read_facts(folder) == ModelFacts(
        "MiniMaxH3ModularPipeline", CHANNELS, 4, 4, 2, WINDOW, 512, 3, period=5, window_unit=15
    )


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("transformer", "in_channels", None),
        ("transformer", "num_attention_heads", 0),
        ("transformer", "audio_in_channels", 64),
        ("vae", "spatial_downsample_factors", []),
        ("vae", "temporal_downsample_factors", [2, 2, 2]),
        ("vae", "clip_length", 16),
        ("vae", "token_drop", 0),
    ],
)
def test_a_folder_with_another_layout_is_refused_by_the_key(folder, tmp_path, part, key, value):
    for each in ("transformer", "vae"):
        config = json.loads((folder / each / "config.json").read_text())
        (tmp_path / each).mkdir()
        changed = config | {key: value} if each == part else config
        (tmp_path / each / "config.json").write_text(json.dumps(changed))
    (tmp_path / "modular_model_index.json").write_text((folder / "modular_model_index.json").read_text())
    with pytest.raises(ValueError, match=rf"{tmp_path}: its configuration says {key}="):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    "part, held",
    [("text", {"tokenizer", "text_encoder"}), ("transformer", {"transformer"}), ("vae", {"vae"})],
)
def test_a_stage_holds_what_it_needs(folder, part, held):
    parts = vars(load_part(folder, part, "float32").pipeline)
    assert {name for name, each in parts.items() if each is not None} == held | {"device"}
