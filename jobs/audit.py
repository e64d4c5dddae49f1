"""Whether everything that must be true of a job is: `longtake verify JOB --out URL`.

A job that has not come to its end is checked as far as it has come, and is neither sound nor broken: that it
is unfinished has an exit code of its own.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.outcome import DONE, SOME_FAILED, TIMED_OUT
from jobs.places import opened, reading
from jobs.status import known_job, latest

if TYPE_CHECKING:
    from cluster.unsound import Broken, Unchecked

    Found = Sequence[tuple[str, Broken | Unchecked]]  # with its job


def audit_job(arguments: argparse.Namespace) -> int:
    """Print what is broken of jobs, then exit 4, and what cannot be checked, which alone is exit 7."""
    from cluster.audit import audit
    from cluster.unsound import Broken

    store, found = opened(arguments.out), []
    with reading(arguments.out):
        for job in arguments.films:
            known_job(store, job, arguments.out)
            _, ended = latest(store, job)
            found += [(job, each) for each in audit(store, job, ended)]
    n_broken = sum(isinstance(each, Broken) for _, each in found)
    if arguments.output == "json":
        names = {True: "broken", False: "unchecked"}
        facts = [{"job_id": job, "is": names[isinstance(e, Broken)]} | asdict(e) for job, e in found]
        print(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(found, n_broken)))
    if n_broken:
        return SOME_FAILED
    return TIMED_OUT if found else DONE


def _lines(found: "Found", n_broken: int) -> Iterator[str]:
    """Each finding, and a verdict on all jobs together."""
    from cluster.audit import RULES
    from cluster.unsound import Broken

    for job, each in found:
        kind = "" if isinstance(each, Broken) else "not checked: "
        yield f"{job}: {kind}{each.rule}: {each.where}: {each.what}"
    rest = [rule for rule in RULES if rule not in {each.rule for _, each in found}]
    if n_broken:
        unchecked = f", {len(found) - n_broken} not checked" if len(found) > n_broken else ""
        yield f"{n_broken} broken{unchecked}"
    elif found:
        yield f"unfinished; {len(rest)} of {len(RULES)} rules hold so far: {', '.join(rest)}"
    else:
        yield f"all {len(RULES)} rules hold: {', '.join(RULES)}"
