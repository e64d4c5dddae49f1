"""Claims about finding a Ray or starting one, in a process that has none yet."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.connect import Unreachable, connect

ROOT = Path(__file__).parent.parent
OWN_RAY = """
import os
import ray
from cluster.connect import connect

with connect():
    (node,) = ray.nodes()
    print(node["NodeManagerAddress"])
    print(*[pid for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == os.getpid()])
print(ray.is_initialized())
"""
PARENT = """
def parent(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
"""


@pytest.mark.parametrize(
    "address", ["127.0.0.2:1", "127.0.0.1:1", "ray://127.0.0.2:1", "no.such.host.invalid:6379", "nonsense"]
)
def test_an_address_where_no_ray_is_says_so_at_once(address):
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no Ray cluster at ") as raised, connect(address):
        pass
    assert address in str(raised.value) and "\n" not in str(raised.value)
    assert time.monotonic() - began < 10


def test_without_an_address_ray_is_started_for_this_machine_alone_and_ended():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", PARENT + OWN_RAY]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    address, children, initialised = ran.stdout.splitlines()
    assert address.startswith("127.")
    assert len(children.split()) >= 2  # the control store and the node's own process, at least
    assert not [pid for pid in children.split() if os.path.exists(f"/proc/{pid}")]
    assert initialised == "False"
