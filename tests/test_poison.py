"""A batch in which rows are poison, each in a way of its own: those fail by name, and nothing else does.

The workers are processes on five hosts (tests.hosts). The whole, where LONGTAKE_CHAOS_SEEDS is set, is 200
films of 12 steps with two of each kind, 1 %; otherwise 40 of 4 steps with one of each. What is wasted is
counted in predictions, which all take the same; loading so small a model takes far longer than using it.
"""

import json
import os
from pathlib import Path
from typing import Any

from cluster.audit import audit
from jobs.status import latest
from manifests.results import read_results
from manifests.store import open_store
from tests.poison import INVALID, KINDS
from tests.stage import staged

WHOLE = "LONGTAKE_CHAOS_SEEDS" in os.environ
FILMS, OF_EACH, STEPS = (200, 2, 12) if WHOLE else (40, 1, 4)
WASTE = 0.05 if WHOLE else 0.25  # of all predictions, with 1 % of the rows of each kind, or 2.5 %
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
    share, seconds = wasted(books, ""), wasted(books, "_s")
    print(f"wasted: {share:.1%} of predictions; with loading and waiting {seconds:.1%} of gang seconds")
    assert share < WASTE, books


def wasted(books: dict[str, Any], unit: str) -> float:
    """The share of what gangs did that went into shots that failed, or came to nothing."""
    done, lost = books[f"predicted{unit}"], books[f"failed{unit}"]
    bad = sum(lost.values()) + sum(amount for name, amount in done.items() if name in POISON)
    return float(bad / (sum(done.values()) + sum(lost.values())))
