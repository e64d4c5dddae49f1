"""How a run ends: what is counted until then, what is said last, and what is left in the store.

Decides: what an end is called, and which exit code an error has. Does not decide: when a run ends (drive), or
what becomes of the films of one that came through (run).
"""

import argparse
import os
import platform
import shlex
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.bill import Bill
from jobs.outcome import CANCELLED, FAILED, INVALID, TOOL, UNREACHABLE, USAGE, JobResult, results_key
from jobs.places import opened
from jobs.preview import findings_text
from jobs.refusal import Refused, report
from jobs.signals import STOPS

if TYPE_CHECKING:
    from cluster.dispatch import State
    from cluster.events import Event, FilmDone
    from jobs.job import Job
    from jobs.run import Show
    from manifests.store import Store

STATUSES = {TOOL: "error", USAGE: "usage", INVALID: "invalid", FAILED: "failed", UNREACHABLE: "unreachable"}


class Account:
    """A Show that counts as it passes on, so that a job that is cut short still says how far it came."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.job_id, self.out, self.command = arguments.job_id or "", arguments.out, arguments.command
        self.began, self.films, self.done, self.failed, self.invalid = time.monotonic(), 0, 0, 0, 0
        self.show: Show | None = None
        self.as_json = False  # whether lines are logged, rather than shown
        self.bill = Bill()

    def begin(self, job: "Job") -> None:
        """Note what is asked."""
        self.job_id, self.films = job.job_id, job.manifest.n_rows
        self.invalid = job.manifest.n_rows - job.n_films
        self.done = job.listed.n_films if job.listed else 0
        if self.show:
            self.show.begin(job)

    def event(self, event: "Event", state: "State") -> None:
        """Pass it on."""
        if self.show:
            self.show.event(event, state)

    def film(self, film: "FilmDone") -> None:
        """Count the film: done only in all its languages."""
        from cluster.outcomes import Failure

        bad = any(isinstance(film.results[version.key], Failure) for version in film.film.versions)
        self.failed, self.done = self.failed + bad, self.done + (not bad)
        if self.show:
            self.show.film(film)

    def cut(self, status: str, code: int) -> JobResult:
        """The end of a job that wrote no results."""
        return JobResult(
            job_id=self.job_id,
            status=status,
            exit_code=code,
            films=self.films,
            done=self.done,
            failed=self.failed,
            invalid=self.invalid,
            reused=0,
            seconds=round(time.monotonic() - self.began, 1),
            out=self.out,
            results="",
            report="",
            gpu=self.bill,
        )

    def stopped(self, number: int) -> tuple[str, JobResult]:
        """What to say when a signal has come."""
        status, code = STOPS[signal.Signals(number)]
        how = "told to stop" if code == CANCELLED else status
        again = f"what is done stays done, and the same command goes on:\n  {shlex.join(self.command)}"
        return f"longtake: {how}; {again}", self.cut(status, code)


def say_end(result: JobResult, account: Account) -> None:
    """The last words before the last line."""
    if account.as_json:
        from jobs.log import ended

        ended(result)
    else:
        print(_closing(result, account.command))


def _closing(result: JobResult, command: list[str]) -> str:
    """The last words to people."""
    from jobs.show import closing_lines
    from manifests.results import iter_results

    rows = iter_results(opened(result.out), results_key(result.job_id))
    return closing_lines(result, rows, command)


def note_bill(account: Account) -> None:
    """What the run took until it was cut short, if it left its bill."""
    from jobs.spent import bills
    from manifests.store import StoreError

    if not account.job_id:
        return
    with suppress(StoreError, OSError, ValueError, TypeError, Refused):
        store = opened(account.out)
        if epoch := _own_epoch(store, account.job_id):
            account.bill = Bill(**(store.read_marker(f"{bills(account.job_id)}/{epoch:06}.json") or {}))


def _own_epoch(store: "Store", job_id: str) -> int:
    """The job's latest driver, if that is this process; else 0."""
    from jobs.status import latest

    epoch, _ = latest(store, job_id)
    claim = store.read_marker(f"jobs/{job_id}/driver/epoch-{epoch:06}.json") or {}
    return epoch if (claim.get("host"), claim.get("pid")) == (platform.node(), os.getpid()) else 0


def leave_word(result: JobResult) -> None:
    """Record the end of a job that was cut short, or `wait` would wait for ever; not if it never began."""
    from manifests.store import StoreError

    if not result.job_id:
        return
    # Trouble with the store may be the very reason for the end: the job is then left without a word.
    with suppress(StoreError, OSError, ValueError, Refused):
        store = opened(result.out)
        if epoch := _own_epoch(store, result.job_id):
            store.put_marker(f"jobs/{result.job_id}/ended/{epoch:06}.json", asdict(result))


def explain(error: Exception, account: Account) -> JobResult:
    """Say what went wrong, and call it by its name."""
    from jobs.job import Invalid
    from manifests.findings import faulty_rows

    if isinstance(error, Invalid):
        print(findings_text(error.findings, error.n_rows), file=sys.stderr)
        account.films = error.n_rows
        account.invalid = len(faulty_rows(error.findings) - {-1})
        return account.cut("invalid", INVALID)
    code = report(error)
    return account.cut(STATUSES[code], code)
