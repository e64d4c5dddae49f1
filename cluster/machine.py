"""A farm as the cost model sees it: equal nodes of equal GPUs, and how fast they talk. No Ray.

Decides: what is taken for granted of a kind of GPU. Does not decide: what runs on it (choose).
"""

from collections.abc import Mapping
from dataclasses import dataclass

BETWEEN_GB_S = 1.25  # of nodes, where nobody says: 10 Gb/s
LATENCY_S = 1e-4  # of a collective, with the reshaping around it; published speed-ups bear 0.05 to 0.2 ms
# Of a transformer's speed, what an autoencoder's convolutions reach. On an H100 (tests/bench/bench_gpu.py)
# CogVideoX decoded a frame of 720 x 480 in 0.06 s, and Wan one of 832 x 480 in 0.03 s: 107 and 113 TFLOP/s,
# where transformers reach 331.
DECODING_SHARE = 1 / 3
# float32 by the GPU's ordinary units: an H100 has 67 TFLOP/s of 989, an A100 19.5 of 312
FLOAT32_SHARE = 1 / 16


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: memory, dense bfloat16 by its data sheet, and the link to its neighbours, one way.

    `efficiency` is the share of that speed which a video transformer's forward reaches on one of them.
    """

    memory_gib: float
    tflops: float
    efficiency: float
    link_gb_s: float


# Efficiencies are those of one-GPU times that were published. H100: HunyuanVideo 720x1280x129 in 1904 s and
# ConsisID in 114.9 s (xDiT), Open-Sora 2 in 1656 s (its README), a step of Wan 2.1 14B in 9.77 s (diffusers,
# by LightX2V). H20: HunyuanVideo in 6639 s, a step of Step-Video in 213.6 s. L20: HunyuanVideo in 6044 s.
# L40: CogVideoX1.5 at 6.12x in under 10 minutes (all xDiT). RTX 4090: Wan 2.1 1.3B 480p in about 4 minutes
# (its README). The others are assumed to lie between.
_ASSUMED = 0.55
# NVLink of 450 GB/s one way carries about 300. PCIe 4.0 x16 carries about 8 from GPU to GPU through the host,
# which is what HunyuanVideo on 4 L20 (2.91x) and CogVideoX1.5 on 8 L40 (6.12x) show.
_NVLINK, _PCIE = 300.0, 8.0
GPUS: Mapping[str, Gpu] = {
    "A10G": Gpu(22.5, 70.0, _ASSUMED, _PCIE),
    "A100-40G": Gpu(39.6, 312.0, _ASSUMED, 200.0),
    "A100-80G": Gpu(79.3, 312.0, _ASSUMED, 200.0),
    "B200": Gpu(178.0, 2250.0, 0.335, 600.0),
    "H100": Gpu(79.6, 989.0, 0.335, _NVLINK),
    "H20": Gpu(95.6, 148.0, 0.62, _NVLINK),
    "H200": Gpu(139.8, 989.0, 0.335, _NVLINK),
    "L20": Gpu(44.5, 119.5, 0.84, _PCIE),
    "L4": Gpu(22.5, 60.5, _ASSUMED, _PCIE),
    "L40": Gpu(44.4, 181.0, 0.71, _PCIE),
    "L40S": Gpu(44.4, 362.0, _ASSUMED, _PCIE),
    "RTX 4090": Gpu(24.0, 165.0, 0.65, _PCIE),
}


def kind_of(name: str) -> str:
    """The kind of GPU that a device's full name tells, such as H100; else the name as it is."""
    return max((kind for kind in GPUS if kind in name), key=len, default=name)


@dataclass(frozen=True)
class Machine:
    """`nodes` equal nodes of `gpus` GPUs each, called `gpu` if their kind has a name.

    tflops is dense bfloat16 by the data sheet, of which `efficiency` is reached; inside_gb_s goes from a GPU
    to its neighbours on a node, one way, between_gb_s out of a node; latency_s is waited at a collective.
    """

    nodes: int
    gpus: int
    memory_gib: float
    tflops: float
    efficiency: float
    inside_gb_s: float
    between_gb_s: float
    latency_s: float
    gpu: str = ""

    @property
    def n_gpus(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus

    def operations_s(self, dtype: str) -> float:
        """Operations a second that one GPU reaches in a dtype."""
        return self.tflops * 1e12 * self.efficiency * (FLOAT32_SHARE if dtype == "float32" else 1.0)

    def decoding_s(self, operations: float, dtype: str) -> float:
        """Seconds that one GPU takes to decode by so many operations."""
        return operations / (DECODING_SHARE * self.operations_s(dtype))
