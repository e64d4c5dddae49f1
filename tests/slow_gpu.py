"""The engine on a CUDA GPU: what it computes there, against the same on the CPU and against diffusers' own.

Not part of `make test`, which needs no GPU; `make gpu` runs it on one and fails where there is none. Models
are tiny and random, as elsewhere, but for chalk. Numbers are told with every test (`-rA` shows them).
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor

from engine.chalk.model import GUIDANCE, WEIGHTS
from engine.denoise import denoise_here
from engine.families.compiled import compile_blocks
from engine.families.facts import read_facts
from engine.families.loading import load_part, new_canvas
from engine.families.ltx import LTX
from engine.families.offload import offload
from engine.families.quantise import quantise
from engine.memory import free_on, ran_out
from engine.numerics import default_device
from engine.parallel.attention import attention_with_lse, merge, plain_attention
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from tests.test_engine_decode_paths import PATHS, alone, by_h3_step, shot_of
from tests.test_engine_parallel import CASES, make_family
from tests.test_engine_parallel import predict as predict_case

GPU = "cuda"
ON_CPU = {name: case for name, case in CASES.items() if not case.quantise}


@pytest.fixture(autouse=True, scope="session")
def a_gpu():
    """float32 is float32: the CPU has no shorter products to be compared with."""
    assert default_device() == GPU, "no CUDA GPU: this suite is for machines with one"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def to_gpu(family):
    """The family with all its parts on the GPU."""
    for part in vars(family.pipeline).values():
        if isinstance(part, torch.nn.Module):
            part.to(GPU)
    family.computes_on = torch.device(GPU)
    return family


def off(found, true):
    """Root mean square of what is off, as a share of what should be."""
    found, true = found.detach().double().cpu(), true.detach().double().cpu()
    return float(torch.linalg.norm(found - true) / torch.linalg.norm(true))


@pytest.mark.parametrize("name", ON_CPU)
def test_every_family_predicts_on_a_gpu_what_it_predicts_on_the_cpu(name):
    case = ON_CPU[name]
    here, there = make_family(case), to_gpu(make_family(case))
    found = predict_case(there, case)
    error = off(found, predict_case(here, case))
    print(f"{name}: {error:.1e}")
    assert error < (1e-5 if case.dtype == torch.float32 else 5e-2)
    assert torch.equal(predict_case(there, case), found)  # and the same bits again


@pytest.mark.parametrize("name", PATHS)
def test_every_stream_on_a_gpu_has_the_bytes_of_the_whole_decode_there(name):
    path, most = PATHS[name], 0
    for kind, make_vae in path.ways:
        torch.manual_seed(0)
        family = to_gpu(alone(kind, make_vae()))
        z_BTCHW, shot = shot_of(family, path.n_latent, path.sides)
        made_on = "cpu" if kind is LTX else GPU  # constants that the whole decode is told
        with torch.no_grad(), torch.device(made_on):
            whole = path.whole(family, z_BTCHW.transpose(1, 2).to(GPU))
        if path.whole is not by_h3_step:
            whole = VideoProcessor().postprocess_video(whole, "np")
        want = (whole[0] * 255).round()
        frames = zip(family.frames(shot), want, strict=True)
        most = max(most, *(int(np.abs(frame.astype(int) - wanted).max()) for frame, wanted in frames))
    print(f"{name}: {most} of 255")
    assert most <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", [16, 64, 128])
def test_attention_to_two_halves_of_the_keys_is_attention_to_all_of_them(dtype, head):
    generator = torch.Generator(GPU).manual_seed(3)
    q, k, v = (torch.randn(2, 250, 5, head, device=GPU, generator=generator).to(dtype) for _ in range(3))
    halves = [attention_with_lse(q, k[:, part], v[:, part]) for part in (slice(0, 117), slice(117, None))]
    found, _ = merge(*halves)
    exact = plain_attention(*(x.double().cpu() for x in (q, k, v)))
    error = off(found, exact)
    print(f"{dtype}, heads of {head}: {error:.1e}")
    assert error < (1e-5 if dtype == torch.float32 else 5e-3)


def embeds(dtype, device):
    text, length = load_part(WEIGHTS, "text", dtype, device), read_facts(WEIGHTS).max_text_tokens
    return [text.embed(words, length) for words in ("a red sun rises over blue waves", "")]


def render(dtype, device, family=None, n_frames=25):
    """Latents of 25 latent frames of chalk in three windows and 8 steps."""
    family = family or load_part(WEIGHTS, "transformer", dtype, device)
    texts = embeds(dtype, device)
    channels = family.transformer.config.in_channels
    canvas = new_canvas(
        WEIGHTS, seed=5, shot="s", n_frames=n_frames, frame_shape=(channels, 16, 24), dtype=dtype, n_steps=8,
        window=13,
    )  # fmt: skip
    windows = plan_windows(n_frames, 13, 4)
    weights = blend_weights(windows, n_frames)

    def predict(request):
        return family.predict(request.latents, request.timestep, *texts, GUIDANCE)

    return denoise_here(canvas, [Part(window, 0) for window in windows], weights, predict)


@pytest.fixture(scope="session")
def chalk_on_cpu():
    return render("float32", "cpu")


def test_a_shot_of_chalk_in_float32_is_the_same_on_both(chalk_on_cpu):
    found = render("float32", GPU)
    error = off(found, chalk_on_cpu)
    print(f"chalk in float32: {error:.1e}")
    assert error < 1e-3
    assert torch.equal(render("float32", GPU), found)


def test_a_shot_of_chalk_in_bfloat16_shows_the_same_pictures(chalk_on_cpu):
    found = render("bfloat16", GPU)
    vae = load_part(WEIGHTS, "vae", "float32", GPU)
    shown, wanted = (np.stack(list(vae.frames(z))).astype(float) for z in (found, chalk_on_cpu))
    psnr = 10 * np.log10(255**2 / np.mean((shown - wanted) ** 2))
    print(f"chalk in bfloat16: {psnr:.1f} dB from float32 on the CPU")
    assert psnr > 30


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_weights_that_wait_elsewhere_predict_the_same_bits_on_less_of_the_gpu(where):
    def wide():
        case = replace(ON_CPU["CogVideoX, even tokens, guided"], heads=64)
        return case, make_family(case)

    case, family = wide()
    want = predict_case(to_gpu(family), case)
    n_bytes = sum(p.nbytes for p in family.transformer.parameters())
    del family
    torch.cuda.empty_cache()
    _, family = wide()
    offload(family, where, GPU)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = predict_case(family, case)
    peak = torch.cuda.max_memory_allocated() - before
    print(f"{where}: {n_bytes / 2**20:.0f} MiB of weights, {peak / 2**20:.0f} MiB at the most")
    assert torch.equal(found, want) and peak < 0.8 * n_bytes


@pytest.mark.parametrize("how", ["int8", "float8"])
def test_weights_in_8_bits_predict_nearly_the_same(how):
    case = replace(ON_CPU["CogVideoX, half precision"], heads=16)
    want = predict_case(to_gpu(make_family(case)), case)
    family = make_family(case)
    quantise(family, how, GPU)
    error = off(predict_case(family, case), want)
    print(f"{how}: {error:.1e}")
    assert 0 < error < (0.06 if how == "int8" else 0.3)


def test_compiled_blocks_predict_the_same_but_for_rounding():
    case = ON_CPU["CogVideoX, uneven tokens"]
    family = to_gpu(make_family(case))
    want = predict_case(family, case)
    compile_blocks(family)
    error = off(predict_case(family, case), want)
    print(f"compiled: {error:.1e}")
    assert error < 1e-5


def test_a_gpu_that_ran_out_of_memory_says_so_and_goes_on():
    free = free_on(GPU)
    assert 0 < free.gib < 1000 and "GPU" in free.of
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(int(2 * free.gib * 2**30), dtype=torch.uint8, device=GPU)
    assert ran_out(caught.value) == "GPU"
    assert float(torch.ones(3, device=GPU).sum()) == 3
