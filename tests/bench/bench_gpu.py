"""One GPU at published sizes: what a window step and a decode take there, beside what the cost model says.

    python tests/bench/bench_gpu.py --out out/gpu           about 4 minutes on an H100

Weights are random, of published configurations: neither time nor memory depends on what they are. Steps are
guided ones of one window in bfloat16; times are medians by CUDA's events after a first step, memory is the
most that PyTorch's allocator held, without CUDA's context.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from cluster.cost import Shape, estimate, memory
from cluster.machine import GPUS, LATENCY_S, Machine, kind_of
from engine.families.cogvideox import CogVideoX
from engine.families.compiled import compile_blocks
from engine.families.denoiser import denoiser_of
from engine.families.hunyuan import HunyuanVideo
from engine.families.ltx import LTX
from engine.families.offload import offload
from engine.families.published import published
from engine.families.quantise import quantise
from engine.families.wan import Wan
from engine.parallel.axes import Axes

WAYS = (
    "bfloat16", "batch 2", "offload memory", "int8", "int8 compiled", "float8", "float8 compiled", "compiled",
)  # fmt: skip
GIB = 1 << 30
GPU = torch.device("cuda")
ALONE = Axes(1)


@dataclass(frozen=True)
class Contest:
    """A published checkpoint's window: T x H x W latents of so many channels, and tokens of its text."""

    checkpoint: str
    sides: tuple[int, int, int]
    channels: int
    text_tokens: int
    text_width: int
    make: Callable[[], Any]
    turns: int = 3


def on_gpu(kind: type, **config: Any) -> Any:
    """A random model, made on the GPU in bfloat16."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with GPU:
            return kind(**config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def cogvideox(heads: int, layers: int) -> CogVideoX:
    rotary = heads > 30
    transformer = on_gpu(
        CogVideoXTransformer3DModel, num_attention_heads=heads, num_layers=layers,
        use_rotary_positional_embeddings=rotary, sample_height=60, sample_width=90, sample_frames=49,
    )  # fmt: skip
    return CogVideoX(CogVideoXPipeline(None, None, None, transformer, CogVideoXDDIMScheduler()))


def wan(heads: int, layers: int, ffn: int) -> Wan:
    transformer = on_gpu(WanTransformer3DModel, num_attention_heads=heads, num_layers=layers, ffn_dim=ffn)
    return Wan(WanPipeline(None, None, None, UniPCMultistepScheduler(), transformer))


def hunyuan() -> HunyuanVideo:
    transformer = on_gpu(HunyuanVideoTransformer3DModel)
    return HunyuanVideo(HunyuanVideoPipeline(None, None, transformer, None, None, None, None))


def ltx() -> LTX:
    return LTX(LTXPipeline(None, None, None, None, on_gpu(LTXVideoTransformer3DModel)))


COG_5B = Contest("CogVideoX-5B", (13, 60, 90), 16, 226, 4096, lambda: cogvideox(48, 42))
CONTESTS = (
    Contest("CogVideoX-2B", (13, 60, 90), 16, 226, 4096, lambda: cogvideox(30, 30)),
    COG_5B,
    Contest("Wan2.1-1.3B", (21, 60, 104), 16, 512, 4096, lambda: wan(12, 30, 8960)),
    Contest("Wan2.1-14B", (21, 60, 104), 16, 512, 4096, lambda: wan(40, 40, 13824), turns=1),
    Contest("LTX-Video-2B", (21, 15, 22), 128, 128, 4096, ltx),
    Contest("HunyuanVideo", (33, 68, 120), 16, 256, 4096, hunyuan, turns=1),
)


def shape_of(contest: Contest, batch: int = 1) -> Shape:
    """As the cost model sees it."""
    checkpoint = published()[contest.checkpoint]
    frames, height, width = contest.sides
    return Shape(
        contest.checkpoint, "", denoiser_of(checkpoint.denoiser), checkpoint.parameters, "bfloat16", frames,
        height, width, contest.channels, 8, contest.text_tokens, True, batch=batch,
    )  # fmt: skip


def machine() -> Machine:
    """This GPU, as the cost model knows its kind."""
    kind = kind_of(torch.cuda.get_device_name())
    gpu = GPUS[kind]
    return Machine(1, 1, gpu.memory_gib, gpu.tflops, gpu.efficiency, gpu.link_gb_s, 1.25, LATENCY_S, kind)


def asked(contest: Contest, batch: int) -> Callable[[Any], Any]:
    """A guided step of `batch` windows."""
    generator = torch.Generator(GPU).manual_seed(7)
    frames, height, width = contest.sides

    def randn(*shape: int) -> Any:
        return torch.randn(shape, generator=generator, device=GPU).to(torch.bfloat16)

    latents = randn(batch, frames, contest.channels, height, width)
    texts = [{"tokens": randn(batch, contest.text_tokens, contest.text_width)} for _ in range(2)]
    if contest.checkpoint == "HunyuanVideo":
        texts = [{**text, "pooled": randn(batch, 768)} for text in texts]
    timestep = torch.tensor(500.0, device=GPU)
    return lambda family: family.predict(latents, timestep, *texts, 6.0)


def timed(family: Any, step: Callable[[Any], Any], turns: int) -> tuple[float, float]:
    """Median seconds of a step after the first, and GiB held at the most."""
    step(family)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(turns):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step(family)
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / 1000)
    return statistics.median(taken), torch.cuda.max_memory_allocated() / GIB


def steps() -> Iterator[dict[str, Any]]:
    """Each checkpoint's own window, beside what is predicted for it."""
    for contest in CONTESTS:
        family = contest.make()
        seconds, held = timed(family, asked(contest, 1), contest.turns)
        shape, weights = shape_of(contest), sum(p.nbytes for p in family.transformer.parameters()) / GIB
        told, needs = estimate(shape, ALONE, machine()).seconds, memory(shape, ALONE)
        yield {
            "what": contest.checkpoint, "step s": seconds, "told s": told, "held GiB": held,
            "told GiB": needs.weights_gib + needs.activations_gib, "weights GiB": weights,
        }  # fmt: skip
        del family
        empty()


