"""Whether everything that must be true of a job is: `longtake verify JOB --out URL`."""

import argparse
import json
from dataclasses import asdict

from jobs.outcome import DONE, SOME_FAILED
from jobs.places import opened, reading
from jobs.status import known_job, latest


def audit_job(arguments: argparse.Namespace) -> int:
    """Print every broken rule of a job, or that none is; exit 4 if any is."""
    from cluster.audit import RULES, audit

    store, broken = opened(arguments.out), []
    with reading(arguments.out):
        for job in arguments.films:
            known_job(store, job, arguments.out)
            _, ended = latest(store, job)
            broken += [(job, each) for each in audit(store, job, ended)]
    if arguments.output == "json":
        facts = [{"job_id": job} | asdict(each) for job, each in broken]
        print(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        for job, each in broken:
            print(f"{job}: {each.rule}: {each.where}: {each.what}")
        print(f"{len(broken)} broken" if broken else f"all {len(RULES)} rules hold: {', '.join(RULES)}")
    return SOME_FAILED if broken else DONE
