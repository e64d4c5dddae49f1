"""A batch in which rows are poison, each in a way of its own: those fail by name, and nothing else does.

The workers are processes on five hosts (tests.hosts). The whole, where LONGTAKE_CHAOS_SEEDS is set, is 200
films of 12 steps with two of each kind, 1 %; otherwise 40 of 4 steps with one of each. What is wasted is
counted in predictions, and in GPU-seconds as the job's own bill has them. How long a gang that hangs is
waited for is a setting, and of no film: those seconds are held against the number of waits, all others
against what the gangs took. In the whole form, where a wait is little beside a film, all of them are.

No row can fill the store: one that is full is of the whole job, which then stops (test_cluster_storm).
"""

import json
import os
from pathlib import Path
from typing import Any

from cluster.audit import audit
from jobs.status import latest
from manifests.results import read_results
from manifests.store import open_store
from tests.hosts import ASLEEP_S
from tests.poison import INVALID, KINDS, WINDOW_S
from tests.stage import staged

WHOLE = "LONGTAKE_CHAOS_SEEDS" in os.environ
FILMS, OF_EACH, STEPS = (200, 2, 12) if WHOLE else (40, 1, 4)
WASTE = 0.05 if WHOLE else 0.25  # of all predictions, with 1 % of the rows of each kind, or 2.5 %
LOADING = 0.01  # of the seconds: gangs that come anew load the model, which is in the call that then fails
HANGING = ("TIMEOUT", "ENDED")  # the latter at a call that hung still as the job ended
CODES = {name: code for name, (_, _, code) in KINDS.items()} | INVALID
POISON = [f"{name}.{k}" for k in range(OF_EACH) for name in CODES]


def row(name: str) -> dict[str, Any]:
    """A film of one shot of this name."""
    shot: dict[str, Any] = {"shot_id": name, "prompt": "rain", "duration_frames": 17}
    shot |= {"first_frame_uri": "torn.png"} if name.startswith("unreadable") else {}
    shot |= {"duration_frames": 0} if name.startswith("timeless") else {}
    return {"row_id": name.replace(".", "-"), "profile": "chalk", "seed": 3, "shots": [shot], "languages": []}


def batch() -> list[dict[str, Any]]:
    """Sound films, with poison spread evenly among them."""
    names = [f"sound.{k}" for k in range(FILMS - len(POISON))]
    for number, name in enumerate(POISON):
        names.insert(number * FILMS // len(POISON), name)
    return [row(name) for name in names]


def test_poison_fails_its_own_row_by_name_and_no_other_no_host_stays_blocked_and_little_is_wasted(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "films"
    (tmp_path / "torn.png").write_bytes(b"no picture")
    told = ("on_invalid=skip", f"roots=[{tmp_path}]", "cluster.breaker_films=0")
    told += (f"profiles.chalk.sampling.n_steps={STEPS}",)
    with staged(tmp_path, tiny_folder, batch(), *told) as stage:
        status = stage.end(stage.start(out, "poison"))
    said = Path(f"{out}.log").read_text()
    assert status == 4, said[-3000:]
    store = open_store(str(out))
    rows = {row["row_id"]: (row["status"], row["code"]) for row in read_results(store).to_pylist()}
    expected = {row["row_id"]: ("done", None) for row in batch()}
    for name in POISON:
        kind = name.rpartition(".")[0]
        expected[name.replace(".", "-")] = ("invalid" if kind in INVALID else "failed", CODES[kind])
    assert rows == expected
    assert list(audit(store, "batch", latest(store, "batch")[1])) == []
    (books,) = (json.loads(line.removeprefix("BOOKS ")) for line in said.splitlines() if "BOOKS" in line[:5])
    assert books["blocked"] == [], "a host is still thought to be at fault"
    share = wasted(books)
    print(f"wasted: {share:.1%} of predictions")
    assert share < WASTE, books
    hold_to_account(latest(store, "batch")[1]["gpu"], read_results(store).to_pylist())


def wasted(books: dict[str, Any]) -> float:
    """The share of predictions that went into shots that failed, or came to nothing."""
    done, lost = books["predicted"], books["failed"]
    bad = sum(lost.values()) + sum(amount for name, amount in done.items() if name in POISON)
    return float(bad / (sum(done.values()) + sum(lost.values())))


def hold_to_account(gpu: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """By its bill the job waited for gangs that hung no more often than it tries, and else wasted little."""
    failed = [row for row in rows if row["status"] == "failed"]
    vain_s = sum(row["gpu_used_s"] - row["gpu_wasted_s"] for row in failed)  # kept, and of no film
    hung_s = sum(gpu["wasted_by"].get(cause, 0.0) for cause in HANGING)
    waits, others_s = hung_s / OF_EACH / (ASLEEP_S + WINDOW_S), gpu["wasted_s"] - hung_s + vain_s
    share = others_s / (gpu["used_s"] - hung_s)
    causes = ", ".join(f"{cause} {seconds:.1f}" for cause, seconds in gpu["wasted_by"].items())
    print(f"of {gpu['used_s']:.1f} GPU-s {vain_s:.1f} went into shots of films that failed, and {causes};")
    print(f"{waits:.1f} waits for a row that hangs, {hung_s / gpu['used_s']:.1%}; of the rest {share:.1%}")
    assert 3 <= waits < 6.5, gpu
    assert share < WASTE + LOADING, gpu
    reported = gpu["wasted_s"] / gpu["used_s"]
    print(f"as the job reports it, {reported:.1%} of the GPU-seconds were wasted")
    assert reported < WASTE or not WHOLE, gpu
