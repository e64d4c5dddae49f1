"""The numerics class: what may change low bits without being wrong. It is recorded, never part of a key."""

import platform

import torch


def set_threads(threads: int) -> None:
    """Threads that torch uses in this process: sums that are split by threads round differently."""
    torch.set_num_threads(threads)


def numerics_class(dtype: str, gang_size: int) -> str:
    """One word for what has equal bits: torch's build, processor kind, dtype, threads, ranks of a gang."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    parts = [f"torch{torch.__version__}", device, dtype, f"threads{torch.get_num_threads()}"]
    return "/".join([*parts, f"ulysses{gang_size}"]).replace(" ", "_")
