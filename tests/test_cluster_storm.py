"""A batch of 24 films goes through storms drawn by seed, and the same command then finishes it, bit by bit.

A round is a driver struck by one to four faults (tests.storm), whatever becomes of it, and then the same
command in calm weather until it is done. Nothing may be corrupt, twice or lost, and latents, segments and
masters are those of a run that nothing befell. LONGTAKE_CHAOS_SEEDS says how many rounds, from seed 0, or
which, as 17:18; by default as many as fit in SLICE_S.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.audit import audit
from engine.film.provenance import make_development_identity, verify
from jobs.status import latest
from manifests.results import read_results
from manifests.store import open_store
from tests.stage import Stage, staged
from tests.storm import OF_DRIVER, WEIGHTS, Fault, draw
from tests.weather import TROUBLES

SLICE_S = 120.0  # from which on no round is begun by default
AGAIN = 3  # commands after the storm; the first should do, but a rival may be at it still
ROUNDS = 200
FRAMES = (13, 17, 25)  # one, two and three windows
SHOTS = [{"shot_id": f"s{k}", "prompt": f"rain {k % 6}", "duration_frames": FRAMES[k % 3]} for k in range(12)]
BITS = ("prompt", "shot", "segment", "master")  # kinds of task whose artefacts have the same bytes always


def row(k: int) -> dict[str, Any]:
    """A film: the first twelve of one shot, others of two that those have too, every sixth with a voice."""
    shots = [SHOTS[k % 12], SHOTS[(5 * k + 1) % 12]][: 1 + k // 12]
    spoken = [{"shot_id": shots[0]["shot_id"], "text": "सूरज।"}]
    languages = [{"lang": "hi-IN", "title": "जल", "segments": spoken}] if k % 6 == 0 else []
    return {"row_id": f"f{k:02}", "profile": "chalk", "seed": 3, "shots": shots, "languages": languages}


@pytest.fixture(scope="module")
def stage(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    rows = [row(k) for k in range(24)]
    with staged(tmp_path_factory.mktemp("storm"), tiny_folder, rows) as stage:
        yield stage


@pytest.fixture(scope="module")
def calm(stage: Stage) -> Path:
    """The folder of a run that nothing befell."""
    out = stage.folder / "calm"
    assert stage.end(stage.start(out)) == 0, Path(f"{out}.log").read_text()
    assert not broken(out, out, make_development_identity(stage.folder / "identity").root.read_text())
    return out


def markers(out: Path) -> dict[str, Any]:
    """Every marker's files by its path."""
    paths = [path for path in (out / "done").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): json.loads(path.read_bytes())["files"] for path in paths}


def broken(out: Path, calm: Path, root: str) -> list[str]:
    """Whatever is not as it must be in a folder whose job is done."""
    store, found = open_store(str(out)), []
    _, ended = latest(store, "batch")
    found += [f"{each.rule}: {each.where}: {each.what}" for each in audit(store, "batch", ended)]
    rows = [(row["row_id"], row["lang"], row["status"]) for row in read_results(store).to_pylist()]
    expected = [(row(k)["row_id"], "und" if k % 6 else "hi-IN", "done") for k in range(24)]
    found += [] if sorted(rows) == expected else [f"results: {sorted(rows)}"]
    ours, theirs = markers(out), markers(calm)
    found += [f"a task more: {name}" for name in sorted(ours.keys() - theirs.keys())]
    found += [f"a task lost: {name}" for name in sorted(theirs.keys() - ours.keys())]
    alike = [name for name in ours.keys() & theirs.keys() if name.split("/")[1] in BITS]
    found += [f"other bits: {name}" for name in alike if ours[name] != theirs[name]]
    for path in (out / "cas").rglob("*"):
        if path.is_file() and hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest() != path.name:
            found.append(f"corrupt: {path.name}")
    films = sorted((out / "films").glob("*.mp4"))
    found += [] if len(films) == 24 else [f"{len(films)} films are published"]
    found += [f"not ours: {film.name}" for film in films if verify(film, root).state != "Trusted"]
    return found + [f"left: {path}" for path in (out / "checkpoints").rglob("*.safetensors")]


def weather(stage: Stage, out: Path, faults: list[Fault]) -> list[Any]:
    """How the driver in the storm ended, and how the commands after it did, the last of them well.

    A driver that comes to its end leaves nothing for those to mend.
    """
    first = stage.start(out, faults)
    ends = [stage.end(first)]
    if ends == [0]:
        store = open_store(str(out))
        ends += [str(each) for each in audit(store, "batch", latest(store, "batch")[1])]
    if ends == ["stopped"]:  # somebody starts another one, elsewhere; then the first wakes up
        second = stage.start(out, None, "elsewhere")
        (seconds,) = (fault.much for fault in faults if fault.kind == "freeze the driver")
        time.sleep(seconds)
        os.kill(first, signal.SIGCONT)
        ends += [stage.end(second), stage.end(first)]
    for _ in range(AGAIN):
        ends.append(stage.end(stage.start(out)))
        if ends[-1] == 0:
            break
    return ends


def seeds() -> Iterator[int]:
    """The rounds that are asked for, or as many as fit."""
    asked, began = os.environ.get("LONGTAKE_CHAOS_SEEDS", ""), time.monotonic()
    first, _, last = asked.rpartition(":")
    for seed in range(int(first or 0), int(last or ROUNDS)):
        if asked or time.monotonic() - began < SLICE_S:
            yield seed


def test_two_hundred_seeds_draw_every_fault_and_one_seed_the_same_ones_always() -> None:
    storms = [draw(seed) for seed in range(ROUNDS)]
    drawn = {fault.kind for storm in storms for fault in storm}
    assert drawn == WEIGHTS.keys() | OF_DRIVER.keys() and storms == [draw(seed) for seed in range(ROUNDS)]
    assert {fault.whom for storm in storms for fault in storm if fault.kind == "store"} == set(TROUBLES)
    assert {len(storm) for storm in storms} == {1, 2, 3, 4}
    assert all(sum(fault.kind in OF_DRIVER for fault in storm) <= 1 for storm in storms)


def test_a_batch_outlives_storms_and_every_film_has_the_bits_of_a_calm_night(
    stage: Stage, calm: Path
) -> None:
    root = make_development_identity(stage.folder / "identity").root.read_text()
    rounds, wrong = 0, []
    for seed in seeds():
        faults, out, began = draw(seed), stage.folder / f"round-{seed}", time.monotonic()
        ends = weather(stage, out, faults)
        stage.clear()
        trouble = broken(out, calm, root) if ends[-1] == 0 else ["the same command did not finish the job"]
        trouble += [end for end in ends if isinstance(end, str) and end != "stopped"]
        told = f"round {seed}: {time.monotonic() - began:.1f} s, ends {ends}, {', '.join(map(str, faults))}"
        print(told, flush=True)
        if trouble:
            said = Path(f"{out}.log").read_text().splitlines()[-40:]
            again = f"LONGTAKE_CHAOS_SEEDS={seed}:{seed + 1} make chaos plays it again"
            wrong.append("\n  ".join([told, again, *trouble[:9], *said]))
        else:
            shutil.rmtree(out)
        rounds += 1
    assert rounds and not wrong, "\n".join(wrong)
