"""A batch of 24 films goes through storms drawn by seed, and the same command then finishes it, bit by bit.

A round is a driver struck by one to four faults (tests.storm), and then the same command in calm weather
until it is done. The struck driver may end as ENDS says and in no other way. Nothing may be corrupt, twice or
lost, nor told twice by the ledger, and latents, segments and masters are those of a run that nothing befell.
LONGTAKE_CHAOS_SEEDS says how many rounds, from seed 0, or which, as 17:18, and some links are then cut for
30 s; by default there are as many as fit in SLICE_S, and cuts of 4 s at most.

Ray is not in it, so that a round takes seconds: dispatch, workers, stores and the command line are the real
ones, and what carries calls between processes is tests.hosts. What Ray does when it loses processes, nodes
and links is tried by test_cluster_chaos, slow_chaos, slow_node_lost and slow_hosts.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.audit import audit
from engine.film.provenance import make_development_identity, verify
from jobs.status import latest
from manifests.ledger import FINAL, iter_events
from manifests.results import read_results
from manifests.store import Store, open_store
from tests.stage import Stage, staged
from tests.storm import LONG_CUT_S, OF_DRIVER, WEIGHTS, Fault, draw
from tests.weather import TROUBLES

ASKED = os.environ.get("LONGTAKE_CHAOS_SEEDS", "")
WHOLE = bool(ASKED)
SLICE_S = 120.0  # from which on no round is begun by default
AGAIN = 3  # commands after the storm; the first should do, but a rival may be at it still
ROUNDS = 200
FRAMES = (13, 17, 25)  # one, two and three windows
SHOTS = [{"shot_id": f"s{k}", "prompt": f"rain {k % 6}", "duration_frames": FRAMES[k % 3]} for k in range(12)]
# How a driver may end that a fault has struck, besides well: by README's exit codes, or not by itself.
ENDS: dict[str, set[Any]] = {
    "kill the driver": {-signal.SIGKILL},
    "freeze the driver": {"stopped"},
    "store": {9},
    "full": {9},
}
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
    found += twice(store)
    counted = {name: (ended or {}).get(name) for name in ("films", "done", "failed", "invalid")}
    found += [] if list(counted.values()) == [24, 24, 0, 0] else [f"counted: {counted}"]
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


def twice(store: Store) -> Iterator[str]:
    """What the ledger has of tasks that were made twice, or are told as done with different artefacts."""
    made, told = Counter[str](), dict[str, set[Any]]()
    for table in iter_events(store, "batch"):
        for event in table.to_pylist():
            if event["event"] in FINAL:
                made[event["task_key"]] += event["event"] == "done"
                told.setdefault(event["task_key"], set()).add(event["artefact"])
    yield from (f"made {n} times: {key}" for key, n in made.items() if n > 1)
    yield from (f"of several artefacts: {key} {all_}" for key, all_ in told.items() if len(all_) > 1)
    yield from (f"of no artefact: {key}" for key, all_ in told.items() if None in all_)


def weather(stage: Stage, out: Path, faults: list[Fault]) -> tuple[list[tuple[str, Any]], list[str]]:
    """How the driver in the storm ended, and how those after it did, each by what it was; and broken rules.

    A driver that comes to its end leaves nothing for another to mend.
    """
    first = stage.start(out, faults)
    ends, store = [("struck", stage.end(first))], open_store(str(out))
    found = audit(store, "batch", latest(store, "batch")[1]) if ends[0][1] == 0 else ()
    unsound = [f"after the struck driver: {each}" for each in found]
    if ends[0][1] == "stopped":  # somebody starts another one, elsewhere; then the first wakes up
        second = stage.start(out, None, "elsewhere")
        (seconds,) = (fault.much for fault in faults if fault.kind == "freeze the driver")
        time.sleep(seconds)
        os.kill(first, signal.SIGCONT)
        ends += [("elsewhere", stage.end(second)), ("woken", stage.end(first))]
    for _ in range(AGAIN):
        ends.append(("calm", stage.end(stage.start(out))))
        if ends[-1][1] == 0:
            break
    return ends, unsound


def unlawful(ends: list[tuple[str, Any]], faults: list[Fault]) -> list[str]:
    """Ends of drivers that none of these faults excuses."""
    kinds = {fault.kind for fault in faults}
    excused = set[Any]().union(*(ENDS.get(kind, set()) for kind in kinds))
    rival = {2} if "freeze the driver" in kinds else set()  # which another driver renders: this one leaves
    lawful = {"struck": excused, "woken": excused & {9} | rival, "elsewhere": rival, "calm": rival}
    found = [f"the {who} driver ended with {end}" for who, end in ends if end not in {0} | lawful[who]]
    return found + ([] if ends[-1][1] == 0 else ["the same command did not finish the job"])


def seeds() -> Iterator[int]:
    """The rounds that are asked for, or as many as fit."""
    began = time.monotonic()
    first, _, last = ASKED.rpartition(":")
    for seed in range(int(first or 0), int(last or ROUNDS)):
        if WHOLE or time.monotonic() - began < SLICE_S:
            yield seed


def test_two_hundred_seeds_draw_every_fault_and_one_seed_the_same_ones_always() -> None:
    storms = [draw(seed) for seed in range(ROUNDS)]
    drawn = {fault.kind for storm in storms for fault in storm}
    assert drawn == WEIGHTS.keys() | OF_DRIVER.keys() and storms == [draw(seed) for seed in range(ROUNDS)]
    assert {fault.whom for storm in storms for fault in storm if fault.kind == "store"} == set(TROUBLES)
    assert {len(storm) for storm in storms} == {1, 2, 3, 4}
    assert all(sum(fault.kind in OF_DRIVER for fault in storm) <= 1 for storm in storms)


def test_the_whole_form_cuts_links_for_30_s_and_is_else_the_slice() -> None:
    pairs = [
        pair
        for n in range(ROUNDS)
        for pair in zip(draw(n), draw(n, whole=True), strict=True)
        if pair[0] != pair[1]
    ]
    assert len(pairs) >= 10
    assert all(replace(short, much=LONG_CUT_S) == long and short.kind == "cut" for short, long in pairs)


@pytest.mark.parametrize(
    ("faults", "ends", "said"),
    [
        (["kill"], [("struck", 1)], "struck driver ended with 1"),
        (["kill", "clock"], [("struck", 9)], "struck driver ended with 9"),
        (["store"], [("struck", -9)], "struck driver ended with -9"),
        (["freeze"], [("struck", "late")], "struck driver ended with late"),
        (["store"], [("struck", 9), ("calm", 2)], "calm driver ended with 2"),
        (["freeze the driver"], [("struck", "stopped"), ("woken", -9)], "woken driver ended with -9"),
    ],
)
def test_an_end_that_no_fault_excuses_is_told(faults: list[str], ends: list[Any], said: str) -> None:
    struck = [Fault(0, kind) for kind in faults]
    assert any(said in each for each in unlawful([*ends, ("calm", 0)], struck))
    assert not unlawful([("struck", 0), ("calm", 0)], struck)


def test_a_batch_outlives_storms_and_every_film_has_the_bits_of_a_calm_night(
    stage: Stage, calm: Path
) -> None:
    root = make_development_identity(stage.folder / "identity").root.read_text()
    rounds, wrong = 0, []
    for seed in seeds():
        faults, out, began = draw(seed, WHOLE), stage.folder / f"round-{seed}", time.monotonic()
        ends, trouble = weather(stage, out, faults)
        stage.clear()
        trouble += unlawful(ends, faults) + (broken(out, calm, root) if ends[-1][1] == 0 else [])
        log = Path(f"{out}.log").read_text()
        trouble += ["a driver ended with a traceback"] if "Traceback (most recent call last)" in log else []
        how = ", ".join(f"{who} {end}" for who, end in ends)
        told = f"round {seed}: {time.monotonic() - began:.1f} s, ends {how}; {', '.join(map(str, faults))}"
        print(told, flush=True)
        if trouble:
            said = log.splitlines()[-40:]
            again = f"LONGTAKE_CHAOS_SEEDS={seed}:{seed + 1} make chaos plays it again"
            wrong.append("\n  ".join([told, again, *trouble[:9], *said]))
        else:
            shutil.rmtree(out)
        rounds += 1
    assert rounds and not wrong, "\n".join(wrong)
