"""Killing the driver at any moment leaves nothing half-written, and the same command goes on from there.

Each case kills a `longtake run --local` by SIGKILL (tests/crash.py), looks at what a reader would see, then
gives the same command again and compares with a folder where nothing happened. With LONGTAKE_CHAOS_SEEDS
set, as `make chaos` does, every passing of every point is tried; otherwise a choice of each kind.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.film.provenance import make_development_identity, verify
from engine.tensors import from_bytes
from manifests.ledger import iter_events
from manifests.results import read_results
from manifests.store import Store, open_store

CRASH = Path(__file__).parent / "crash.py"
FILM = """
- row_id: water
  profile: chalk
  seed: 3
  shots:
    - {shot_id: s0, prompt: rain falls, duration_s: 2}
    - {shot_id: s1, prompt: the sun shines, duration_s: 2}
  languages:
    - {lang: hi-IN, title: जल, segments: [{shot_id: s0, text: सूरज।}]}
    - {lang: ta-IN, title: நீர், segments: [{shot_id: s1, text: மழை.}]}
"""
STEPS, SHOTS, WINDOWS = 3, 2, 2  # a shot of 5 latent frames is two windows of 4
PROFILE = {
    "sampling.n_steps": STEPS,
    "window.size": 4,
    "window.overlap": 2,
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}
# How often each point is passed by an undisturbed run: 3 prompts, 2 shots of 3 steps, 2 segments, a master
# and its sheet, 2 versions with captions; then results and report.
TASKS, ARTEFACTS = 10, 3 + 2 + 2 + 2 + 4
PASSED = {
    "validation": 1,
    "epoch-claimed": 1,
    "settled": 1,
    "prediction": STEPS * SHOTS * WINDOWS,
    "checkpoint-half": (STEPS - 1) * SHOTS,
    "checkpoint": (STEPS - 1) * SHOTS,
    "checkpoint-removal": (STEPS - 1) * SHOTS,
    "artefact-before": ARTEFACTS,
    "artefact-half": ARTEFACTS,
    "artefact-after": ARTEFACTS,
    "marker-half": TASKS,
    "marker-after": TASKS,
    "event-recorded": TASKS,
    "ledger-half": 1,
    "ledger-after": 1,
    "publish": 5,  # films, captions, sheet
    "results-before": 1,
    "results-half": 1,
    "results-after": 1,
    "report-half": 1,
    "report-after": 1,
    "ended-before": 1,
    "ended-after": 1,
}
CHOICE = {
    "prediction": (2, 7),
    "checkpoint-half": (1,),
    "checkpoint": (2, 4),
    "checkpoint-removal": (3,),
    "artefact-before": (4,),
    "artefact-half": (1, 5, 7, 9, 12),  # a prompt, latents, a segment, a sheet, a film
    "artefact-after": (5, 8, 10),  # latents; a master without its sheet; a film without its captions
    "marker-half": (5, 9),
    "marker-after": (1, 4, 6, 8, 10),
    "event-recorded": (5, 10),
    "publish": (1, 4),
}
ALL = "LONGTAKE_CHAOS_SEEDS" in os.environ
CASES = [
    (point, nth)
    for point, times in PASSED.items()
    for nth in (range(1, times + 1) if ALL else CHOICE.get(point, (1,)))
]


@dataclass
class Stage:
    """Where the same command can be given again and again: a process with everything imported, and a film."""

    process: subprocess.Popen[str]
    folder: Path
    settings: list[str]

    def run(self, out: Path, point: str = "never", nth: int = 1) -> int:
        """The exit status of the command; negative, a signal."""
        return self.at_once((out, point, nth))[0]

    def at_once(self, *commands: tuple[Path, str, int]) -> list[int]:
        """The exit statuses of several at the same time."""
        manifest = str(self.folder / "film.yaml")
        asked = [
            (point, nth, ["run", manifest, "--out", str(out), "--local", *self.settings], f"{out}.log")
            for out, point, nth in commands
        ]
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        statuses: list[int] = json.loads(self.process.stdout.readline())
        return statuses


@pytest.fixture(scope="module")
def stage(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("crash")
    (folder / "film.yaml").write_text(FILM, encoding="utf-8")
    (folder / "scratch").mkdir()
    settings = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
    settings += [f"profiles.chalk.model.folder={tiny_folder}", f"identity={folder / 'identity'}"]
    settings += ["cluster.checkpoint_every=1"]
    surroundings = os.environ | {
        "TMPDIR": str(folder / "scratch"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, str(CRASH), "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
    ) as process:
        yield Stage(process, folder, settings)
        assert process.stdin
        process.stdin.close()  # its loop ends with its input


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> dict[str, Any]:
    """What an undisturbed run leaves: the artefacts of pictures by task."""
    out = stage.folder / "undisturbed"
    assert stage.run(out) == 0, Path(f"{out}.log").read_text()
    return pictures(out)


def pictures(out: Path) -> dict[str, Any]:
    """The artefacts of every shot's latents and every segment, by task."""
    return {
        name: body["files"] for name, body in markers(out).items() if "/shot/" in name or "/segment/" in name
    }


def markers(out: Path) -> dict[str, Any]:
    """Every marker's content by its path."""
    return {str(path): json.loads(path.read_bytes()) for path in _files(out, "done")}


