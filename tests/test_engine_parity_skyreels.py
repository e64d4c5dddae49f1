"""One window of ours against SkyReels-V2's pipelines, bit for bit, with tiny random models."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2, pipeline_skyreels_v2_diffusion_forcing
from transformers import UMT5Config, UMT5EncoderModel

from engine.canvas import Canvas
from engine.chalk.tokens import build_tokenizer
from engine.denoise import denoise_here
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part, new_canvas
from engine.families.skyreels import CONDITION_NOISE
from engine.takes import BEGINNING
from engine.timeline import Part
from engine.windows import Window, blend_weights, plan_windows
from tests.tiny_vaes import make_wan

SEED, STEPS, FRAMES, SIZE, TOKENS, CHANNELS = 5, 4, 9, (32, 48), 12, 16
PROMPT, NEGATIVE = "rain falls", "a sun"
KINDS = {"plain": SkyReelsV2Pipeline, "forcing": SkyReelsV2DiffusionForcingPipeline}
FORCING = ("forcing", "forcing, told the frame rate")
DTYPES = [torch.float32, torch.bfloat16]


def make_pipeline(kind, told_rate):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(f"{PROMPT} {NEGATIVE}".split())
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    vae = make_wan()
    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=CHANNELS, out_channels=CHANNELS,
        text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32, inject_sample_info=told_rate,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0, num_train_timesteps=1000
    )
    return KINDS[kind](
        tokenizer=tokenizer, text_encoder=UMT5EncoderModel(text).eval(), vae=vae,
        transformer=transformer.eval(), scheduler=scheduler,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def characters_need_no_mending(monkeypatch):
    """Stock cannot do without ftfy, which is not among our packages and leaves these prompts as they are."""
    for module in (pipeline_skyreels_v2, pipeline_skyreels_v2_diffusion_forcing):
        monkeypatch.setattr(module, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp("skyreels") for name in ("plain", *FORCING)}
    for name, folder in made.items():
        pipeline = make_pipeline(name.split(",")[0], told_rate="rate" in name)
        pipeline.save_pretrained(folder, safe_serialization=True)
    return made


@pytest.fixture(params=["plain", *FORCING])
def folder(folders, request):
    return folders[request.param]


@pytest.fixture(params=FORCING)
def forcing(folders, request):
    return folders[request.param]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def stock(folder, dtype, scale=5.0, output="latent", **more):
    kind = KINDS["plain" if read_facts(folder).family == "SkyReelsV2Pipeline" else "forcing"]
    pipeline = kind.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)  # of noise that is drawn from no generator
    return pipeline(
        PROMPT, NEGATIVE, height=SIZE[0], width=SIZE[1], num_inference_steps=STEPS, guidance_scale=scale,
        max_sequence_length=TOKENS, output_type=output, generator=generator,
        **({"num_frames": FRAMES} | more),
    ).frames  # fmt: skip


def open_canvas(folder, dtype, n_frames=3, layout="stock"):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, frame_shape=(CHANNELS, SIZE[0] // 8, SIZE[1] // 8),
        dtype=name_of(dtype), n_steps=STEPS, layout=layout,
    )  # fmt: skip


def denoise(canvas, family, embeds, scale=5.0, stop=None):
    windows = plan_windows(canvas.n_frames, 3, 2)
    parts = [Part(window, 0) for window in windows]
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, parts, weights, lambda r: family.predict(r.latents, r.timestep, *embeds, scale), stop
    )


def embeds_of(folder, dtype):
    text = load_part(folder, "text", name_of(dtype))
    return [text.embed(words, TOKENS) for words in (PROMPT, NEGATIVE)]


def ours(folder, dtype, scale=5.0):
    family = load_part(folder, "transformer", name_of(dtype))
    return denoise(open_canvas(folder, dtype), family, embeds_of(folder, dtype), scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folder, dtype, scale):
    want = stock(folder, dtype, scale)
    assert torch.isfinite(want).all()
    assert torch.equal(ours(folder, dtype, scale).transpose(1, 2), want)


def test_streamed_frames_are_those_of_the_whole_decode(folder):
    got = ours(folder, torch.float32)
    want = stock(folder, torch.float32, output="np")[0]
    frames = np.stack(list(load_part(folder, "vae", "float32").frames(got)))
    assert frames.shape == (FRAMES, *SIZE, 3)
    assert np.array_equal(frames, (want * 255).round().astype(np.uint8))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    family, embeds = load_part(folder, "transformer", "float32"), embeds_of(folder, torch.float32)
    whole = denoise(open_canvas(folder, torch.float32, 7, "keyed"), family, embeds)
    half = open_canvas(folder, torch.float32, 7, "keyed")
    denoise(half, family, embeds, stop=2)
    again = open_canvas(folder, torch.float32, 7, "keyed")
    again.restore(half.checkpoint())
    assert torch.equal(denoise(again, family, embeds), whole)


def go_on(folder, family, embeds, before, n_frames, dtype, draw):
    """The next window of a long video: n_frames latents, of which the first are the last of `before`."""
    fresh = open_canvas(folder, dtype, n_frames)
    noise = torch.randn(fresh.latents.transpose(1, 2).shape, generator=before.generator)
    canvas = Canvas(noise.transpose(1, 2).contiguous(), fresh.scheduler, before.generator)
    canvas.begin({BEGINNING: before.latents[:, -GIVEN:]})
    window = Window(0, n_frames)
    denoise_here(
        canvas, [Part(window, 0)], blend_weights([window], n_frames),
        lambda r: family.predict_after(r.latents, r.timestep, GIVEN, draw(), *embeds, 5.0),
    )  # fmt: skip
    return canvas


GIVEN, BASE, LONG = 2, 4, 7  # latent frames: three windows, of which the last has 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noisy", [True, False])
def test_windows_that_go_on_from_given_latents_are_bit_identical_to_stock_s_long_video(forcing, dtype, noisy):
    """Stock draws the noise of what is given from the generator of the process, anew at every step."""
    want = stock(
        forcing, dtype, num_frames=4 * LONG - 3, base_num_frames=4 * BASE - 3, overlap_history=4 * GIVEN - 3,
        addnoise_condition=CONDITION_NOISE if noisy else 0,
    )  # fmt: skip

    def draw():
        shape = (1, CHANNELS, GIVEN, SIZE[0] // 8, SIZE[1] // 8)
        return torch.randn(shape, dtype=dtype).transpose(1, 2) if noisy else None

    family, embeds = load_part(forcing, "transformer", name_of(dtype)), embeds_of(forcing, dtype)
    torch.manual_seed(SEED)
    canvas = open_canvas(forcing, dtype, BASE)
    window = Window(0, BASE)
    denoise_here(
        canvas, [Part(window, 0)], blend_weights([window], BASE),
        lambda r: family.predict(r.latents, r.timestep, *embeds, 5.0),
    )  # fmt: skip
    made = [canvas.latents]
    for n_frames in (BASE, LONG - BASE):
        canvas = go_on(forcing, family, embeds, canvas, n_frames, dtype, draw)
        made.append(canvas.latents[:, GIVEN:])
    got = torch.cat(made, dim=1).transpose(1, 2)
    assert got.shape == want.shape
    assert torch.equal(got, want)


def test_a_window_of_which_nothing_or_all_is_given_is_refused(folders):
    family = load_part(folders["forcing"], "transformer", "float32")
    z_BTCHW = torch.zeros(1, 3, CHANNELS, 4, 6)
    for n_given in (0, 3):
        with pytest.raises(ValueError, match=f"{n_given} latent frames are given for a window of 3"):
            family.conditioned(z_BTCHW, torch.tensor(500), n_given, None)


def test_the_facts_are_those_of_the_folder(folder):
    names = {"SkyReelsV2Pipeline", "SkyReelsV2DiffusionForcingPipeline"}
    facts = read_facts(folder)
    assert (
        facts == ModelFacts(facts.family, CHANNELS, 8, 4, 2, 25, 512, 2, longest_window=31)
        and facts.family in names
    )


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("num_frame_per_block", 5, "num_frame_per_block is 5.*set it to 1"),
        ("image_dim", 1280, "starts from a picture"),
        ("in_channels", 0, "in_channels=0"),
    ],
)
def test_a_folder_that_is_not_read_yet_is_refused_with_its_path_and_the_key(
    folders, tmp_path, key, value, said
):
    folder = shutil.copytree(folders["forcing"], tmp_path / "model")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=said) as refused:
        read_facts(folder)
    assert str(folder) in str(refused.value)
