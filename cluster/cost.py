"""What a window step takes of a gang: seconds and memory, by arithmetic or as measured. No torch, no Ray.

S tokens of a window with its text, D width of attention, u ulysses and r ring ranks, N = r u that share a
sequence, b bytes of a number. Sent by a rank in a forward of L blocks (Ulysses arXiv:2309.14509, ring
arXiv:2310.01889, both together arXiv:2405.07719):

    ulysses  4 (S D / N) (u - 1) / u b L        ring  2 (S D / N) (r - 1) b L, behind the attention meanwhile

Several windows in one forward compute and send as much as one after another, but a block that lasts no longer
than its kernels' starts (BLOCK_S) lasts so once for all of them.
Decides: what one window step costs. Does not decide: which axes (choose) or batches (batch) pay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from cluster.machine import Machine
from engine.families.denoiser import Denoiser
from engine.parallel.axes import Axes, shares

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTISED_ROW = {"int8": 5, "float8": 4}  # bytes beside a row's 8-bit numbers: its scale, int8's zero point
GIB = 1 << 30
# Hidden states (S D) that a forward holds at once. tests/bench/bench_gpu.py counted on an H100, in bfloat16:
# CogVideoX 2B 14.7 and 5B 13.2, Wan 2.1 1.3B 16.6 and 14B 11.6, LTX-Video 2B 16.9, HunyuanVideo 18.3. A fifth
# more is for what an allocator leaves between them. (HunyuanVideo's own code holds 47 by its README.)
HELD = 22
RESERVE_GIB = 1.5  # CUDA's context and the buffers of collectives
LATENT_BYTES = 4  # windows travel in float32
RING_SPEED = 0.9  # of attention that a ring cuts into smaller kernels and merges: assumed
BLOCK_S = 2e-4  # that a block lasts at least: the host starts its twenty kernels or so one after another


@dataclass(frozen=True)
class Shape:
    """A window to be predicted: of which model, T x H x W latents of so many channels, under how much text.

    name tells people which; digest is the model's identity; parameters are those of all that a rank loads;
    scale is pixels a latent. guided says that guidance is on: a model which is not told it has two branches.
    zero and offload are the profile's: where weights lie between forwards.
    Of the parameters `linear` are those of linear layers, in so many `rows`, which quantise keeps in 8 bits;
    compile says that kernels are torch.compile's.
    """

    name: str
    digest: str
    denoiser: Denoiser
    parameters: int
    dtype: str
    frames: int
    height: int
    width: int
    channels: int
    scale: int
    text_tokens: int
    guided: bool
    zero: bool = False
    offload: str = ""
    linear: int = 0
    rows: int = 0
    quantise: str = ""
    compile: bool = False
    batch: int = 1  # windows of a forward, as memory is judged
    first_block: bool = False  # blocks are left out, by what a rank that has all tokens sees

    @property
    def weights_bytes(self) -> int:
        """Of the weights as a rank holds them."""
        return weights_bytes(self.parameters, self.dtype, self.quantise, self.linear, self.rows)

    @property
    def branches(self) -> int:
        """Forwards of a step."""
        return 2 if self.guided and not self.denoiser.told else 1

    @property
    def tokens(self) -> int:
        """Of the video."""
        return self.denoiser.tokens(self.frames, self.height, self.width)

    @property
    def sequence(self) -> int:
        """Tokens that attend to each other: text too, where some block joins it."""
        joined = any(blocks.joint for blocks in self.denoiser.blocks)
        return self.tokens + self.text_tokens * joined

    @property
    def latent_bytes(self) -> int:
        """Of the window as it travels."""
        return LATENT_BYTES * self.channels * self.frames * self.height * self.width


@dataclass(frozen=True)
class Step:
    """Seconds of one window step: computing, sending what nothing hides, waiting for collectives."""

    compute_s: float
    exchange_s: float = 0.0
    wait_s: float = 0.0
    measured: bool = False

    @property
    def seconds(self) -> float:
        """In all."""
        return self.compute_s + self.exchange_s + self.wait_s

    def times(self, factor: float) -> "Step":
        """A step that takes so many times as long."""
        return Step(self.compute_s * factor, self.exchange_s * factor, self.wait_s * factor, self.measured)


Measured = Mapping[str, float]  # seconds a step of a window, or of a batch of them, by measure_key


def weights_bytes(parameters: int, dtype: str, quantise: str = "", linear: int = 0, rows: int = 0) -> int:
    """Of so many parameters; `linear` of them, in so many rows, are in 8 bits where quantise says so."""
    if not quantise:
        return parameters * BYTES[dtype]
    return (parameters - linear) * BYTES[dtype] + linear + QUANTISED_ROW[quantise] * rows


def precision(dtype: str, quantise: str, compile: bool, waits: str = "") -> str:
    """What a window is computed in, as measure_key tells it from others: "bfloat16", "bfloat16 int8"."""
    return " ".join(filter(None, (dtype, quantise, "compiled" if compile else "", waits)))


def waits_in(zero: bool, offload: str) -> str:
    """Where weights lie between forwards, as measure_key has it; empty where they stay."""
    return "zero" if zero else offload and f"from-{offload}"


def measure_key(
    digest: str,
    precision: str,
    size: tuple[int, int, int],
    guided: bool,
    axes: Axes,
    device: str,
    batch: int = 1,
) -> str:
    """What measured seconds hold for: T latents x H x W pixels of a model, on a gang with these axes.

    Of `batch` such windows in one forward; precision says how its weights are, and where they wait.
    """
    window = f"{precision} {'x'.join(map(str, size))} {'guided' if guided else 'unguided'}"
    together = f" batch{batch}" if batch > 1 else ""  # what was measured before there were any is found
    return f"{digest[:16]} {window} cfg{axes.cfg} ring{axes.ring} ulysses{axes.ulysses} {device}{together}"


def measured_s(
    shape: Shape, axes: Axes, device: str, measured: Measured | None, batch: int = 1
) -> float | None:
    """Seconds that `batch` windows in one forward took, if ranks measured it on this kind of device."""
    size = (shape.frames, shape.height * shape.scale, shape.width * shape.scale)
    kind = precision(shape.dtype, shape.quantise, shape.compile, waits_in(shape.zero, shape.offload))
    key = measure_key(shape.digest, kind, size, shape.guided, axes, device, batch)
    return measured.get(key) if measured else None


def window_step(shape: Shape, axes: Axes, machine: Machine, measured: Measured | None = None) -> Step:
    """What a gang takes for a window: as ranks measured it on this kind of machine, else by arithmetic."""
    known = measured_s(shape, axes, machine.gpu, measured)
    return estimate(shape, axes, machine) if known is None else Step(known, measured=True)


def off_by(shape: Shape, gangs: Iterable[Axes], machine: Machine, measured: Measured | None) -> float:
    """How many times as long as by arithmetic windows took of those gangs that were measured; 1 if none was.

    What one gang shows of a GPU's efficiency is true of all: without it a measured gang that is slower than
    arithmetic has it would lose against gangs that nobody measured.
    """
    known = {axes: measured_s(shape, axes, machine.gpu, measured) for axes in gangs} if measured else {}
    ratios = [s / estimate(shape, axes, machine).seconds for axes, s in known.items() if s is not None]
    return median(ratios) if ratios else 1.0


def estimate(shape: Shape, axes: Axes, machine: Machine, batch: int = 1) -> Step:
    """What a gang takes for `batch` windows in one forward, by arithmetic."""
    branches = _branches_together(shape, axes)
    forwards = shape.branches / min(axes.cfg, shape.branches) / branches
    compute_s, attention_s = _computing(shape, axes, machine, branches * batch)
    sent_s, wait_s = _sequence(shape, axes, machine, attention_s, branches * batch)
    moved_s, paused_s = _around(shape, axes, machine)
    exchange_s = forwards * sent_s + batch * moved_s
    return Step(forwards * compute_s, exchange_s, forwards * wait_s + paused_s)


def _branches_together(shape: Shape, axes: Axes) -> int:
    """Branches of guidance that are one forward."""
    return shape.branches if shape.denoiser.one_batch and axes.cfg == 1 else 1


def _computing(shape: Shape, axes: Axes, machine: Machine, batch: int) -> tuple[float, float]:
    """Seconds of one forward of this batch on the busiest rank, and those of its attention."""
    matrices, attention = (batch * n for n in shape.denoiser.operations(shape.tokens, shape.text_tokens))
    speed = machine.operations_s(shape.dtype)
    of_tokens = max(shares(shape.sequence, axes.sequence)) / shape.sequence
    heads = shape.denoiser.heads
    of_heads = max(shares(heads, axes.ulysses)) / heads / axes.ring
    attention_s = attention * of_heads / speed / (RING_SPEED if axes.ring > 1 else 1.0)
    compute_s = matrices * of_tokens / speed + attention_s
    drawn_out = max(1.0, shape.denoiser.n_blocks * BLOCK_S / compute_s)
    return compute_s * drawn_out, attention_s * drawn_out


def _sequence(
    shape: Shape, axes: Axes, machine: Machine, attention_s: float, batch: int
) -> tuple[float, float]:
    """Seconds that one forward's ulysses and ring send beyond what attention hides, and wait."""
    blocks, ring, ulysses = shape.denoiser.n_blocks, axes.ring, axes.ulysses
    traded_s, rotated_s = (batch * sent / (machine.inside_gb_s * 1e9) for sent in sent_bytes(shape, axes))
    hidden_s = attention_s * (ring - 1) / ring  # a place attends to what it has while the next comes
    collectives = blocks * (4 * (ulysses > 1) + (ring - 1))
    return traded_s + max(0.0, rotated_s - hidden_s), collectives * machine.latency_s


