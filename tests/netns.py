"""Hosts on this machine: each has its own network, processes, name, shared memory and temporary folder.

They hang on a switch in a namespace of its own, so that nothing outside changes, and they see the machine's
disk, as hosts see a file server. A host can lose its power or its link, and be started again.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SUBNET = "198.18.7"  # of RFC 2544, for tests of networks
NEEDED = (
    "hosts in network namespaces need Linux, root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and the commands ip "
    "(iproute2), unshare and nsenter (util-linux): run it as root, in a container with --privileged"
)
_OURS = re.compile(r"lt(\d+)(sw|h\d+)")


class NotPermitted(Exception):
    """Network namespaces cannot be made here: what is needed."""


def _ip(*words: str) -> str:
    try:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise NotPermitted(f"{NEEDED}; `ip {' '.join(words)}` says: {said}") from error


@dataclass
class Host:
    """One host; `number` is the last part of its address, and of its name."""

    number: int
    folder: str  # its own, empty at each start; the same path on every host
    process: subprocess.Popen[bytes] | None = None
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path(os.devnull)

    @property
    def space(self) -> str:
        """Its network namespace."""
        return f"lt{os.getpid()}h{self.number}"

    @property
    def address(self) -> str:
        """Its address on the switch."""
        return f"{SUBNET}.{10 + self.number}"

    @property
    def port(self) -> str:
        """The switch's end of its link."""
        return f"p{self.number}"

    def start(self) -> None:
        """Boot it: its one command is its first process, with which all others end."""
        script = (
            f"hostname h{self.number}; mount -t tmpfs -o size=1g tmpfs /dev/shm; "
            f'mount -t tmpfs -o size=1g tmpfs {self.folder}; exec "$@"'
        )
        apart = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        there = ["ip", "netns", "exec", self.space, "unshare", *apart]
        command = [*there, "bash", "-c", script, "bash", *self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=dict(self.env), stdout=log, stderr=log)

    @property
    def runs(self) -> bool:
        """Whether its first process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def first(self) -> int:
        """The number, outside, of its first process."""
        assert self.process is not None
        at = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(at.read_text().split()[0])

    def entered(self, command: Sequence[str]) -> list[str]:
        """The command as it is started on this host from outside."""
        return ["nsenter", "-t", str(self.first), "-m", "-n", "-p", "-u", "-i", *command]

    def power_off(self) -> None:
        """End all its processes at once, without a word to anybody."""
        if self.process is not None:
            with suppress(OSError, IndexError):
                os.kill(self.first, signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    def titles(self) -> list[str]:
        """The titles of its processes, as far as they can be read."""
        found = []
        for number in _ip("netns", "pids", self.space).split():
            with suppress(OSError):
                found.append(Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


class Switch:
    """The network of all hosts."""

    def __init__(self, folder: str) -> None:
        self.space, self.folder, self.hosts = f"lt{os.getpid()}sw", folder, list[Host]()

    def __enter__(self) -> "Switch":
        """The switch is there. Raises NotPermitted, with what is needed."""
        _sweep()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        _ip("netns", "add", self.space)
        try:
            _ip("-n", self.space, "link", "add", "br0", "type", "bridge")
            _ip("-n", self.space, "link", "set", "br0", "up")
        except NotPermitted:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left."""
        for host in self.hosts:
            host.power_off()
        for space in (*(host.space for host in self.hosts), self.space):
            with suppress(NotPermitted):  # it was never there
                _ip("netns", "del", space)
        shutil.rmtree(self.folder, ignore_errors=True)

    def plug(self) -> Host:
        """One more host on the switch, not started yet."""
        host = Host(len(self.hosts), self.folder)
        self.hosts.append(host)
        inner = f"t{os.getpid()}x{host.number}"[:15]
        _ip("netns", "add", host.space)
        _ip("-n", host.space, "link", "set", "lo", "up")
        _ip("-n", self.space, "link", "add", inner, "type", "veth", "peer", "name", host.port)
        _ip("-n", self.space, "link", "set", inner, "netns", host.space)
        _ip("-n", host.space, "link", "set", inner, "name", "eth0")
        _ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.space, "link", "set", "eth0", "up")
        # Nobody is there: programs learn by it which address of theirs faces outwards.
        _ip("-n", host.space, "route", "add", "default", "via", f"{SUBNET}.1")
        _ip("-n", self.space, "link", "set", host.port, "master", "br0")
        _ip("-n", self.space, "link", "set", host.port, "up")
        return host

    def cut(self, host: Host) -> None:
        """Its link is down."""
        _ip("-n", self.space, "link", "set", host.port, "down")

    def heal(self, host: Host) -> None:
        """Its link is up again."""
        _ip("-n", self.space, "link", "set", host.port, "up")


def _sweep() -> None:
    """Take away what a harness that was killed has left: its namespaces bear its number."""
    for name in _ip("netns", "list").split():
        match = _OURS.fullmatch(name)
        if match and not Path(f"/proc/{match[1]}").exists():
            for number in _ip("netns", "pids", name).split():
                with suppress(OSError):
                    os.kill(int(number), signal.SIGKILL)
            _ip("netns", "del", name)


@contextmanager
def switch(folder: str) -> Iterator[Switch]:
    """A switch for as long as the block lasts."""
    with Switch(folder) as network:
        yield network


def wait_for(what: str, is_so: Callable[[], bool], within_s: float, every_s: float = 0.5) -> float:
    """Seconds until `is_so()`; fails by naming `what` after `within_s`."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
    return time.monotonic() - began
