"""A Ray cluster of several hosts in network namespaces, and a film that outlives what happens to them.

    make hosts      as root; about ten minutes

A host loses its power, another its link for 30 s, one is added, all in the middle of a film: it is finished
within BOUND_S, with the bits of a calm run on one process. It fails, and says what is needed, where network
namespaces cannot be made. Not a part of `make test`: a cluster of four hosts alone takes most of a minute.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.checkpoints import steps_of
from jobs.status import latest
from manifests.ledger import iter_events
from manifests.store import Store, open_store
from tests.netns import Host, Switch, switch, wait_for
from tests.test_jobs_crash import FILM, PROFILE

ROOT = Path(__file__).parent.parent
CUT_S = 30.0
LONG_S = 2 * CUT_S  # that the film takes one process, so that there is a middle to it
TRIED = 10, 50  # steps, by which it is found how many those are
BOUND_S = 600.0  # from the driver's start to its end, on two cores
UP_S = 240.0  # in which hosts of a busy machine come up
JOB = "hosts"
PORT = 6379
# A host is given up after about 20 s without an answer, so that a link of 30 s is longer than that.
HEALTH = {"initial_delay_ms": "3000", "period_ms": "3000", "timeout_ms": "5000", "failure_threshold": "4"}
RAY = str(Path(sys.executable).parent / "ray")


def surroundings() -> dict[str, str]:
    """What every process of the cluster is told."""
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    own |= {"RAY_enable_metrics_collection": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    own |= {"RAY_worker_niceness": "0"}  # a driver on the same cores would starve its workers
    own |= {f"RAY_health_check_{name}": value for name, value in HEALTH.items()}
    return os.environ | own


@dataclass
class Cluster:
    """Hosts with Ray on them; the first is its head, which computes nothing."""

    network: Switch
    logs: Path

    def add(self) -> Host:
        """One more host, started."""
        host = self.network.plug()
        head = self.network.hosts[0]
        own = ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        if host is head:
            own += ["--head", f"--port={PORT}", "--num-cpus=0", f"--temp-dir={host.folder}/r"]
            own += ["--include-dashboard=false"]
        else:
            own += [f"--address={head.address}:{PORT}", "--num-cpus=1"]
        host.command = [RAY, "start", f"--node-ip-address={host.address}", *own]
        host.env, host.log = surroundings(), self.logs / f"h{host.number}.log"
        host.start()
        return host

    def living(self) -> set[str]:
        """The addresses of the nodes that Ray holds for alive."""
        code = "import ray; ray.init(address='auto', log_to_driver=False, logging_level='ERROR')\n"
        code += "print(*(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
        head = self.network.hosts[0]
        env = surroundings() | {"RAY_ADDRESS": f"{head.address}:{PORT}"}
        asked = subprocess.run(
            head.entered([sys.executable, "-c", code]), env=env, capture_output=True, text=True
        )
        return set(asked.stdout.split()[-16:]) if asked.returncode == 0 else set()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Four hosts, all known to Ray."""
    with switch(f"/tmp/lt{os.getpid()}") as network:
        cluster = Cluster(network, tmp_path)
        hosts = [cluster.add()]
        wait_for("the head listens", lambda: _listens(hosts[0]), UP_S)
        hosts += [cluster.add() for _ in range(3)]
        addresses = {host.address for host in hosts}
        wait_for("all four hosts are in the cluster", lambda: addresses <= cluster.living(), UP_S, 3.0)
        yield cluster


def _listens(host: Host) -> bool:
    code = f"import socket; socket.create_connection(('{host.address}', {PORT}), 2)"
    try:
        command = host.entered([sys.executable, "-c", code])
    except (OSError, IndexError):  # it has no first process yet
        return False
    return subprocess.run(command, capture_output=True).returncode == 0