def sent_bytes(shape: Shape, axes: Axes) -> tuple[float, float]:
    """What each rank sends in one forward by ulysses and by ring, as told above."""
    share = (
        shape.sequence * shape.denoiser.width / axes.sequence * BYTES[shape.dtype] * shape.denoiser.n_blocks
    )
    return 4 * share * (axes.ulysses - 1) / axes.ulysses, 2 * share * (axes.ring - 1)


def moved_bytes(shape: Shape) -> int:
    """What a step of one window sends to its gang and back."""
    return 2 * shape.latent_bytes


def _around(shape: Shape, axes: Axes, machine: Machine) -> tuple[float, float]:
    """Seconds of a step beside its forwards: the window comes and goes, branches of guidance are gathered."""
    split = axes.cfg > 1
    link = machine.inside_gb_s if machine.nodes == 1 else min(machine.inside_gb_s, machine.between_gb_s)
    if machine.n_gpus == 1:
        return 0.0, 0.0
    moved_s = moved_bytes(shape) / (link * 1e9)
    return moved_s + split * shape.latent_bytes / (machine.inside_gb_s * 1e9), split * machine.latency_s


@dataclass(frozen=True)
class Memory:
    """GiB that each rank of a gang needs, of its GPU or of main memory.

    pixels_gib are those of a decoder that stands beside it on its GPU.
    """

    weights_gib: float
    activations_gib: float
    reserve_gib: float = field(default=RESERVE_GIB)
    pixels_gib: float = 0.0

    @property
    def gib(self) -> float:
        """In all."""
        return self.weights_gib + self.activations_gib + self.reserve_gib + self.pixels_gib

    def of_ranks(self, n: int) -> "Memory":
        """What n ranks need that share a memory."""
        return Memory(n * self.weights_gib, n * self.activations_gib, n * self.reserve_gib)


