"""What may change low bits without being wrong: it is set the same everywhere."""

import torch


def set_threads(threads: int) -> None:
    """Threads that torch uses in this process: sums that are split by threads round differently."""
    torch.set_num_threads(threads)


def default_device() -> str:
    """Where this process computes if it is not told: on a GPU if it sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def gpus() -> list[str]:
    """What each GPU of this machine is called. Raises RuntimeError for one that does not compute."""
    names = []
    for number in range(torch.cuda.device_count()):
        device = f"cuda:{number}"
        if float(torch.ones(1024, device=device).sum()) != 1024:
            raise RuntimeError(f"{device_name(device)}, {device}, adds 1024 ones up wrongly")
        names.append(device_name(device))
    return names


def device_name(device: str) -> str:
    """What a device is called by its maker, "cpu" for the processor."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
