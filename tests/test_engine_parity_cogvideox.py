"""One window of ours against CogVideoXPipeline, bit for bit, with tiny random models.

Ours goes the way of production: a folder on disk, new_canvas, denoise_here, embed and predict.
"""

from pathlib import Path

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

from engine.chalk.model import build_pipeline
from engine.chalk.tokens import MAX_TOKENS
from engine.denoise import denoise_here
from engine.families.cogvideox import CogVideoX
from engine.families.loading import LEFT_OUT, load_part, new_canvas
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows

WEIGHTS = Path(__file__).parent.parent / "engine" / "chalk" / "weights"
STEPS, SEED, FRAMES, SIZE = 4, 11, 9, 64
LATENT_FRAMES = (FRAMES - 1) // 4 + 1
KINDS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
SCHEDULERS = list(KINDS.values())


def make_pipeline(scheduler, dtype=torch.float32, rotary=True):
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=12, num_layers=2, sample_width=8, sample_height=8, sample_frames=FRAMES, patch_size=2,
        max_text_seq_length=6, use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    pipeline = CogVideoXPipeline(None, None, None, transformer.to(dtype).eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_embeds(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return [{"tokens": text} for text in torch.randn((2, 1, 6, 12), generator=generator).to(dtype)]


def make_scheduler(kind):
    return kind(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def stock_latents(pipeline, scale, dtype):
    prompt, negative = (text["tokens"] for text in make_embeds(dtype))
    return pipeline(
        prompt_embeds=prompt, negative_prompt_embeds=negative, height=SIZE, width=SIZE, num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def open_canvas(folder, dtype, n_frames=LATENT_FRAMES, layout="stock", frame_shape=(4, SIZE // 8, SIZE // 8)):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, frame_shape=frame_shape,
        dtype=str(dtype).removeprefix("torch."), n_steps=STEPS, layout=layout,
    )  # fmt: skip


def denoise(canvas, family, embeds, scale, reopen=None, resume_at=None):
    """Drive a shot to its end; at step resume_at, go on with a reopened canvas restored from a checkpoint."""
    windows = plan_windows(canvas.n_frames, LATENT_FRAMES, 2)
    plan = [Part(window, 0) for window in windows], blend_weights(windows, canvas.n_frames)

    def predict(request):
        return family.predict(request.latents, request.timestep, *embeds, scale)

    if resume_at is not None:
        denoise_here(canvas, *plan, predict, resume_at)
        state, canvas = canvas.checkpoint(), reopen()
        canvas.restore(state)
    return denoise_here(canvas, *plan, predict)


def stock_pipeline(folder, dtype, **parts):
    """Stock's own pipeline from the same folder.

    From the folder, because a CPU kernel's last bits can depend on how weights lie in memory: stock itself
    gives other bits with the pipeline that the folder was saved from.
    """
    pipeline = CogVideoXPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(folder, pipeline):
    """The pipeline on disk, and the part of it that production's render stage loads."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    return CogVideoX.load(folder, dtype=pipeline.transformer.dtype, leave_out=LEFT_OUT["transformer"])


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [6.0, 1.0])
@pytest.mark.parametrize("rotary", [True, False])
def test_one_window_is_bit_identical_to_the_stock_pipeline(tmp_path, kind, dtype, scale, rotary):
    pipeline = make_pipeline(make_scheduler(kind), dtype, rotary)
    family = save(tmp_path, pipeline)
    ours = denoise(open_canvas(tmp_path, dtype), family, make_embeds(dtype), scale)
    stock = stock_latents(
        stock_pipeline(tmp_path, dtype, **dict.fromkeys(LEFT_OUT["transformer"])), scale, dtype
    )
    assert ours.dtype == stock.dtype
    assert torch.isfinite(stock).all()
    assert torch.equal(ours, stock)


@pytest.fixture(scope="module", params=["untrained", "shipped"])
def chalk(request, tmp_path_factory):
    if request.param == "shipped":
        return WEIGHTS
    folder = tmp_path_factory.mktemp("chalk")
    build_pipeline(0, tiny=True).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(chalk, kind, dtype):
    pipeline = stock_pipeline(chalk, dtype)
    pipeline.scheduler = KINDS[kind].from_config(pipeline.scheduler.config)
    stock = pipeline(
        "Rain falls.", "a sun", height=SIZE, width=SIZE, num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=6.0, max_sequence_length=MAX_TOKENS, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip
    name = str(dtype).removeprefix("torch.")
    text, transformer = load_part(chalk, "text", name), load_part(chalk, "transformer", name)
    embeds = [text.embed(words, MAX_TOKENS) for words in ("Rain falls.", "a sun")]
    canvas = new_canvas(
        chalk, seed=SEED, shot="s", n_frames=LATENT_FRAMES, frame_shape=stock.shape[2:], dtype=name,
        n_steps=STEPS, kind=kind, layout="stock",
    )  # fmt: skip
    assert type(canvas.scheduler) is KINDS[kind]
    assert torch.equal(denoise(canvas, transformer, embeds, 6.0), stock)


@pytest.mark.parametrize("words", [("Rain falls.", ""), ("बारिश", "a sun " * 50)])
def test_a_text_has_the_embedding_that_the_pipeline_gives_it(chalk, words):
    text = load_part(chalk, "text", "float32")
    stock = stock_pipeline(chalk, torch.float32)
    with torch.no_grad():
        want = stock.encode_prompt(*words, True, max_sequence_length=MAX_TOKENS)
    ours = [text.embed(each, MAX_TOKENS)["tokens"] for each in words]
    assert torch.equal(ours[0], want[0]) and torch.equal(ours[1], want[1])
    assert not torch.equal(ours[0], ours[1])


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("n_frames", [LATENT_FRAMES, 7])
@pytest.mark.parametrize("layout", ["keyed", "stock"])
def test_resume_is_bit_identical(tmp_path, kind, n_frames, layout):
    family = save(tmp_path, make_pipeline(make_scheduler(kind)))

    def reopen():
        return open_canvas(tmp_path, torch.float32, n_frames, layout)

    whole = denoise(reopen(), family, make_embeds(), 6.0)
    assert torch.equal(denoise(reopen(), family, make_embeds(), 6.0, reopen, resume_at=2), whole)


def test_keyed_noise_of_a_frame_does_not_change_with_the_length_and_stock_noise_does(tmp_path):
    make_pipeline(make_scheduler(CogVideoXDPMScheduler)).save_pretrained(tmp_path)
    for layout, same in (("keyed", True), ("stock", False)):
        short, long = (open_canvas(tmp_path, torch.float32, n, layout) for n in (3, 7))
        for _ in range(STEPS):
            for canvas in (short, long):
                canvas.step(torch.tanh(canvas.latents))
        assert torch.equal(short.latents, long.latents[:, :3]) == same


def test_pickled_weights_are_refused(tmp_path):
    make_pipeline(make_scheduler(CogVideoXDDIMScheduler)).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="pickled"):
        CogVideoX.load(tmp_path, leave_out=LEFT_OUT["transformer"])
    with pytest.raises(FileNotFoundError):
        CogVideoX.load(tmp_path / "absent")


def test_misuse_is_refused(tmp_path):
    family = save(tmp_path, make_pipeline(make_scheduler(CogVideoXDDIMScheduler)))
    with pytest.raises(ValueError, match="text encoder"):
        family.embed("a lighthouse", 6)
    with pytest.raises(ValueError, match="negative"):
        family.predict(torch.zeros(1, 3, 4, 8, 8), torch.tensor(1), make_embeds()[0], None, 6.0)
    with pytest.raises(ValueError, match="layout"):
        open_canvas(tmp_path, torch.float32, layout="stok")
