"""How soon a driver dispatches again that takes over a big job, half done, and in how much memory.

    python tests/bench/bench_restart.py                    1,000,000 rows; exits 1 above 60 s or 1 GiB
    python tests/bench/bench_restart.py --rows 10000       in seconds

The first half of the rows is listed as finished by the code that a driver lists them with, beside the
record of the job; markers, films and the ledger are left out, as a driver that takes over reads none of
theirs before it dispatches. Then `longtake run` is started as a process of its own and timed until it gives
out its first work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.bench.bench_memory import peak_mib
from tests.bench.make_manifest import write

MOST_S, MOST_MIB = 60.0, 1024.0


def half(manifest: Path, out: Path) -> None:
    """Leave what a driver leaves that dies in the middle of the manifest."""
    from jobs.census import work_of_size
    from jobs.enrol import enrol
    from jobs.job import prepare
    from jobs.spec import load_spec
    from jobs.takeover import Known, record
    from manifests.finished import Finishing
    from manifests.ledger import claim_epoch
    from manifests.store import open_store

    store, job = open_store(str(out)), prepare(str(manifest), load_spec(None, []))
    store.probe()
    enrol(store, job)
    epoch = claim_epoch(store, job.job_id)
    record(store, job.job_id, job.asked, Known(job.findings, work_of_size(job.census())))
    with Finishing(store, job.job_id, job.asked, epoch) as finishing:
        for start, batch in job.manifest.batches():
            for at, row in enumerate(batch.select(["row_id", "languages"]).to_pylist(), start):
                if at < job.manifest.n_rows // 2:
                    finishing.add(at, 180, list(results(job.job_id, row)))


def results(job_id: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of results of a film."""
    for language in row["languages"]:
        name = f"films/{row['row_id']}.{language['lang']}"
        yield {
            "job_id": job_id,
            "row_id": row["row_id"],
            "lang": language["lang"],
            "title": language["title"],
            "status": "done",
            "output_uri": f"{name}.mp4",
            "captions_uri": f"{name}.vtt",
            "output_bytes": 4_000_000,
            "output_sha256": os.urandom(32).hex(),
            "frame_count": 360,
            "duration_s": 45.0,
            "shots": 6,
            "windows": 9,
            "reused": False,
            "render_s": 100.0,
            "finished_at": datetime.now(UTC),
            "driver_epoch": 1,
        }


def restart(manifest: Path, out: Path) -> None:
    """Take the job over, up to the first work that is given out."""
    import cluster.local
    from jobs.cli import main

    class Waiting:
        """A crew with one idle encoder, whose first task ends the measurement."""

        def __init__(self, setup: Any) -> None:
            self.told = False

        def wait(self, most_s: float = 1.0) -> list[Any]:
            from cluster.events import Hired

            hired, self.told = [] if self.told else [Hired("encode", "encode")], True
            return hired

        def act(self, action: Any) -> None:
            print(json.dumps({"action": type(action).__name__, "mib": peak_mib()}), flush=True)
            os._exit(0)

        def close(self) -> None:
            """Never reached."""

    cluster.local.LocalCrew = Waiting  # type: ignore[assignment,misc]
    main(["run", str(manifest), "--out", str(out), "--local"])


def main() -> int:
    """Print seconds and memory; 1 if either is too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", nargs=3, metavar=("STEP", "MANIFEST", "OUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        {"half": half, "restart": restart}[asked.step[0]](*map(Path, asked.step[1:]))
        return 0
    with tempfile.TemporaryDirectory(prefix="longtake-bench-") as folder:
        manifest, out = Path(folder, "big.parquet"), Path(folder, "out")
        write(manifest, asked.rows, seed=0)
        step = [sys.executable, __file__, "--step"]
        subprocess.run([*step, "half", manifest, out], check=True)
        began = time.monotonic()
        done = subprocess.run([*step, "restart", manifest, out], check=True, capture_output=True, text=True)
        seconds = time.monotonic() - began
    print(done.stdout, end="")
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"{asked.rows:,} rows, half done: first work after {seconds:.1f} s, peak {told['mib']:.0f} MiB")
    return int(seconds > MOST_S or told["mib"] > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
