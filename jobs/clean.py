"""`longtake clean`: take away what nobody needs any more in a job's store, or say what that would be.

Decides: when it is safe. Does not decide: what is left over (cluster.leftovers).
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jobs.outcome import DONE
from jobs.places import opened, reading
from jobs.refusal import Refused
from jobs.status import known_job, known_jobs

if TYPE_CHECKING:
    from cluster.leftovers import Leftover
    from manifests.store import Store

HOUR_S = 3600.0
LATEST = 1 << 40  # an epoch after all
SHOWN = 20


def clean(arguments: argparse.Namespace) -> int:
    """Remove leftovers, or with --dry-run list them. Refused while any job of the store is rendered."""
    from cluster.leftovers import leftovers

    store = opened(arguments.out)
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        drivers = _drivers(store)
        _check_idle(store)
        found = list(leftovers(store, arguments.older_than * HOUR_S))
        if not arguments.dry_run:
            _take(store, found, drivers)
    if arguments.output == "json":
        print(json.dumps(list(map(_facts, found)), ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(found, arguments.dry_run)))
    return DONE


def _check_idle(store: "Store") -> None:
    """Raise Refused while a driver is at work: what it has just made has no marker yet."""
    from manifests.drivers import rival_of, told

    for job in known_jobs(store):
        if (driver := rival_of(store, job, LATEST)) is not None:
            raise Refused(f"{job} is being rendered by {told(driver)}: clean when it has ended")


def _drivers(store: "Store") -> list[str]:
    """The claims of all drivers that ever were."""
    return [key for key in store.list_keys("jobs") if key.split("/")[2:3] == ["driver"]]


def _take(store: "Store", found: Sequence["Leftover"], drivers: list[str]) -> None:
    """Remove what was found, unless a driver has begun since the look. Raises Refused, OSError."""
    from manifests.lying import take_away

    if _drivers(store) != drivers:
        raise Refused("a job has begun meanwhile: clean when it has ended")
    for each in found:
        take_away(store, each.lying)


def _facts(each: "Leftover") -> dict[str, Any]:
    lying = each.lying
    facts = {"kind": each.kind, "key": lying.key, "bytes": lying.size_bytes}
    return facts | {"age_s": round(lying.age_s), "why": each.why}


def _lines(found: Sequence["Leftover"], dry_run: bool) -> Iterator[str]:
    from manifests.places import shown_size

    for each in found[:SHOWN]:
        facts = f"{shown_size(each.lying.size_bytes)}, {each.lying.age_s / HOUR_S:.1f} h old"
        yield f"{each.kind:10}  {each.lying.key}  {facts}: {each.why}"
    if len(found) > SHOWN:
        yield f"and {len(found) - SHOWN:,} more; -o json lists all"
    kinds = Counter(each.kind for each in found)
    counts = ", ".join(f"{n:,} {kind}s" if n > 1 else f"1 {kind}" for kind, n in sorted(kinds.items()))
    size = shown_size(sum(each.lying.size_bytes for each in found))
    did = "would be removed" if dry_run else "removed"
    yield f"{did}: {counts.replace('unfinisheds', 'unfinished')}, {size}" if found else "nothing is left over"
