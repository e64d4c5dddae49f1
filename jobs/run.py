"""The driver: validate everything, then plan, render, publish and record. Running it again goes on.

Nothing is written before the whole manifest is known to be sound and the store to be usable.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from cluster.calibration import Stopwatch, keep, measured
from cluster.crew import Crew, Setup
from cluster.dispatch import State
from cluster.dropping import ends_early
from cluster.events import Event, FilmDone
from cluster.loop import render
from cluster.metrics import Nowhere, Sink
from cluster.outcomes import Failure, Outcome
from cluster.shortage import Place
from cluster.sketch import refusal
from cluster.tasks import FilmTasks
from cluster.trials import Overseer
from engine.versions import versions
from jobs.adapters import with_adapters
from jobs.assets import with_assets
from jobs.bill import Bill
from jobs.books import Books
from jobs.census import work_of_size
from jobs.changes import leave_note
from jobs.deadline import DeadlineWatch, due, keep_due
from jobs.desk import JobDesk
from jobs.enrol import enrol, keep_settled, sweep
from jobs.job import Job, before
from jobs.journal import Journal
from jobs.outcome import (
    RESULTS_KEY,
    JobResult,
    captions_key,
    early_end,
    film_key,
    results_key,
    rows_of,
    sheet_key,
    verdict,
)
from jobs.overruled import counts_after
from jobs.oversight import oversight
from jobs.picked import picked
from jobs.quarantine import Quarantine
from jobs.refusal import Refused
from jobs.report import write_report
from jobs.sketch import sketches
from jobs.spool import Spool
from jobs.takeover import Known, finished, record
from jobs.takes import note_takes
from jobs.terms import limits_of, price_of, setup_of
from manifests.control import Orders
from manifests.drivers import Heart, leave, rival_of, told
from manifests.findings import Finding
from manifests.finished import Finishing
from manifests.ledger import Ledger, claim_epoch
from manifests.results import write_results
from manifests.store import Store, StoreError, open_store

REPORT_KEY = "report/index.html"
MIB = 1 << 20
LEAST_ROOM = 256 * MIB  # free space below which no job is begun


Settle = Callable[[Job, Overseer], tuple[Job, Place | None]]


class Show(Protocol):
    """Whoever tells a person how a job goes."""

    def begin(self, job: Job) -> None:
        """The job is about to render."""

    def event(self, event: Event, state: State) -> None:
        """Something happened to a worker or a task."""

    def film(self, film: FilmDone) -> None:
        """A film is done, or failed."""


def run(
    job: Job,
    out: str,
    hire: Callable[[Setup], Crew],
    show: Show,
    settle: Settle = lambda job, _: (job, None),
    sink: Sink | None = None,
) -> JobResult:
    """Render a job into `out`. A film's trouble is only its own. Numbers go to the sink, None for nowhere.

    `settle` is called when this driver has claimed the job: it gives the job with nothing left open, and
    where its windows must fit, as a film whose windows would not fails before anything of it is begun.
    Raises StoreError if `out` is no use, Refused if the job's id is taken by another manifest.
    """
    store = open_store(out)
    store.probe(LEAST_ROOM)
    with _writing(store):
        return _run(job, store, hire, show, settle, sink or Nowhere())


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """What the driver itself cannot write ends the job: say that it can be begun again."""
    try:
        yield
    except OSError as error:
        todo = "mend it and give the same command again; what is done stays done"
        raise StoreError(f"the job stopped: {error}", store.url, todo) from error


def _run(
    job: Job, store: Store, hire: Callable[[Setup], Crew], show: Show, settle: Settle, sink: Sink
) -> JobResult:
    began, done_by = time.monotonic(), due(store, job)
    enrol(store, job)
    sweep(store)
    epoch = claim_epoch(store, job.job_id)
    if (rival := rival_of(store, job.job_id, epoch)) is not None:
        leave(store, job.job_id, epoch, rival)
        raise Refused(f"{job.job_id} is being rendered by {told(rival)}; this one leaves it to that")
    with (
        Heart(store, job.job_id, epoch) as heart,
        tempfile.TemporaryDirectory(prefix="longtake-job-") as folder,
        Ledger(store, job.job_id, epoch) as ledger,
        Books(store, job.job_id, epoch, ledger, sink, price_of(job.spec.cluster)) as books,
        ExitStack() as stack,
    ):
        keep_due(store, job, done_by)
        counts = counts_after(store, job.job_id, epoch, job.spec.cluster)
        overseer = oversight(job, store, heart, books, counts, done_by)
        job, place = settle(job, overseer)
        setup = setup_of(job, store.url)
        job, listing = stack.enter_context(_informed(job, store, epoch))
        deadline = DeadlineWatch(store, job.job_id, done_by, before(job))
        show.begin(job)
        spool, journal = Spool(Path(folder, "results.jsonl"), job.job_id, epoch), Journal(listing)
        if job.listed:
            spool.adopt(job.listed)
            books.adopt(job.listed)
        for finding in job.findings:
            spool.add([_invalid(finding)])
        spool.films["invalid"] = job.manifest.n_rows - job.n_films  # one a row, however many findings

        stopwatch, closing = Stopwatch(measured(store)), list[Failure]()
        limits = replace(limits_of(job.spec.cluster), deadline_s=deadline.left_s)

        def watch(event: Event, state: State) -> None:
            closing[:] = ends_early(state)
            books.event(event, state)
            journal.tick()
            keep(store, stopwatch.watch(event, state))
            deadline.event(event, state)
            quarantine.event(event)
            show.event(event, state)

        picks = dict[tuple[str, str], int]()

        def films(rows: Collection[str] | None = None) -> Iterator[FilmTasks]:
            if picks and job.listed:
                spool.forget(job.manifest.named({row for row, _ in picks}))
            planned = picked(journal.drawn(job.placed(rows)), picks)
            yield from with_adapters(with_assets(planned, store), store)

        facts = {"versions": versions(), "threads": job.spec.cluster.threads}
        quarantine = Quarantine(store, job.job_id, epoch, facts)
        desk = JobDesk(Orders(store, job.job_id), heart, films, spool.void, picks, counts)
        there = place if setup.check_memory else None
        refuse = refusal(sketches(job.stocked), setup.axes, there, setup.stage_gpus > 0)

        def begin() -> Crew:
            keep_settled(store, job, epoch)  # not before: a job that ends here may have left gangs untried
            return hire(setup)

        crew, spent = books.hired(begin, setup.axes.ranks), books.spent_gpu_s
        for film in render(films(), crew, store, limits, watch, desk, refuse, job.awaited, spent):
            publish(store, film)
            note_takes(store, job.job_id, film, picks)
            journal.ended(film, spool.add(books.film(film, list(rows_of(film)))))
            deadline.film(film)
            quarantine.film(film)
            show.film(film)
        keep(store, stopwatch.table())
        took = time.monotonic() - began
        result = _conclude(job, store, spool, closing, took, books.close(), deadline.text)
        ledger.close()
        listing.flush()
        store.put_marker(f"jobs/{job.job_id}/ended/{epoch:06}.json", asdict(result))
    return result


@contextmanager
def _informed(job: Job, store: Store, epoch: int) -> Iterator[tuple[Job, Finishing]]:
    """The job with what is known of it, which is left to later drivers, and where to list its films."""
    known = job.known
    if known is None:
        size = job.census()
        known = Known(job.findings, work_of_size(size), size.given > 0)
        record(store, job.job_id, job.asked, known)
    # Of films with files the list says nothing: they may be others by now.
    asked = f"{job.asked}-files" if known.files else job.asked
    listed = None if known.files else finished(store, job.job_id, asked, epoch, job.manifest.n_rows)
    with Finishing(store, job.job_id, asked, epoch) as listing:
        yield replace(job, known=known, listed=listed), listing


def publish(store: Store, film: FilmDone) -> None:
    """Give a film's artefacts the names that people look for; again after a resume, to the same effect."""
    row_id = film.film.row_id
    for version in film.film.versions:
        result = film.results[version.key]
        if isinstance(result, Outcome):
            store.publish(result.files["film"], film_key(row_id, version.lang))
            if "captions" in result.files:
                store.publish(result.files["captions"], captions_key(row_id, version.lang))
    master = film.results[film.film.master.key]
    if isinstance(master, Outcome):
        store.publish(master.files["sheet"], sheet_key(row_id))
        leave_note(store, film.film)


