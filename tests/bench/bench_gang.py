"""Does a gang pay? One guided step of a transformer by two ranks of one thread each, against one such rank.

    python tests/bench/bench_gang.py            about 2 minutes on 2 idle cores; exits 1 where a claim fails

Beside our axes stands cache-dit's Ulysses on the same model, gloo and two cores; `make bench`
installs it for this. Every contestant has processes of its own and waits idle while another is measured; they
take turns, and a figure is the median of its turns over that of one rank. All predictions are compared first.
"""

import argparse
import multiprocessing as mp
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from engine.families.cogvideox import CogVideoX
from engine.parallel.axes import DEEPSPEED, FUSED, Axes
from engine.parallel.gang import form_mesh, serve_rendezvous
from engine.parallel.spread import parallelise

MOST, NO_SLOWER = 0.6, 1.0  # of one rank's time; of the peer's
HEADS, HEAD_DIM, LAYERS, TEXT = 12, 32, 6, 96  # four times the weights of chalk's transformer
OURS = {
    "cfg 2": (Axes(2, cfg=2), DEEPSPEED),
    "ring 2": (Axes(2, ring=2), DEEPSPEED),
    "ulysses 2, deepspeed": (Axes(2, ulysses=2), DEEPSPEED),
    "ulysses 2, fused": (Axes(2, ulysses=2), FUSED),
}
PEER = "cache-dit ulysses 2"


def make_family() -> CogVideoX:
    """Chalk's transformer, twice as wide, with random weights."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=HEAD_DIM, in_channels=4, out_channels=4, patch_size=4,
        time_embed_dim=32, text_embed_dim=TEXT, num_layers=LAYERS, sample_width=24, sample_height=16,
        sample_frames=49, max_text_seq_length=24, use_rotary_positional_embeddings=True,
    ).eval()  # fmt: skip
    return CogVideoX(CogVideoXPipeline(None, None, None, transformer, CogVideoXDDIMScheduler()))


def inputs() -> tuple[Any, ...]:
    """A window of 13 latent frames of 64 x 96 pixels, and two texts."""
    drawn = torch.Generator().manual_seed(1)
    prompt, negative = torch.randn((2, 1, 24, TEXT), generator=drawn)
    latents = torch.randn((1, 13, 4, 16, 24), generator=drawn)
    return latents, torch.tensor(500), {"tokens": prompt}, {"tokens": negative}, 3.0


def shared_by_cache_dit(family: CogVideoX, port: int, rank: int) -> None:
    """Its own way, as its guide has it."""
    import cache_dit

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    cache_dit.enable_cache(family.transformer, parallelism_config=cache_dit.ParallelismConfig(ulysses_size=2))


def work(name: str, rank: int, port: int, pipe: Any) -> None:
    """One process of a contestant: predicts whenever it is told to."""
    torch.set_num_threads(1)
    family = make_family()
    if name in OURS:
        axes, exchange = OURS[name]
        parallelise(family, form_mesh("127.0.0.1", port, name, rank, axes, 60.0, exchange))
    elif name == PEER:
        shared_by_cache_dit(family, port, rank)
    arguments = inputs()
    pipe.send(family.predict(*arguments).float().numpy())
    while pipe.recv():
        began = time.perf_counter()
        family.predict(*arguments)
        pipe.send(time.perf_counter() - began)


class Contestant:
    """Its processes; `turn` has them predict once and says how long the slowest took, in seconds."""

    def __init__(self, name: str, ranks: int, port: int) -> None:
        self.name, context = name, mp.get_context("spawn")
        pairs = [context.Pipe() for _ in range(ranks)]
        self.pipes = [ours for ours, _ in pairs]
        for rank, (_, theirs) in enumerate(pairs):
            context.Process(target=work, args=(name, rank, port, theirs), daemon=True).start()
        self.prediction, *_ = [torch.from_numpy(pipe.recv()) for pipe in self.pipes]

    def turn(self) -> float:
        for pipe in self.pipes:
            pipe.send(True)
        return max(pipe.recv() for pipe in self.pipes)

    def end(self) -> None:
        for pipe in self.pipes:
            pipe.send(False)


def contestants(free_port: Callable[[], int]) -> list[Contestant]:
    """One rank, our axes and the peer, each warm and each in agreement with the first."""
    store = serve_rendezvous("127.0.0.1")
    all_of_them = [Contestant("one rank", 1, 0)]
    all_of_them += [Contestant(name, 2, store.port) for name in OURS]
    all_of_them.append(Contestant(PEER, 2, free_port()))
    for each in all_of_them[1:]:
        off = float((each.prediction - all_of_them[0].prediction).abs().max())
        assert off < 1e-4, f"{each.name} predicts something else: off by {off:.1e}"
    return all_of_them


def a_free_port() -> int:
    """Of the loopback; free a moment ago."""
    store = serve_rendezvous("127.0.0.1")
    return int(store.port)


def main() -> None:
    """Print a line for each, and exit 1 where a gang does not pay or the peer is faster."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    everyone = contestants(a_free_port)
    seconds: dict[str, list[float]] = {each.name: [] for each in everyone}
    for _ in range(turns):
        for each in everyone:
            seconds[each.name].append(each.turn())
    for each in everyone:
        each.end()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:22} {1000 * median:7.1f} ms   {median / medians['one rank']:.2f} of one rank")
    best = min(medians[name] for name in OURS)
    ours = min(medians[name] for name in OURS if "ulysses" in name)
    print(f"best of ours {best / medians['one rank']:.2f} of one rank (at most {MOST})")
    print(f"our faster ulysses 2 takes {ours / medians[PEER]:.2f} of cache-dit's (at most {NO_SLOWER})")
    sys.exit(best > MOST * medians["one rank"] or ours > NO_SLOWER * medians[PEER])


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    main()
