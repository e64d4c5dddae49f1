"""Does memory grow with the length of a film? Peak resident sets for a film of 1 minute and one of 10.

    python tests/bench/bench_memory.py          about 3 minutes on 2 cores; exits 1 above a ratio of 1.2

Two ways to be long, each at 64 x 64 pixels, 8 frames a second and 2 steps of an untrained model:

- a film of many shots of 10 s, rendered by `jobs.run` on a Ray of its own; the peaks are those of the driver
  and of every worker's process, read from /proc when the film is done;
- a single shot without a cut, decoded and encoded by a `Decoder` alone in its process.

The peak of a process that has only imported and loaded what it needs is printed beside, since it is most of
what there is; the last column is what a minute of film adds. Every measurement has processes of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
os.environ |= {"HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

MINUTES = (1, 10)
MOST = 1.2  # peak of the long film over that of the short one
JUDGED = ("driver", "Decoder", "Finisher", "Decoder alone, one shot")
WORKERS = ("Encoder", "Conductor", "Rank", "Decoder", "Finisher")
FPS, SHOT_S = 8, 10
Peaks = dict[str, float]  # MiB by process


def peak_mib(pid: int | str = "self") -> float:
    """The largest resident set that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def workers_mib() -> Peaks:
    """The peaks of the crew's processes below this one, by class; of several, the largest."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_text().strip("\0 ")
        except OSError:  # it has ended meanwhile
            continue
    peaks: Peaks = {}
    for pid, name in names.items():
        role = name.removeprefix("ray::").split(".")[0]
        if role in WORKERS and _below(pid, parents):
            peaks[role] = max(peaks.get(role, 0.0), peak_mib(pid))
    return peaks


def _below(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def spec_for(folder: Path) -> Any:
    """A configuration of the tiny model, made in the folder on first use."""
    from engine.chalk.model import build_pipeline, save
    from jobs.spec import load_spec

    if not (folder / "model").exists():
        save(folder / "model", build_pipeline(0, tiny=True))
    profile = {
        "model.folder": folder / "model",
        "sampling.n_steps": 2,
        "picture.width_px": 64,
        "picture.height_px": 64,
        "picture.upscale": 1,
        "picture.fps_num": FPS,
        "picture.preset": "ultrafast",
    }
    told = [f"profiles.chalk.{key}={value}" for key, value in profile.items()]
    return load_spec(None, [*told, f"identity={folder / 'identity'}", "cluster.gangs=1"])


class Gauge:
    """A Show that reads the workers' peaks at the end of each film, before the crew is let go."""

    def __init__(self) -> None:
        self.peaks: Peaks = {}

    def begin(self, job: Any) -> None:
        """Nothing to read yet."""

    def event(self, event: Any, state: Any) -> None:
        """The peaks are read once, at the end."""

    def film(self, film: Any) -> None:
        """All workers have done their part."""
        self.peaks |= workers_mib()


def film_peaks(minutes: int, folder: Path) -> Peaks:
    """Render a film of so many minutes on a Ray of this process's own; 0 minutes is one shot of a second."""
    import ray

    from cluster.remote import RayCrew
    from jobs.job import prepare
    from jobs.run import run

    length_s = [SHOT_S] * (minutes * 60 // SHOT_S) or [1]
    shots = [{"shot_id": f"s{i}", "prompt": "rain", "duration_s": s} for i, s in enumerate(length_s)]
    film = {"row_id": f"of-{minutes}-min", "profile": "chalk", "seed": 1, "shots": shots}
    film["languages"] = [{"lang": "hi-IN", "title": "जल", "segments": [{"shot_id": "s0", "text": "जल"}]}]
    manifest = folder / f"{minutes}.jsonl"
    manifest.write_text(json.dumps(film, ensure_ascii=False), encoding="utf-8")
    job, gauge = prepare(str(manifest), spec_for(folder)), Gauge()
    ray_folder = tempfile.mkdtemp(prefix="lt-", dir="/tmp")  # short: sockets' paths hold about 100 characters
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=10**8,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=ray_folder,
        _node_ip_address="127.0.0.1",
    )
    try:
        result = run(job, str(folder / f"out-{minutes}"), RayCrew, gauge)
    finally:
        ray.shutdown()
        shutil.rmtree(ray_folder, ignore_errors=True)
    assert result.status == "done", result
    return {"driver": peak_mib()} | gauge.peaks


def decoder_peaks(minutes: int, folder: Path) -> Peaks:
    """Decode one shot of so many minutes from random latents; 0 minutes is a shot of a second."""
    from cluster.once import claim
    from cluster.outcomes import Outcome
    from cluster.stages import Decoder
    from engine.noise import keyed_noise
    from engine.tensors import to_bytes
    from jobs.plan import film_tasks
    from jobs.stock import stock
    from manifests.store import open_store

    n_frames = minutes * 60 * FPS + 1
    shot = {"shot_id": "take", "prompt": "rain", "duration_frames": max(n_frames, FPS + 1)}
    row = {"row_id": "take", "profile": "chalk", "shots": [shot]}
    stocked = stock(spec_for(folder))
    segment = film_tasks(row, stocked).master.segments[0]
    source, facts = segment.source, stocked["chalk"].facts
    side = 64 // facts.spatial_compression
    store = open_store(str(folder / f"take-{minutes}"))
    noise = keyed_noise(0, "take", 0, range(source.n_latent), (facts.latent_channels, side, side), _float32())
    latents = store.put_artefact(to_bytes({"latents": noise}))
    claim(store, source, Outcome(source.key, source.kind, {"latents": latents}))
    outcome = Decoder(store.url).run(segment)
    assert outcome.facts["frame_count"] == source.shot.n_frames
    return {"Decoder alone, one shot": peak_mib()}


def _float32() -> Any:
    import torch

    return torch.float32


def measured(what: str, minutes: int, folder: Path) -> Peaks:
    """What a process of its own has measured."""
    command = [sys.executable, __file__, "--measure", what, str(minutes), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    peaks: Peaks = json.loads(done.stdout.splitlines()[-1])
    return peaks


def main() -> int:
    """Print the table; 1 if a judged process grew too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "MINUTES", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args().measure
    if asked:
        measure = {"film": film_peaks, "decoder": decoder_peaks}[asked[0]]
        print(json.dumps(measure(int(asked[1]), Path(asked[2]))))
        return 0
    with tempfile.TemporaryDirectory(prefix="longtake-bench-") as folder:
        spec_for(Path(folder))
        runs = [
            measured("film", minutes, Path(folder)) | measured("decoder", minutes, Path(folder))
            for minutes in (0, *MINUTES)
        ]
    print(f"{'peak resident MiB':<26}{'1 s':>8}{'1 min':>8}{'10 min':>8}{'ratio':>8}{'MiB/min':>9}")
    worst = 0.0
    for name in sorted(runs[-1], key=lambda name: (name not in JUDGED, name)):
        rest, short, long = (run[name] for run in runs)
        worst = max(worst, long / short if name in JUDGED else 0.0)
        print(
            f"{name:<26}{rest:>8.1f}{short:>8.1f}{long:>8.1f}{long / short:>8.3f}{(long - short) / 9:>9.2f}"
        )
    print(f"worst of {', '.join(JUDGED)}: {worst:.3f}, at most {MOST} is promised")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