def _conclude(
    job: Job,
    store: Store,
    spool: Spool,
    closing: Sequence[Failure],
    seconds: float,
    bill: Bill,
    deadline: str,
) -> JobResult:
    """Write results and report, and count; `closing` is why the job ended early, if it did."""
    films, early = spool.films, ""
    status, code = verdict(films["done"], films["failed"], films["invalid"])
    if closing and films["failed"]:
        status, code = early_end(closing[0])
        early = closing[0].code
    own = results_key(job.job_id)
    store.publish(write_results(spool.rows(), store, own), RESULTS_KEY)
    result = JobResult(
        job_id=job.job_id,
        status=status,
        exit_code=code,
        films=job.manifest.n_rows,
        done=films["done"],
        failed=films["failed"],
        invalid=films["invalid"],
        reused=films["reused"],
        dropped=films["dropped"],
        early=early,
        deadline=deadline,
        seconds=round(seconds, 1),
        out=store.url,
        results=f"{store.url.rstrip('/')}/{own}",
        report=f"{store.url.rstrip('/')}/{REPORT_KEY}",
        gpu=bill,
    )
    write_report(store, REPORT_KEY, result, spool.rows)
    return result


def _invalid(finding: Finding) -> dict[str, Any]:
    """A finding as a row of results."""
    return {
        "row_id": finding.row_id,
        "lang": "und",
        "status": "invalid",
        "code": finding.code,
        "message": finding.message,
        "json_path": finding.json_path,
        "hint": finding.hint,
    }