def _files(out: Path, below: str) -> list[Path]:
    return [path for path in sorted((out / below).rglob("*")) if path.is_file()]


def made_in(out: Path, epoch: int) -> set[str]:
    """The tasks that a driver's ledger says were made, not found."""
    return {
        event["task_key"]
        for table in iter_events(open_store(str(out)), _job(out))
        for event in table.to_pylist()
        if event["driver_epoch"] == epoch and event["event"] == "done"
    }


def _job(out: Path) -> str:
    (folder,) = (out / "jobs").iterdir()
    return folder.name


def check_what_readers_see(out: Path, root: str) -> None:
    """Whatever has a name is whole."""
    store = open_store(str(out))
    for path in _files(out, "cas"):
        assert hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest() == path.name
    for body in markers(out).values():
        for hash in body["files"].values():
            assert store.has_artefact(hash)
    for path in _files(out, "checkpoints"):
        assert from_bytes(path.read_bytes())
    for path in _files(out, "films"):
        if path.suffix == ".mp4":
            assert verify(path, root).state == "Trusted", path
        else:
            assert path.read_text(encoding="utf-8").startswith("WEBVTT\n")
    for path in _files(out, "jobs"):
        assert path.suffix == ".parquet" or json.loads(path.read_bytes())
    if (out / "jobs").is_dir():
        assert all(table.num_rows for table in iter_events(store, _job(out)))
    if (out / "report" / "index.html").exists():
        assert (out / "report" / "index.html").read_text().endswith("</html>")
    check_results(store)


def check_results(store: Store) -> None:
    """If there are results, they are those of both languages, and each film is the one that they tell of."""
    if store.read("results.parquet") is None:
        return
    rows = read_results(store).to_pylist()
    assert [(row["lang"], row["status"]) for row in rows] == [("hi-IN", "done"), ("ta-IN", "done")]
    for row in rows:
        film = store.read(row["output_uri"])
        assert film is not None and hashlib.sha256(film).hexdigest() == row["output_sha256"]


@pytest.mark.parametrize(("point", "nth"), CASES)
def test_a_killed_driver_leaves_nothing_half_written_and_its_command_goes_on(
    stage: Stage, undisturbed: dict[str, Any], tmp_path: Path, point: str, nth: int
) -> None:
    out, root = tmp_path / "out", make_development_identity(stage.folder / "identity").root.read_text()
    assert stage.run(out, point, nth) == -9, "the point was not passed so often"
    if point == "validation":
        assert not out.exists()
    check_what_readers_see(out, root)
    before = markers(out)
    assert stage.run(out) == 0, Path(f"{out}.log").read_text()
    check_what_readers_see(out, root)
    after = markers(out)
    assert len(after) == TASKS and before.items() <= after.items()
    epoch = len(list((out / "jobs" / _job(out) / "driver").iterdir()))
    assert not made_in(out, epoch) & {body["key"] for body in before.values()}
    assert _relative(pictures(out), out) == _relative(undisturbed, stage.folder / "undisturbed")
    assert not _files(out, "checkpoints"), "a finished shot needs none"
    assert (out / "jobs" / _job(out) / "ended" / f"{epoch:06}.json").exists()


def _relative(found: dict[str, Any], out: Path) -> dict[str, Any]:
    return {str(Path(name).relative_to(out)): files for name, files in found.items()}


@pytest.mark.parametrize("saved", range(1, (STEPS - 1) * SHOTS + 1) if ALL else [3])
def test_a_killed_driver_loses_no_more_than_the_steps_since_the_last_checkpoint(
    stage: Stage, tmp_path: Path, saved: int
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert stage.run(out, "checkpoint", saved) == -9
    left = steps_left(out) * WINDOWS
    assert 0 < left < STEPS * SHOTS * WINDOWS
    shutil.copytree(out, again)
    assert stage.run(out, "prediction", left + 1) == 0, "it predicted more than was left to do"
    assert stage.run(again, "prediction", left) == -9, "it predicted less: the bound proves nothing"


def steps_left(out: Path) -> int:
    """The steps of all shots but those behind a checkpoint or a marker."""
    marked = {path.stem for path in _files(out, "done/shot")}
    saved = {path.parent.name: int(path.stem[:6]) for path in _files(out, "checkpoints")}  # the last one wins
    return (SHOTS - len(marked)) * STEPS - sum(step for key, step in saved.items() if key not in marked)


def test_two_drivers_at_once_and_a_third_that_dies_make_the_same_film(
    stage: Stage, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out, root = tmp_path / "out", make_development_identity(stage.folder / "identity").root.read_text()
    statuses = stage.at_once((out, "never", 1), (out, "never", 1), (out, "marker-after", 5))
    assert 2 in statuses and set(statuses) <= {0, 2, -9}, "one renders, and others leave it to that"
    if 0 not in statuses:  # the one that rendered has died
        assert stage.at_once((out, "never", 1)) == [0]
    check_what_readers_see(out, root)
    assert len(markers(out)) == TASKS
    assert len(list((out / "jobs" / _job(out) / "driver").iterdir())) >= 3
    assert _relative(pictures(out), out) == _relative(undisturbed, stage.folder / "undisturbed")