@dataclass
class Job:
    """A film of two shots of several windows, and the words of the command that renders it."""

    words: list[str]
    n_steps: int

    def run_calmly(self, out: Path) -> float:
        """Render it in one process; the seconds that takes."""
        began = time.monotonic()
        command = [sys.executable, "-m", "jobs", *self.words, "--local", "--out", str(out)]
        done = subprocess.run(command, env=surroundings(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.monotonic() - began

    def steps_in(self, out: Path) -> int:
        """The steps behind a checkpoint or a marker, of both shots."""
        saved: dict[str, int] = {}
        for path in (out / "checkpoints").rglob("*.safetensors"):
            steps = steps_of(str(path)) or 0
            saved[path.parent.name] = max(saved.get(path.parent.name, 0), steps)
        done = {path.stem for path in (out / "done" / "shot").rglob("*.json")}
        return len(done) * self.n_steps + sum(step for key, step in saved.items() if key not in done)


@pytest.fixture
def job(tiny_folder: Path, tmp_path: Path) -> Job:
    """A film of so many steps that it takes LONG_S on this machine."""
    path = tmp_path / "film.yaml"
    path.write_text(FILM.replace("duration_s: 2", "duration_s: 24"), encoding="utf-8")

    def made(n_steps: int) -> Job:
        own: dict[str, Any] = {f"profiles.chalk.{key}": value for key, value in PROFILE.items()}
        own |= {"profiles.chalk.sampling.n_steps": n_steps, "profiles.chalk.model.folder": tiny_folder}
        own |= {"identity": tmp_path / "identity", "cluster.device": "cpu", "cluster.checkpoint_every": 2}
        words = ["run", str(path), "--job-id", JOB, *(f"{key}={value}" for key, value in own.items())]
        return Job(words, n_steps)

    few_s, more_s = (made(n).run_calmly(tmp_path / f"tried-{n}") for n in TRIED)
    return made(round(LONG_S * (TRIED[1] - TRIED[0]) / (more_s - few_s)))


def pictures(store: Store) -> dict[str, Any]:
    """The artefacts of every shot's latents and every segment, by task."""
    keys = [key for kind in ("shot", "segment") for key in store.list_keys(f"done/{kind}")]
    return {key: (store.read_marker(key) or {})["files"] for key in keys}


@dataclass
class Night:
    """A driver at work on the head, and hosts that are started again when they end, as a farm does."""

    cluster: Cluster
    driver: subprocess.Popen[bytes]
    out: Path
    dark: set[int]  # hosts without power

    def until(self, what: str, is_so: Callable[[], bool], within_s: float) -> float:
        """Wait, while the driver must live."""

        def look() -> bool:
            self.tend()
            assert self.driver.poll() is None, f"the driver ended before: {what}"
            return is_so()

        return wait_for(what, look, within_s)

    def tend(self) -> None:
        """Start again what has ended: Ray ends by itself on a host that it had given up."""
        for host in self.cluster.network.hosts:
            if host.number not in self.dark and not host.runs:
                host.start()


def test_a_film_outlives_a_host_a_link_and_newcomers_with_the_same_bits(
    cluster: Cluster, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, out = tmp_path / "calm", tmp_path / "out"
    job.run_calmly(calm)
    head, _, second, third = cluster.network.hosts
    address = ["--address", f"{head.address}:{PORT}", "--out", str(out), "cluster.gangs=3"]
    log = (tmp_path / "driver.log").open("wb")
    began = time.monotonic()
    command = head.entered([sys.executable, "-m", "jobs", *job.words, *address])
    driver = subprocess.Popen(command, env=surroundings(), stdout=log, stderr=log)
    night, told = Night(cluster, driver, out, set()), dict[str, float]()
    try:
        night.until("a tenth is done", lambda: job.steps_in(out) > job.n_steps // 5, BOUND_S)
        told["power off"] = time.monotonic() - began
        night.dark.add(third.number)
        third.power_off()
        before = job.steps_in(out)
        night.until("it goes on without a host", lambda: job.steps_in(out) > before + 4, BOUND_S)
        told["link cut"] = time.monotonic() - began
        cluster.network.cut(second)
        newcomer = cluster.add()
        cut = time.monotonic()
        night.until("the link comes back", lambda: time.monotonic() - cut > CUT_S, 2 * CUT_S)
        cluster.network.heal(second)
        told["link back"] = time.monotonic() - began
        night.until("the newcomer predicts", lambda: _predicts(newcomer), BOUND_S)
        told["newcomer predicts"] = time.monotonic() - began
        while driver.poll() is None and time.monotonic() - began < BOUND_S:
            night.tend()
            time.sleep(1)
    finally:
        night.driver.kill()
        log.close()
    told["end"] = time.monotonic() - began
    said = (tmp_path / "driver.log").read_text(encoding="utf-8", errors="replace")
    assert driver.wait() == 0, said[-4000:]
    check(out, calm)
    with capsys.disabled():
        print("\n" + ", ".join(f"{what} at {seconds:.0f} s" for what, seconds in told.items()))


def _predicts(host: Host) -> bool:
    """Whether a rank of a gang has come to the host."""
    return any(title.startswith("ray::Rank") for title in host.titles())


def check(out: Path, calm: Path) -> None:
    """The same bits as the calm run, every task once, and workers that were told as lost."""
    store = open_store(str(out))
    assert pictures(store) == pictures(open_store(str(calm))) and len(pictures(store)) == 4
    _, ended = latest(store, JOB)
    assert ended is not None and ended["status"] == "done"
    events = [event for table in iter_events(store, JOB) for event in table.to_pylist()]
    made = [event["task_key"] for event in events if event["event"] == "done"]
    assert len(made) == len(set(made)) and sum(event["event"] == "lost" for event in events) >= 2
