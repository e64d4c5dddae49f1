"""CogVideoX 1.5, whose patches are of two latent frames, against CogVideoXPipeline with tiny random models.

Stock puts latent frames before the clip's, up to whole patches, and lets them go before it decodes. A shot's
canvas has them too: ShotTask.n_before.
"""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from transformers import T5Config, T5EncoderModel

from cluster.identity import Model, Picture, Sampling
from cluster.shots import ShotTask
from cluster.tasks import VISUAL_ONLY, FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.chalk.tokens import build_tokenizer
from engine.denoise import denoise_here
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part, new_canvas
from engine.families.variants import PICTURE
from engine.takes import BESIDE, FIRST
from engine.tensors import from_bytes
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from tests.drivers import answers, given_of, name_of
from tests.tiny_vaes import make_cogvideox

SEED, STEPS, FRAMES, SIZE, TOKENS = 11, 4, 9, (32, 48), 6
PROMPT, NEGATIVE = "rain falls", "a sun"
SCHEDULERS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


def save(folder, kind, **transformer):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(f"{PROMPT} {NEGATIVE}".split())
    text = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, out_channels=4, time_embed_dim=8,
        text_embed_dim=32, num_layers=2, sample_width=12, sample_height=8, sample_frames=FRAMES, patch_size=2,
        patch_size_t=2, max_text_seq_length=TOKENS, use_rotary_positional_embeddings=True, patch_bias=False,
        **transformer,
    )  # fmt: skip
    vae = make_cogvideox()
    vae.register_to_config(scaling_factor=0.7, invert_scale_latents=kind is CogVideoXImageToVideoPipeline)
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        clip_sample=False,
    )  # fmt: skip
    pipeline = kind(tokenizer, T5EncoderModel(text).eval(), vae, model.eval(), scheduler)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("cogvideox_1_5"), CogVideoXPipeline, in_channels=4)


@pytest.fixture(scope="module")
def from_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cogvideox_1_5_i2v")
    return save(folder, CogVideoXImageToVideoPipeline, in_channels=8, ofs_embed_dim=8)


def stock(folder, dtype, kind, scale, output="latent", **picture):
    family = CogVideoXImageToVideoPipeline if picture else CogVideoXPipeline
    pipeline = family.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SCHEDULERS[kind].from_config(pipeline.scheduler.config)
    return pipeline(
        prompt=PROMPT, negative_prompt=NEGATIVE, height=SIZE[0], width=SIZE[1], num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, max_sequence_length=TOKENS, output_type=output,
        generator=torch.Generator().manual_seed(SEED), **picture,
    ).frames  # fmt: skip


def shot_task(folder, n_frames=FRAMES, dtype="float32"):
    facts = read_facts(folder)
    layout = Layout(facts.window_frames, 2, 1, unit=facts.window_unit, patch_frames=facts.patch_frames)
    shot = Shot("s", n_frames, (PromptSpan(PROMPT),), NEGATIVE, SEED)
    return ShotTask(Model(str(folder), dtype, "d"), shot, Sampling(STEPS, 6.0), layout, *SIZE, TOKENS)


def open_canvas(folder, task, kind, layout):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=task.n_canvas,
        frame_shape=(4, SIZE[0] // 8, SIZE[1] // 8), dtype=task.model.dtype, n_steps=STEPS, kind=kind,
        layout=layout, window=task.layout.size,
    )  # fmt: skip


def denoise(canvas, task, folder, scale=6.0, stop=None):
    text, family = (load_part(folder, part, task.model.dtype) for part in ("text", "transformer"))
    embeds = [text.embed(words, TOKENS) for words in (PROMPT, NEGATIVE)]
    (phase,) = task.phases
    return denoise_here(canvas, phase.parts, phase.weights, answers(family, embeds, scale), stop)


def test_the_facts_are_those_of_the_folder_and_windows_are_of_whole_patches(folder):
    facts = read_facts(folder)
    assert facts == ModelFacts("CogVideoXPipeline", 4, 8, 4, 2, 4, TOKENS, 2, window_unit=2, patch_frames=2)


