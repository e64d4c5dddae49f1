"""The way onto a cluster, for real: `ray start --head`, `ray job submit … -- python -m jobs run …`, stop."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.results import read_results
from manifests.store import open_store
from tests.test_manifests_ledger import events_of

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
QUICK = [
    "profiles.chalk.sampling.n_steps=2",
    "profiles.chalk.picture.preset=ultrafast",
    "cluster.gangs=2",
    "cluster.checkpoint_every=1",
]
START_S, JOB_S = 120, 400


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """A head node with a dashboard, as an operator starts it; the environment that its clients need."""
    gcs, dashboard, client, agent = free_ports(4)
    folder = tempfile.mkdtemp(prefix="lt-ray-")  # short: sockets lie below it
    env = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }
    env.pop("RAY_ADDRESS", None)
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={folder}",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
        "--num-cpus=3", "--object-store-memory=100000000", "--disable-usage-stats",
    ]  # fmt: skip
    with Path(folder, "start.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    client_env = env | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    try:
        wait_for(lambda: ray_job(client_env, "list").returncode == 0, START_S, "the dashboard to answer")
        yield client_env
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def ray_job(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ray"), "job", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=JOB_S)


def wait_for(happened, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.5)


def submit(env: dict[str, str], name: str, out: Path, model: Path, *options: str):
    run = ["python", "-m", "jobs", "run", "jobs/examples/nightly.parquet", "--out", str(out)]
    run += [f"profiles.chalk.model.folder={model}", *QUICK]
    return ray_job(env, "submit", "--working-dir", ".", f"--submission-id={name}", *options, "--", *run)


def done_tasks(out: Path) -> set[str]:
    return set(open_store(str(out)).list_keys("done"))


def test_a_job_is_submitted_stopped_and_completed_by_submitting_it_again(head, tiny_folder, tmp_path):
    out = tmp_path / "films"
    first = submit(head, "night-1", out, tiny_folder, "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    wait_for(lambda: any("segment" in key for key in done_tasks(out)), JOB_S, "a first segment")
    stopped = ray_job(head, "stop", "night-1")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "was stopped" in ray_job(head, "status", "night-1").stdout
    before = done_tasks(out)
    assert not (out / "results.parquet").exists(), "it was stopped in the middle"

    second = submit(head, "night-2", out, tiny_folder)
    log = second.stdout
    assert second.returncode == 0, log + second.stderr
    lines = [line for line in log.splitlines() if line.startswith("LONGTAKE_RESULT ")]
    result = json.loads(lines[-1].removeprefix("LONGTAKE_RESULT "))
    assert (result["status"], result["exit_code"], result["failed"]) == ("done", 0, 0)
    assert "\r" not in log and "\x1b[" not in log.split("LONGTAKE_RESULT")[0].split("python -m jobs")[-1]
    assert "Traceback" not in log

    store = open_store(str(out))
    rows = read_results(store).to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert all((out / row["output_uri"]).is_file() for row in rows)
    events = events_of(store, result["job_id"]).to_pylist()
    again = {e["task_key"] for e in events if e["driver_epoch"] == 2 and e["event"] == "done"}
    assert not again & {Path(key).stem for key in before}, "nothing that had a marker was rendered twice"
