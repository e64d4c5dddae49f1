"""Claims about free memory, and errors that say there is none: real ones, of a process with a real limit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import memory
from engine.memory import GIB, Free, free_here, ran_out

ROOT = Path(__file__).parent.parent
LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
import torch
from engine.memory import free_here, ran_out
torch.set_num_threads(1)
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (256 << 20), resource.RLIM_INFINITY))
free = free_here()
assert 0.2 < free.gib <= 0.25 and "ulimit -v" in free.of, free
for ask in (lambda: torch.zeros(1 << 28), lambda: bytearray(1 << 30)):
    try:
        ask()
    except Exception as error:
        print(ran_out(error))
"""


def test_a_process_of_little_address_space_sees_it_and_its_real_errors_are_told():
    script = LIMITED.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["main", "main"]


def test_the_bound_that_leaves_least_counts():
    meminfo = "MemTotal:       24684092 kB\nMemFree: 1 kB\nMemAvailable:   8388608 kB\n"
    groups, address = [(4 * GIB, 3 * GIB), (2**63 - 4096, GIB)], (6 * GIB, GIB)
    assert min(memory._bounds(meminfo, [], None)) == Free(8.0, "this machine")
    assert min(memory._bounds(meminfo, groups, address)) == Free(1.0, "the control group's limit of 4.0 GiB")
    assert min(memory._bounds(meminfo, [(GIB, 2 * GIB)], None)).gib == 0
    assert min(memory._bounds(meminfo, [], address)) == Free(
        5.0, "the process's limit (ulimit -v) of 6.0 GiB"
    )
    assert min(memory._bounds("", [], None)).gib == float("inf")


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_both_versions_are_read_up_to_the_root(tmp_path, monkeypatch, version):
    below, limit, used, cached = (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )[2 - version]
    for place, most in (("", str(4 * GIB)), ("pod", str(2 * GIB)), ("pod/box", "max")):
        folder = tmp_path / "fs" / below / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text(f"{GIB}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{cached} {GIB // 2}\n")
    own = "0::/pod/box\n" if version == 2 else "5:devices:/\n4:memory:/pod/box\n"
    (tmp_path / "cgroup").write_text(own)
    read = memory._read
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "fs")
    monkeypatch.setattr(
        memory, "_read", lambda path: read(tmp_path / "cgroup" if "self/cgroup" in str(path) else path)
    )
    assert memory._groups() == [(2 * GIB, GIB // 2), (4 * GIB, GIB // 2)]


def test_what_is_free_here_is_no_more_than_the_machine_has():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 0 < free_here().gib <= int(total.split()[1]) / 2**20


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "GPU"),
        (RuntimeError("CUDA error: out of memory"), "GPU"),
        (MemoryError(), "main"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "main"),
        (RuntimeError("Connection closed by peer [127.0.0.1]:4012"), ""),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), ""),
    ],
)
def test_errors_are_told_apart(error, kind):
    assert ran_out(error) == kind