@pytest.mark.parametrize("value", ["two", 0])
def test_a_wrong_number_of_frames_in_a_patch_is_refused_with_the_folder_and_the_key(folder, tmp_path, value):
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text((folder / part / "config.json").read_text())
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    path = tmp_path / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size_t": value}))
    with pytest.raises(ValueError, match=f"patch_size_t={value!r}") as refused:
        read_facts(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_one_window_is_bit_identical_to_the_stock_pipeline_with_the_frames_that_it_puts_before(
    folder, kind, dtype, scale
):
    task = shot_task(folder, dtype=name_of(dtype))
    assert (task.n_before, task.n_latent) == (1, 3)
    want = stock(folder, dtype, kind, scale)
    got = denoise(open_canvas(folder, task, kind, "stock"), task, folder, scale)
    assert want.shape[1] == 4 and torch.isfinite(want).all() and got.dtype == want.dtype
    assert torch.equal(got, want)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_one_window_from_a_picture_is_bit_identical_to_stock(from_pictures, kind, dtype, scale, monkeypatch):
    """The picture stands beside the frame that stock puts before the clip. Stock samples its posterior."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    task = shot_task(from_pictures, dtype=name_of(dtype))
    picture = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)
    made = given_of(from_pictures, dtype, {FIRST: picture}, task.canvas_frames)
    assert made[BESIDE].shape[1] == task.n_canvas == 4 and not made[BESIDE][:, 1:].any()
    canvas = open_canvas(from_pictures, task, kind, "stock")
    canvas.begin(made)
    want = stock(from_pictures, dtype, kind, scale, image=Image.fromarray(picture[0]))
    assert torch.isfinite(want).all()
    assert torch.equal(denoise(canvas, task, from_pictures, scale), want)


def test_a_folder_that_draws_from_pictures_takes_one_and_has_windows_of_whole_patches(from_pictures):
    facts = read_facts(from_pictures)
    assert (facts.family, facts.takes) == ("CogVideoXImageToVideoPipeline", PICTURE)
    assert (facts.latent_channels, facts.window_unit, facts.patch_frames) == (4, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_frames_are_those_of_stock_without_the_frames_before(folder, dtype):
    task = shot_task(folder, dtype=name_of(dtype))
    latents = denoise(open_canvas(folder, task, "ddim", "stock"), task, folder)
    want = (stock(folder, dtype, "ddim", 6.0, output="np")[0] * 255).round()
    vae = load_part(folder, "vae", task.model.dtype)
    frames = np.stack(list(vae.frames(latents[:, task.n_before :])))
    assert frames.shape == (FRAMES, *SIZE, 3) and frames.std() > 1
    assert np.array_equal(frames, want)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_long_shot_has_even_windows_and_resumes_with_the_same_bits(folder, kind):
    task = shot_task(folder, n_frames=25)
    (phase,) = task.phases
    windows = [part.window for part in phase.parts]
    assert len(windows) > 1 and phase.weights.shape[1] == task.n_canvas == 8
    assert all(window.start % 2 == 0 and len(window) == 4 for window in windows)
    whole = denoise(open_canvas(folder, task, kind, "keyed"), task, folder)
    half = open_canvas(folder, task, kind, "keyed")
    denoise(half, task, folder, stop=2)
    again = open_canvas(folder, task, kind, "keyed")
    again.restore(half.checkpoint())
    assert torch.equal(denoise(again, task, folder), whole)
    assert torch.isfinite(whole).all() and whole.std() > 0.1


def test_a_film_is_rendered_from_the_latents_without_those_before(folder, one_process):
    task = shot_task(folder, n_frames=25)
    segment = SegmentTask(task, Picture(SIZE[1], SIZE[0], Fraction(8), 20, "ultrafast"))
    version = VersionTask((segment,), VISUAL_ONLY, "", ())
    done = one_process.render([FilmTasks("row", MasterTask((segment,)), (version,))])["row"]
    shot, film = (done.results[each.key] for each in (task, version))
    stored = from_bytes(one_process.store.read_artefact(shot.files["latents"]))["latents"]
    whole = denoise(open_canvas(folder, task, None, "keyed"), task, folder)
    assert torch.equal(stored, whole[:, 1:]) and film.facts["frame_count"] == 25
