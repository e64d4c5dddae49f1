"""How long `longtake validate` and `longtake plan` take for a big manifest, and in how much memory.

python tests/bench/bench_plan.py                    1,000,000 rows; exits 1 above 120 s or 512 MiB
python tests/bench/bench_plan.py --rows 10000       in seconds
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.bench.make_manifest import write

MOST_S, MOST_MIB = 120.0, 512.0
ROOT = Path(__file__).parent.parent.parent


def measured(verb: str, manifest: Path) -> tuple[float, float]:
    """Seconds and MiB at the peak of one command."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "jobs", verb, str(manifest)], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"longtake {verb} ended with {process.returncode}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def main() -> int:
    """Print the table; 1 if a command took too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked, bad = parser.parse_args(), False
    with tempfile.TemporaryDirectory(prefix="longtake-bench-") as folder:
        manifest = Path(folder, "big.parquet")
        write(manifest, asked.rows, seed=0)
        for verb in ("validate", "plan"):
            seconds, mib = measured(verb, manifest)
            bad |= seconds > MOST_S or mib > MOST_MIB
            print(f"longtake {verb}, {asked.rows:,} rows: {seconds:.1f} s, peak {mib:.0f} MiB")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