def ways() -> Iterator[dict[str, Any]]:
    """CogVideoX-5B in all ways that a profile may ask for."""
    plain = asked(COG_5B, 1)
    for what in WAYS:
        family = COG_5B.make()
        how = what.split()[0]
        if how == "offload":
            family.pipeline.to("cpu")
            empty()
            offload(family, "memory", GPU)
        if how in ("int8", "float8"):
            quantise(family, how, GPU)
        if "compiled" in what:
            compile_blocks(family)
        began = time.perf_counter()
        seconds, held = timed(family, asked(COG_5B, 2) if how == "batch" else plain, 2)
        spent = time.perf_counter() - began
        yield {"what": f"{COG_5B.checkpoint}, {what}", "step s": seconds, "held GiB": held, "in all s": spent}
        del family
        empty()


def decodes() -> Iterator[dict[str, Any]]:
    """A shot's stream of pixels at a published size, and at twice its length, beside what is predicted."""
    makers = (
        ("CogVideoX-5B", (60, 90), lambda: CogVideoX(
            CogVideoXPipeline(None, None, on_gpu(AutoencoderKLCogVideoX), None, CogVideoXDDIMScheduler()))),
        ("Wan2.1-14B", (60, 104), lambda: Wan(
            WanPipeline(None, None, on_gpu(AutoencoderKLWan), UniPCMultistepScheduler(), None))),
    )  # fmt: skip
    for name, sides, make in makers:
        family, size_px = make(), (8 * sides[1], 8 * sides[0])
        told = machine().decoding_s(published()[name].making.of(size_px), "bfloat16")
        for n_latent in (13, 25):
            latents = torch.randn(1, n_latent, 16, *sides)
            torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            frames = sum(1 for _ in family.frames(latents))
            spent, held = time.perf_counter() - began, torch.cuda.max_memory_allocated() / GIB
            what = f"{name} decodes {n_latent} latents, {size_px[0]}x{size_px[1]}"
            yield {"what": what, "frame s": spent / frames, "told s": told, "held GiB": held}
        del family
        empty()


def empty() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", default="steps,decodes,ways")
    options = parser.parse_args()
    found = []
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for part in options.parts.split(","):
        for row in {"steps": steps, "ways": ways, "decodes": decodes}[part]():
            told = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "what")
            print(f"{row['what']:<44} {told}", flush=True)
            found.append(row)
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / "gpu.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
