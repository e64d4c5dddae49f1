"""What may change low bits without being wrong: it is set the same everywhere."""

import torch


def set_threads(threads: int) -> None:
    """Threads that torch uses in this process: sums that are split by threads round differently."""
    torch.set_num_threads(threads)


def default_device() -> str:
    """Where this process computes if it is not told: on a GPU if it sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """What a device is called by its maker, "cpu" for the processor."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
