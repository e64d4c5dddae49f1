"""The `run` verb: a driver from its start to its last line, however it ends.

Decides what each end is called and which exit code it has. Does not decide how films are rendered
(`jobs.run`) or what a person sees meanwhile (`jobs.show`).
"""

import argparse
import io
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from cluster.logs import LOG
from jobs.bill import Bill
from jobs.outcome import CANCELLED, FAILED, INVALID, TOOL, UNREACHABLE, USAGE, JobResult, results_key
from jobs.places import opened
from jobs.preview import findings_text, spec_of
from jobs.refusal import Refused, report
from jobs.signals import STOPS, Stopped, Stopping, stoppable

if TYPE_CHECKING:
    from cluster.dispatch import State
    from cluster.events import Event, FilmDone
    from cluster.metrics import Sink
    from cluster.shortage import Place
    from jobs.job import Job
    from jobs.run import Show
    from jobs.spec import ClusterSpec
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
        from cluster.tasks import Failure

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


class Outliving(io.FileIO):
    """An open descriptor that outlives its reader: what is written after `head` has gone goes nowhere."""

    def write(self, data: Any, /) -> int:
        """As FileIO does; a broken pipe becomes /dev/null, for libraries that write to the descriptor too."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


@contextmanager
def outliving() -> Iterator[None]:
    """stdout and stderr that no departing reader can break, and that show each line at once."""
    with redirect_stdout(_outliving(sys.stdout)), redirect_stderr(_outliving(sys.stderr)):
        yield


def _outliving(stream: TextIO) -> TextIO:
    """The stream; over an Outliving descriptor if it has one at all."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError):  # closed by the caller, or in memory
        return stream
    stream.flush()
    raw = io.BufferedWriter(Outliving(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True)


def drive(arguments: argparse.Namespace) -> int:
    """Render a manifest. The last line of stdout is LONGTAKE_RESULT and says how it ended."""
    with outliving():
        return _drive(arguments)


def _drive(arguments: argparse.Namespace) -> int:
    account = Account(arguments)
    try:
        with stoppable(account.stopped) as stopping:
            result = _to_an_end(arguments, account, stopping)
    except Stopped as stop:
        message, result = account.stopped(stop.number)
        print(message, file=sys.stderr, flush=True)
        print(result.last_line, flush=True)
        os._exit(result.exit_code)  # Python would first take torch and Ray apart, which lasts too long
    print(result.last_line, flush=True)
    return result.exit_code


def _to_an_end(arguments: argparse.Namespace, account: Account, stopping: Stopping) -> JobResult:
    """The job's result, whatever error it meets. Raises Stopped."""
    try:
        result = _render(arguments, account, stopping)
        _say_end(result, account)
        return result
    except BaseException as error:
        _note_bill(account)
        if stopping.number is not None:
            _, result = account.stopped(stopping.number)
            _leave_word(result)
            raise Stopped(stopping.number) from error
        if not isinstance(error, Exception):
            raise
        result = _explain(error, account)
        _leave_word(result)
        return result


def _render(arguments: argparse.Namespace, account: Account, stopping: Stopping) -> JobResult:
    """Check the job, find the workers, render."""
    store = opened(arguments.out)  # a place that cannot be one is told before anything is read
    spec = spec_of(arguments)
    from cluster.local import LocalCrew
    from cluster.logs import log_as_json
    from cluster.shortage import place_on
    from engine.numerics import default_device
    from jobs.job import prepare
    from jobs.log import Entries
    from jobs.run import run
    from jobs.show import make_show
    from jobs.soundness import check_models

    job = prepare(arguments.manifest, spec, account.job_id, store=store)
    check_models(job.stocked)
    account.job_id, account.films = job.job_id, job.manifest.n_rows
    account.as_json = spec.log == "json"
    if account.as_json:
        log_as_json("stdout", {"job": job.job_id, "worker": "driver"})
    with ExitStack() as stack:
        hire: Any = LocalCrew
        sink: Sink | None = None
        place: Place | None
        if arguments.local:
            _refuse_gangs(spec.cluster)
            device = spec.cluster.device
            place = place_on(default_device() if device == "auto" else device)
        else:
            from cluster.connect import connect
            from cluster.export import RaySink
            from cluster.remote import RayCrew

            hire, sink = RayCrew, RaySink()
            stack.enter_context(connect(arguments.address))
            stopping.arm()  # Ray has put its own handler in place
            job = with_open_axes(job, arguments.out)
            _check_zero(job)
            place = place_on_ray(job)
        job = with_open_batch(job, arguments.out, arguments.local)
        where = f"{'in this process' if arguments.local else 'on Ray'}, into {arguments.out}"
        show = Entries(where, time.monotonic) if account.as_json else make_show(sys.stdout, where=where)
        account.show = stack.enter_context(closing(show))
        return run(job, arguments.out, hire, account, place, sink)


def _refuse_gangs(cluster: "ClusterSpec") -> None:
    """One process is one rank."""
    from jobs.profile import SpecError

    asked = {name: getattr(cluster, name) for name in ("cfg", "ring", "ulysses")}
    if several := [f"cluster.{name}={size}" for name, size in asked.items() if size > 1]:
        raise SpecError(f"{', '.join(several)}: --local is a single process, and no gang: leave out either")


def _check_zero(job: "Job") -> None:
    """Now that the axes are known: weights are shared out over several ranks only."""
    from jobs.stock_checks import check_zero

    for name, one in job.stocked.items():
        check_zero(name, one.model.zero, job.spec.cluster)


def place_on_ray(job: "Job") -> "Place | None":
    """Where the job's ranks compute on the cluster, as far as Ray tells; what finds no room, hiring tells."""
    from cluster.remote import living_nodes
    from cluster.topology import TooSmall, fit, place_of
    from jobs.terms import setup_of

    nodes = living_nodes()
    with suppress(TooSmall):
        return place_of(fit(setup_of(job, ""), nodes), nodes)
    return None


def with_open_axes(job: "Job", out: str) -> "Job":
    """The job with the axes of its gangs, chosen for the cluster where its configuration leaves them open."""
    if all((job.spec.cluster.cfg, job.spec.cluster.ring, job.spec.cluster.ulysses)):
        return job
    from cluster.rehearsal import Rehearsal
    from cluster.remote import living_nodes
    from cluster.topology import machine_of
    from jobs.axes import with_axes
    from jobs.terms import setup_of

    store = opened(out)
    rehearse = Rehearsal(setup_of(job, store.url)) if job.spec.cluster.calibrate else None
    job, reason = with_axes(job, machine_of(living_nodes()), store, rehearse)
    _remark("gangs", reason, job)
    return job


def with_open_batch(job: "Job", out: str, local: bool) -> "Job":
    """The job with its batch, chosen for its gangs where its configuration leaves it open."""
    if job.spec.cluster.batch:
        return job
    from jobs.batch import with_batch

    nodes: list[dict[str, float]] = []
    if not local:
        from cluster.remote import living_nodes

        nodes = living_nodes()
    job, reason = with_batch(job, nodes, opened(out))
    _remark("batch", reason, job)
    return job


def _remark(what: str, reason: str, job: "Job") -> None:
    """Say what was chosen for the job, and why."""
    if job.spec.log == "json":
        LOG.info("%s: %s", what, reason)
    else:
        print(f"{what}  {reason}")


def _say_end(result: JobResult, account: Account) -> None:
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


def _note_bill(account: Account) -> None:
    """What the run took until it was cut short, if it left its bill."""
    from jobs.books import bills
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


def _leave_word(result: JobResult) -> None:
    """Record the end of a job that was cut short, or `wait` would wait for ever; not if it never began."""
    from manifests.store import StoreError

    if not result.job_id:
        return
    # Trouble with the store may be the very reason for the end: the job is then left without a word.
    with suppress(StoreError, OSError, ValueError, Refused):
        store = opened(result.out)
        if epoch := _own_epoch(store, result.job_id):
            store.put_marker(f"jobs/{result.job_id}/ended/{epoch:06}.json", asdict(result))


def _explain(error: Exception, account: Account) -> JobResult:
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
