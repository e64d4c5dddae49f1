"""How much memory this process may still take, and whether an error says that there was none left.

A process on Linux is bounded by what the machine can give without swapping (MemAvailable of /proc/meminfo),
by the limit of each control group that it is in, which is how containers are bounded (version 2, or 1 under
its older names), and by its own address space (RLIMIT_AS). File pages that a group would drop first are free.
Decides: what is free, and which bound says so. Does not decide: what is needed (cluster.cost).
"""

import re
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
_GROUPS = Path("/sys/fs/cgroup")
# Of each version: what lies below _GROUPS, then the files of the limit, of what is used, and the name of what
# of that is file pages, all its groups below counted.
_VERSIONS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_MAIN_TOLD = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
_GPU_TOLD = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True, order=True)
class Free:
    """GiB that may still be taken, and of what they are: "this machine", "the GPU NVIDIA H100 80GB HBM3"."""

    gib: float
    of: str


def free_on(device: str) -> Free:
    """What is free for this process on a device, whose idle cache torch keeps for it."""
    if not device.startswith("cuda"):
        return free_here()
    import torch

    n_bytes, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Free((n_bytes + kept) / GIB, f"the GPU {torch.cuda.get_device_name(device)}")


def free_here() -> Free:
    """What is free of main memory for this process, by the bound that leaves it least."""
    return min(_bounds(_read(Path("/proc/meminfo")), _groups(), _address_space()))


def _bounds(
    meminfo: str, groups: Sequence[tuple[int, int]], address: tuple[int, int] | None
) -> Iterator[Free]:
    """What each bound leaves: of the machine, of groups by (limit, used) in bytes, of the address space."""
    available = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.M)
    if available:
        yield Free(int(available[1]) * 1024 / GIB, "this machine")
    for limit, used in groups:
        yield Free(max(0, limit - used) / GIB, f"the control group's limit of {limit / GIB:.1f} GiB")
    if address:
        limit, used = address
        yield Free(max(0, limit - used) / GIB, f"the process's limit (ulimit -v) of {limit / GIB:.1f} GiB")
    if not (available or groups or address):
        yield Free(float("inf"), "a machine that does not say how much it has")


def _groups() -> list[tuple[int, int]]:
    """(limit, used) in bytes of this process's control groups and of those that hold them, where limited."""
    found = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers in ("", "memory"):
            below, *names = _VERSIONS[controllers == "memory"]
            # In a container the path may be of the host's tree, of which only the root is mounted here.
            places = [Path(own.lstrip("/")), *Path(own.lstrip("/")).parents]
            found += [_group(_GROUPS / below / place, *names) for place in dict.fromkeys(places)]
    return [each for each in found if each is not None]


def _group(folder: Path, most: str, now: str, files: str) -> tuple[int, int] | None:
    """(limit, used) in bytes of one control group, None where it has no limit."""
    limit, used, stat = (_read(folder / name).strip() for name in (most, now, "memory.stat"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = re.search(rf"^{files} (\d+)", stat, re.M)
    return int(limit), int(used) - (int(cached[1]) if cached else 0)


def _address_space() -> tuple[int, int] | None:
    """(limit, used) in bytes of what this process may map, None where it has no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _read(Path("/proc/self/statm")).split()
    return (limit, int(pages[0]) * resource.getpagesize()) if limit >= 0 and pages else None


def _read(path: Path) -> str:
    """A file of the kernel's, empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def ran_out(error: BaseException) -> str:
    """Of which memory there was none left, "GPU" or "main", or "" for an error of another kind."""
    import torch

    text = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, torch.OutOfMemoryError) or any(told in text for told in _GPU_TOLD):
        return "GPU"
    return "main" if isinstance(error, MemoryError) or any(told in text for told in _MAIN_TOLD) else ""
