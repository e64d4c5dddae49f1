"""One window of ours against CogVideoXPipeline, bit for bit, with a tiny random model."""

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    EulerDiscreteScheduler,
)

from engine.canvas import Canvas
from engine.denoise import denoise_shot
from engine.families.cogvideox import CogVideoX
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows

STEPS, SEED, FRAMES, SIZE = 4, 11, 9, 64
LATENT_FRAMES = (FRAMES - 1) // 4 + 1
SCHEDULERS = [CogVideoXDDIMScheduler, CogVideoXDPMScheduler]
LEFT_OUT = ("tokenizer", "text_encoder", "vae")


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
    return torch.randn((2, 1, 6, 12), generator=generator).to(dtype).unbind(0)


def make_scheduler(kind):
    return kind(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def stock_latents(pipeline, scale, dtype):
    prompt, negative = make_embeds(dtype)
    return pipeline(
        prompt_embeds=prompt, negative_prompt_embeds=negative, height=SIZE, width=SIZE, num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=scale, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def our_latents(family, scale, dtype, n_frames=LATENT_FRAMES, resume_at=None):
    canvas = new_canvas(family, n_frames, dtype)
    windows = plan_windows(n_frames, LATENT_FRAMES, 2)
    weights = blend_weights(windows, n_frames)
    parts = [Part(window, 0) for window in windows]
    shot = denoise_shot(canvas, parts, weights)
    requests = next(shot)
    while True:
        if canvas.step_index == resume_at:
            resume_at, state = None, canvas.checkpoint()
            canvas = new_canvas(family, n_frames, dtype)
            canvas.restore(state)
            shot = denoise_shot(canvas, parts, weights)
            requests = next(shot)
        try:
            requests = shot.send(
                [family.predict(r.latents, r.timestep, *make_embeds(dtype), scale) for r in requests]
            )
        except StopIteration as end:
            return end.value


def new_canvas(family, n_frames, dtype):
    generator = torch.Generator().manual_seed(SEED)
    noise = family.initial_noise(generator, n_frames, SIZE, SIZE, dtype=dtype)
    return Canvas(noise, family.make_scheduler(STEPS), generator)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [6.0, 1.0])
@pytest.mark.parametrize("rotary", [True, False])
def test_one_window_is_bit_identical_to_the_stock_pipeline(kind, dtype, scale, rotary):
    pipeline = make_pipeline(make_scheduler(kind), dtype, rotary)
    ours = our_latents(CogVideoX(pipeline), scale, dtype)
    stock = stock_latents(pipeline, scale, dtype)
    assert ours.dtype == stock.dtype
    assert torch.isfinite(stock).all()
    assert torch.equal(ours, stock)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("n_frames", [LATENT_FRAMES, 7])
def test_resume_is_bit_identical(kind, n_frames):
    family = CogVideoX(make_pipeline(make_scheduler(kind)))
    whole = our_latents(family, 6.0, torch.float32, n_frames)
    assert torch.equal(our_latents(family, 6.0, torch.float32, n_frames, resume_at=2), whole)


def test_a_saved_folder_loads_and_predicts_the_same_bits(tmp_path):
    pipeline = make_pipeline(make_scheduler(CogVideoXDPMScheduler))
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    family = CogVideoX.load(tmp_path, dtype=torch.float32, leave_out=LEFT_OUT)
    assert torch.equal(our_latents(family, 6.0, torch.float32), stock_latents(pipeline, 6.0, torch.float32))


def test_pickled_weights_are_refused(tmp_path):
    make_pipeline(make_scheduler(CogVideoXDDIMScheduler)).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="pickled"):
        CogVideoX.load(tmp_path, leave_out=LEFT_OUT)
    with pytest.raises(FileNotFoundError):
        CogVideoX.load(tmp_path / "absent")


def test_misuse_is_refused():
    family = CogVideoX(make_pipeline(make_scheduler(CogVideoXDDIMScheduler)))
    with pytest.raises(ValueError, match="text encoder"):
        family.encode_prompt("a lighthouse")
    with pytest.raises(ValueError, match="negative"):
        family.predict(torch.zeros(1, 3, 4, 8, 8), torch.tensor(1), make_embeds()[0], None, 6.0)
    family.pipeline.scheduler = EulerDiscreteScheduler()
    with pytest.raises(TypeError, match="Euler"):
        family.make_scheduler(STEPS)
    assert isinstance(family.make_scheduler(STEPS, "dpm"), CogVideoXDPMScheduler)
