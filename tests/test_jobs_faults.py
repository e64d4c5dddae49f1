"""Claims about whole batches on a store that fails, and about two drivers of one job there.

S3 is a server process of moto; before it stands a process that breaks requests (tests/fault_proxy.py). With
LONGTAKE_CHAOS_SEEDS set, as `make chaos` does, there are more films, more faults and more races.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem

from cluster.audit import audit
from jobs.cli import main
from jobs.status import latest
from manifests.ledger import iter_events
from manifests.store import Store, open_store
from tests.crash import READ_TIMEOUT
from tests.fault_proxy import FAULTS, fault_proxy
from tests.s3_server import ask_moto, s3_environment
from tests.test_jobs_crash import CRASH, FILM, PROFILE

ALL = "LONGTAKE_CHAOS_SEEDS" in os.environ
N_FILMS, RATE = (12, 0.15) if ALL else (2, 0.08)
RACES = 10 if ALL else 1
READ_TIMEOUT_S = 2.0  # so that a silent server costs a test no more
JOB = "night"


@pytest.fixture
def s3(moto: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an S3 server that the environment names, emptied, with the bucket `films`."""
    for name, value in s3_environment(moto).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3" if ALL else "1")  # of botocore, which waits longer than we do
    monkeypatch.setattr(S3FileSystem, "read_timeout", READ_TIMEOUT_S)
    S3FileSystem.clear_instance_cache()
    ask_moto(moto, "reset")
    fsspec.filesystem("s3").mkdir("films")
    yield moto
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every run here is told."""
    own = {"profiles.chalk.model.folder": tiny_folder, "identity": tmp_path_factory.mktemp("identity")}
    own |= {f"profiles.chalk.{key}": value for key, value in PROFILE.items()}
    return ["--local", "--job-id", JOB, *(f"{key}={value}" for key, value in own.items())]


def batch(path: Path, n_films: int) -> str:
    """A manifest of so many films, each of two shots in two languages."""
    films = (FILM.replace("water", f"water-{n}").replace("seed: 3", f"seed: {n}") for n in range(n_films))
    path.write_text("".join(films), encoding="utf-8")
    return str(path)


def pictures(store: Store) -> dict[str, Any]:
    """The artefacts of every shot's latents and every segment, by task."""
    keys = [key for kind in ("shot", "segment") for key in store.list_keys(f"done/{kind}")]
    return {key: (store.read_marker(key) or {})["files"] for key in keys}


def check(store: Store) -> None:
    """All that must be true of the job is, and no task was made twice."""
    _, ended = latest(store, JOB)
    assert ended is not None and list(audit(store, JOB, ended)) == []
    events = [event for table in iter_events(store, JOB) for event in table.to_pylist()]
    made = [event["task_key"] for event in events if event["event"] == "done"]
    assert len(made) == len(set(made)), "a task was made twice"


def test_a_batch_through_a_network_that_fails_has_the_bits_of_one_on_this_disk(
    s3: int, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    manifest = batch(tmp_path / "films.yaml", N_FILMS)
    assert main(["run", manifest, "--out", str(tmp_path / "calm"), *settings]) == 0
    with fault_proxy(s3, seed=5, rate=RATE) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        assert main(["run", manifest, "--out", "s3://films/hurt", *settings]) == 0, capsys.readouterr()
        counts = proxy.counts()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3}")
    S3FileSystem.clear_instance_cache()
    calm, hurt = open_store(str(tmp_path / "calm")), open_store("s3://films/hurt")
    assert pictures(hurt) == pictures(calm) and len(pictures(calm)) == 4 * N_FILMS
    assert hurt.list_keys("films") == calm.list_keys("films")
    check(hurt)
    injected = sum(n for fault, n in counts.items() if fault in FAULTS)
    with capsys.disabled():
        print(f"\n{injected} faults in {sum(counts.values())} requests: {json.dumps(counts)}")
    assert injected > 0.5 * RATE * sum(counts.values())


@dataclass
class Drivers:
    """Starts drivers of one job at about the same time, in processes that have everything imported."""

    process: subprocess.Popen[str]
    folder: Path
    command: list[str]

    def race(self, out: str, *drivers: tuple[str, int, str, float]) -> list[int]:
        """Exit statuses of drivers, each with where it dies, its host and its delay in seconds."""
        command = [*self.command, "--out", out]
        asked = [
            (point, nth, command, str(self.folder / f"{number}.log"), host, delay_s)
            for number, (point, nth, host, delay_s) in enumerate(drivers)
        ]
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        statuses: list[int] = json.loads(self.process.stdout.readline())
        return statuses

    def said(self, number: int) -> str:
        """What a driver said in all races."""
        return (self.folder / f"{number}.log").read_text(encoding="utf-8")


@contextmanager
def serving(folder: Path, settings: list[str], **more: str) -> Iterator[Drivers]:
    """Drivers of a job of one film, in this environment and `more` of it."""
    manifest = batch(folder / "films.yaml", 1)
    command = [sys.executable, str(CRASH), "--serve"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
    ) as process:
        yield Drivers(process, folder, ["run", manifest, *settings])
        assert process.stdin
        process.stdin.close()  # its loop ends with its input


@pytest.fixture
def drivers(s3: int, settings: list[str], tmp_path: Path) -> Iterator[Drivers]:
    with serving(tmp_path, settings) as drivers:
        yield drivers


def race(drivers: Drivers, prefix: str) -> None:
    """Of two drivers that begin at about the same time one renders, and the other says so and leaves."""
    draw = random.Random(7)
    for turn in range(RACES):
        out = f"s3://films/{prefix}-{turn}"
        delays = [draw.uniform(0, 0.5) for _ in range(2)]
        statuses = drivers.race(out, *(("never", 1, "", delay) for delay in delays))
        assert sorted(statuses) == [0, 2], [drivers.said(number) for number in range(2)]
        assert "is being rendered by process" in drivers.said(statuses.index(2))
        store = open_store(out)  # past any proxy: this process's environment names the server itself
        check(store)
        assert len(pictures(store)) == 4
        assert len(store.list_keys(f"jobs/{JOB}/driver")) == 2


def test_of_two_drivers_that_race_for_a_job_on_s3_one_renders_and_the_other_leaves(drivers: Drivers) -> None:
    race(drivers, "race")


def test_of_two_drivers_that_race_through_a_network_that_fails_one_renders_and_the_other_leaves(
    s3: int, settings: list[str], tmp_path: Path, capsys: Any
) -> None:
    with fault_proxy(s3, seed=11, rate=RATE) as proxy:
        more = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}", READ_TIMEOUT: str(READ_TIMEOUT_S)}
        with serving(tmp_path, settings, **more) as drivers:
            race(drivers, "hurt-race")
        counts = proxy.counts()
    injected = sum(n for fault, n in counts.items() if fault in FAULTS)
    with capsys.disabled():
        print(f"\n{injected} faults in {sum(counts.values())} requests: {json.dumps(counts)}")
    assert injected > 0.5 * RATE * sum(counts.values())