def memory(shape: Shape, axes: Axes, batch: int = 0) -> Memory:
    """What a rank holds on its GPU: weights, and its share of what a forward makes on the way.

    All weights, whatever the axes; its part of them where ZeRO-3 shares them out, none where they wait
    elsewhere, and then those of a block that computes. Of a forward of `batch` windows, or of the shape's own
    with 0, times two where both branches of guidance share it.
    """
    size, batch = BYTES[shape.dtype], batch or shape.batch
    tokens = max(shares(shape.sequence, axes.sequence))
    held = HELD * _branches_together(shape, axes) * batch * tokens * shape.denoiser.width * size
    return Memory(_weights_bytes(shape, axes) / GIB, held / GIB)


def main_memory(shape: Shape, axes: Axes, on_gpu: bool) -> Memory:
    """What a rank takes of main memory at the most.

    Weights come into it whole, whatever becomes of them then; on a CPU a forward's activations follow.
    """
    whole_gib = shape.parameters * BYTES[shape.dtype] / GIB
    if on_gpu:
        return Memory(whole_gib, 0.0, 0.0)
    kept = memory(replace(shape, offload=""), axes)  # weights that wait in memory are in it, too
    return Memory(max(kept.weights_gib, whole_gib - kept.activations_gib), kept.activations_gib, 0.0)


def _weights_bytes(shape: Shape, axes: Axes) -> int:
    """Of those that a rank's GPU holds at once."""
    size, block = BYTES[shape.dtype], max(blocks.video + blocks.text for blocks in shape.denoiser.blocks)
    if shape.offload:
        return min(block, shape.parameters) * size
    if shape.zero:
        return min(-(-shape.parameters // axes.ranks) + block, shape.parameters) * size
    return shape.weights_bytes
