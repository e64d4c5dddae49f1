"""The `submit` verb: the same `run`, as a driver on a Ray cluster's head.

Decides what the driver is told: the manifest as it is found from the upload, and an `--out` that outlives it.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.outcome import CANCELLED, DONE, FAILED
from jobs.places import opened
from jobs.preview import spec_of
from jobs.refusal import Refused

if TYPE_CHECKING:
    from cluster.jobs_api import JobsApi


def submit(arguments: argparse.Namespace) -> int:
    """Hand a job to a cluster, and print its id and the `ray job submit` line that would do the same."""
    opened(arguments.out)
    folder = arguments.working_dir.resolve()
    if not folder.is_dir():
        raise Refused(f"--working-dir {arguments.working_dir} is no folder")
    job_id = arguments.job_id or _job_id(arguments)
    from cluster.jobs_api import JobsApi, Taken

    api, entrypoint = JobsApi(arguments.address), shlex.join(driver_command(arguments, job_id, folder))
    try:
        api.submit(entrypoint, job_id, folder)
    except Taken as error:
        raise Refused(
            f"{api.address} has had a job {job_id}. To go on with it after its end: ray job delete {job_id}, "
            "or name another --job-id; either way what is done in --out is reused"
        ) from error
    print(job_id)
    print(f"the same by hand: {ray_command(api.address, job_id, folder, entrypoint)}", file=sys.stderr)
    return _follow(api, job_id) if arguments.wait else DONE


def driver_command(arguments: argparse.Namespace, job_id: str, folder: Path) -> list[str]:
    """What the cluster's head runs inside its copy of `folder`."""
    command = [arguments.python, "-m", "jobs", "run", from_upload(arguments.manifest, folder)]
    command += ["--out", lasting(arguments.out), "--job-id", job_id]
    if arguments.config:
        command += ["--config", from_upload(str(arguments.config), folder)]
    return command + list(arguments.overrides)


def from_upload(path: str, folder: Path) -> str:
    """A path as the driver finds it: relative if it is uploaded, else where every node has it. URLs stay."""
    if "://" in path:
        return path
    whole = Path(path).resolve()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def lasting(out: str) -> str:
    """The place of the films: a relative one would be in the upload, which goes when the job is deleted."""
    return out if "://" in out else str(Path(out).resolve())


def ray_command(address: str, job_id: str, folder: Path, entrypoint: str) -> str:
    """The `ray job submit` line."""
    words = [
        "ray",
        "job",
        "submit",
        "--address",
        address,
        "--submission-id",
        job_id,
        "--working-dir",
        str(folder),
    ]
    return f"{shlex.join(words)} -- {entrypoint}"


def _job_id(arguments: argparse.Namespace) -> str:
    """The id that `run` would give the job by itself. Raises ManifestError, SpecError."""
    from jobs.job import job_id_of
    from manifests.source import read_source

    return job_id_of(arguments.manifest, read_source(arguments.manifest), spec_of(arguments))


def _follow(api: "JobsApi", job_id: str) -> int:
    """Show the driver's log, and return its exit code."""
    for piece in api.log(job_id):
        print(piece, end="", flush=True)
    status, code = api.end(job_id)
    if status == "STOPPED":
        return CANCELLED
    return FAILED if code is None or code < 0 else code
