"""`longtake takes`: which takes of a film's shots were drawn, and which are picked.

A film that is finished with a picked take leaves a note of it. Take 0, of the manifest's seed, needs none.

Decides: what is told of takes. Does not decide: what a take is (cluster.picks).
"""

import argparse
import json
from typing import TYPE_CHECKING, Any

from jobs.outcome import DONE
from jobs.places import opened, reading
from jobs.refusal import Refused
from jobs.status import known_job
from manifests.control import Orders

if TYPE_CHECKING:
    from cluster.events import FilmDone
    from cluster.picks import Picks
    from manifests.store import Store


def folder(job_id: str, row_id: str) -> str:
    """Where the notes of a film's takes lie."""
    return f"jobs/{job_id}/takes/{row_id}"


def note_takes(store: "Store", job_id: str, film: "FilmDone", picks: "Picks") -> None:
    """Note the takes with which a film was finished, each once. Raises OSError."""
    from cluster.outcomes import Outcome

    for segment in film.film.master.segments:
        shot, drawn = segment.source.shot, film.results.get(segment.key)
        take = picks.get((film.film.row_id, shot.shot_id))
        if take and isinstance(drawn, Outcome):
            key = f"{folder(job_id, film.film.row_id)}/{shot.shot_id}/{take:03}.json"
            body = {"take": take, "seed": shot.seed, "shot": segment.source.key, "segment": segment.key}
            store.put_marker(key, body | {"files": drawn.files})


def takes(arguments: argparse.Namespace) -> int:
    """Print each shot of the row of which a take was ever picked, with its takes."""
    store = opened(arguments.out)
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        found = _found(store, arguments.job, arguments.row)
    if not found:
        raise Refused(
            f"no take of row {arguments.row} was picked in {arguments.job}: each shot has take 0 alone, "
            "of the manifest's seed; longtake pick has another one drawn"
        )
    if arguments.output == "json":
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for one in found:
            drawn = ", ".join(str(take) for take in one["drawn"])
            print(f"{one['shot']}: take {one['picked']} is picked; drawn: {drawn}")
    return DONE


def _found(store: "Store", job: str, row_id: str) -> list[dict[str, Any]]:
    """The shots of a row of which takes were picked: the last pick, and what was drawn."""
    picked = {
        order["shot"]: order["take"]
        for order in Orders(store, job).new()
        if order.get("order") == "pick" and order.get("rows") == [row_id]
    }
    drawn: dict[str, set[int]] = {shot: {0} for shot in picked}
    for key in store.list_keys(folder(job, row_id)):
        shot, name = key.split("/")[-2:]
        drawn.setdefault(shot, {0}).add(int(name.removesuffix(".json")))
    return [
        {"shot": shot, "picked": picked.get(shot, 0), "drawn": sorted(takes)}
        for shot, takes in sorted(drawn.items())
    ]
