"""Where a job of tiny films is given to drivers, which a process with everything imported forks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.film.provenance import make_development_identity
from tests.storm import Fault

LIMIT_S = 600.0  # for a driver to end: one that hangs is a fault found
PROFILE = {
    "sampling.n_steps": 2,
    "window.size": 4,
    "window.overlap": 2,
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}


@dataclass
class Stage:
    """A process with everything imported, which forks drivers, and the command that they are given."""

    process: subprocess.Popen[str]
    folder: Path
    command: list[str]
    groups: list[int] = field(default_factory=list)

    def ask(self, *order: Any) -> Any:
        """One line there, one line back."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, out: Path, faults: Sequence[Fault] | str | None = None, node: str = "") -> int:
        """A driver's process id: in a storm, with poison, or calm."""
        told = [asdict(fault) for fault in faults] if isinstance(faults, list) else faults
        pid, nursery = self.ask("start", [*self.command, "--out", str(out)], f"{out}.log", told, node)
        self.groups += [nursery] if nursery else []
        return int(pid)

    def end(self, pid: int) -> Any:
        """What became of a driver; one that is late dies of it."""
        status = self.ask("wait", pid, LIMIT_S)
        if status == "late":
            os.kill(pid, signal.SIGKILL)
            self.ask("wait", pid, 10.0)
        return status

    def clear(self) -> None:
        """End every worker that outlived its driver."""
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.groups.clear()


@contextmanager
def staged(folder: Path, model: Path, rows: Sequence[dict[str, Any]], *told: str) -> Iterator[Stage]:
    """A stage for the job `batch` of these rows, with more settings than the usual ones."""
    manifest = folder / "batch.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "scratch").mkdir()
    make_development_identity(folder / "identity")
    settings = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
    settings += [f"profiles.chalk.model.folder={model}", f"identity={folder / 'identity'}"]
    settings += ["cluster.checkpoint_every=1", "cluster.patience=0.01", *told]
    surroundings = os.environ | {"TMPDIR": str(folder / "scratch"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).parent / "storm.py"), "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
    ) as process:
        stage = Stage(process, folder, ["run", str(manifest), "--local", "--job-id", "batch", *settings])
        yield stage
        stage.clear()
        assert process.stdin
        process.stdin.close()  # its loop ends with its input
