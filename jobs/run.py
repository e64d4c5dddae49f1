"""The driver: validate everything, then plan, render, publish and record. Running it again goes on.

Nothing is written before the whole manifest is known to be sound and the store to be usable.
"""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cluster.calibration import Stopwatch, keep
from cluster.crew import Crew, Setup
from cluster.dispatch import Limits, State
from cluster.events import Done, Event, FilmDone, Lost, Raised
from cluster.loop import render
from cluster.once import marker_key
from cluster.shortage import Place
from cluster.sketch import refusal
from cluster.tasks import Failure, FilmTasks, Outcome
from engine.families.published import Published
from engine.parallel.axes import Axes
from engine.versions import versions
from jobs.adapters import with_adapters
from jobs.assets import with_assets
from jobs.census import census, work_of_size
from jobs.changes import leave_note
from jobs.checks import check
from jobs.desk import JobDesk
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
from jobs.plan import film_tasks
from jobs.refusal import Refused
from jobs.report import write_report
from jobs.sketch import sketches
from jobs.spec import ClusterSpec, JobSpec, as_plain
from jobs.spool import Spool
from jobs.stock import Stock, settled, stock, stock_published
from jobs.takeover import Known, asked_of, finished, record, recorded
from manifests.control import Orders
from manifests.drivers import Heart, leave, rival_of, told
from manifests.findings import Finding, Levels, faulty_rows
from manifests.finished import Finished, Finishing
from manifests.ledger import Ledger, claim_epoch
from manifests.results import write_results
from manifests.source import Manifest, read_source
from manifests.store import Store, StoreError, open_store

if TYPE_CHECKING:
    from jobs.preview import Size

REPORT_KEY = "report/index.html"
MIB = 1 << 20
STALE_S = 86_400  # age at which a staged file is a dead writer's
LEAST_ROOM = 256 * MIB  # free space below which no job is begun


class Invalid(Exception):
    """The manifest has findings, and the job's policy is to reject it."""

    def __init__(self, findings: Sequence[Finding], n_rows: int) -> None:
        super().__init__(f"{len(findings)} findings in {n_rows} rows")
        self.findings, self.n_rows = findings, n_rows


class Show(Protocol):
    """Whoever tells a person how a job goes."""

    def begin(self, job: "Job") -> None:
        """The job is about to render."""

    def event(self, event: Event, state: State) -> None:
        """Something happened to a worker or a task."""

    def film(self, film: FilmDone) -> None:
        """A film is done, or failed."""


@dataclass(frozen=True)
class Job:
    """A checked manifest with all that rendering it needs."""

    job_id: str
    manifest: Manifest
    spec: JobSpec
    stocked: dict[str, Stock]
    findings: tuple[Finding, ...]

    known: Known | None = None  # what was found out of the manifest
    listed: Finished | None = None  # films that earlier drivers finished
    asked: str = ""  # as in jobs.takeover

    @property
    def films(self) -> Iterator[FilmTasks]:
        """The films to make."""
        return (film for _, film in self.placed())

    def placed(self, rows: Collection[str] | None = None) -> Iterator[tuple[int, FilmTasks]]:
        """The films to make, each with its place in the manifest; of these rows only, None for all."""
        todo = self._todo(rows)
        for start, batch in self.manifest.batches(lambda some: bool(todo[some.start : some.stop].any())):
            levels = Levels.of_batch(start, batch)
            for place, row in levels.pairs(todo[levels.rows.index]):
                yield place, film_tasks(row, self.stocked, self.spec.cluster.batch or 1)

    def _todo(self, rows: Collection[str] | None) -> Any:
        """Which rows of the manifest are to be made, numpy bool."""
        todo = self.manifest.named(rows)
        todo[[index for index in faulty_rows(self.findings) if index >= 0]] = False
        return todo & ~self.listed.there if self.listed else todo

    def census(self) -> "Size":
        """How much there is to render, if nothing of it was done before; no film becomes tasks for it."""
        return census(self.levels, self.stocked, self.spec.cluster.batch or 1)

    @property
    def levels(self) -> Iterator[Levels]:
        """The same rows by columns, many at a time."""
        bad = faulty_rows(self.findings)
        for start, batch in self.manifest.batches():
            yield Levels.of_batch(start, batch).without(bad)

    @property
    def n_films(self) -> int:
        """How many rows will be rendered."""
        return self.manifest.n_rows - len(faulty_rows(self.findings))


def prepare(
    source: str,
    spec: JobSpec,
    job_id: str = "",
    checkpoint: Published | None = None,
    *,
    exact: bool = True,
    store: Store | None = None,
) -> Job:
    """Read and check a manifest. Raises Invalid, unless findings are skipped and sound rows are left.

    What an earlier driver of the job found out of it is taken from `store`.

    With a published checkpoint, that stands in for every model: such a job can be planned only. So can one
    that is not `exact`, and not against what a store holds.
    """
    spec = settled(spec)
    manifest = read_source(source, keep=store is not None)  # a job may take days
    stocked = stock_published(spec, checkpoint) if checkpoint else stock(spec, exact=exact)
    spec = replace(spec, profiles={name: one.profile for name, one in stocked.items()})  # as it is recorded
    job_id, asked = job_id or job_id_of(source, manifest, spec), asked_of(manifest, spec, stocked)
    known = recorded(store, job_id, asked) if store else None
    findings = list(known.findings) if known else check(manifest, stocked, spec)
    bad = faulty_rows(findings)
    if findings and (spec.on_invalid == "reject" or len(bad) >= manifest.n_rows):
        raise Invalid(findings, manifest.n_rows)
    return Job(job_id, manifest, spec, stocked, tuple(findings), known, asked=asked)


def setup_of(job: Job, store_url: str) -> Setup:
    """What the crew is told."""
    cluster = job.spec.cluster
    return Setup(
        store_url=store_url,
        identity_folder=str(Path(job.spec.identity).expanduser()),
        device=cluster.device,
        stage_gpus=cluster.stage_gpus,
        threads=cluster.threads,
        checkpoint_every=cluster.checkpoint_every,
        gangs=cluster.gangs,
        axes=Axes.of_gang(cluster.cfg or 1, cluster.ring or 1, cluster.ulysses or 1),
        exchange=cluster.exchange,
        conductors=cluster.conductors,
        decoders=cluster.decoders,
        finishers=cluster.finishers,
        group_timeout_s=cluster.group_timeout_s,
        step_timeout_s=cluster.step_timeout_s,
        task_timeout_s=cluster.task_timeout_s,
        check_memory=cluster.check_memory,
        cache=cluster.cache,
    )


def limits_of(cluster: ClusterSpec) -> Limits:
    """What dispatch is told."""
    return Limits(
        max_canvases=cluster.max_canvases,
        max_films=cluster.max_films,
        breaker_films=cluster.breaker_films,
        breaker_share=cluster.breaker_share,
        canary_films=cluster.canary_films,
        budget_gpu_s=cluster.budget_gpu_s or math.inf,
    )


def run(
    job: Job, out: str, hire: Callable[[Setup], Crew], show: Show, place: Place | None = None
) -> JobResult:
    """Render a job into `out`. A film's trouble is only its own.

    A film whose windows would not fit at `place`, where it is known, fails before anything of it is begun.
    Raises StoreError if `out` is no use, Refused if the job's id is taken by another manifest.
    """
    store = open_store(out)
    store.probe(LEAST_ROOM)
    with _writing(store):
        return _run(job, store, hire, show, place)


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """What the driver itself cannot write ends the job: say that it can be begun again."""
    try:
        yield
    except OSError as error:
        todo = "mend it and give the same command again; what is done stays done"
        raise StoreError(f"the job stopped: {error}", store.url, todo) from error


def _run(job: Job, store: Store, hire: Callable[[Setup], Crew], show: Show, place: Place | None) -> JobResult:
    began = time.monotonic()
    _enrol(store, job)
    _sweep(store)
    epoch = claim_epoch(store, job.job_id)
    if (rival := rival_of(store, job.job_id, epoch)) is not None:
        leave(store, job.job_id, epoch, rival)
        raise Refused(f"{job.job_id} is being rendered by {told(rival)}; this one leaves it to that")
    job, listing = _informed(job, store, epoch)
    show.begin(job)
    with (
        tempfile.TemporaryDirectory(prefix="longtake-job-") as folder,
        Ledger(store, job.job_id, epoch) as ledger,
        listing,
    ):
        spool, journal = Spool(Path(folder, "results.jsonl"), job.job_id, epoch), Journal(listing)
        if job.listed:
            spool.adopt(job.listed)
        for finding in job.findings:
            spool.add([_invalid(finding)])
        spool.films["invalid"] = job.manifest.n_rows - job.n_films  # one a row, however many findings

        stopwatch, closing = Stopwatch(), list[Failure]()

        def watch(event: Event, state: State) -> None:
            closing[:] = [state.closing] if state.closing else []
            _note(ledger, event)
            journal.tick()
            stopwatch.watch(event, state)
            show.event(event, state)

        limits = limits_of(job.spec.cluster)

        def films(rows: Collection[str] | None = None) -> Iterator[FilmTasks]:
            return with_adapters(with_assets(journal.drawn(job.placed(rows)), store), store)

        heart = Heart(store, job.job_id, epoch)
        desk = JobDesk(Orders(store, job.job_id), heart, films, spool.void)
        setup = setup_of(job, store.url)
        refuse = refusal(sketches(job.stocked), setup.axes, place if setup.check_memory else None)
        for film in render(films(), partial(hire, setup), store, limits, watch, desk, refuse):
            publish(store, film)
            journal.ended(film, spool.add(list(rows_of(film))))
            show.film(film)
        keep(store, stopwatch.table())
        result = _conclude(job, store, spool, closing, time.monotonic() - began)
    store.put_marker(f"jobs/{job.job_id}/ended/{epoch:06}.json", asdict(result))
    heart.stop()
    return result


def _informed(job: Job, store: Store, epoch: int) -> tuple[Job, Finishing]:
    """The job with what is known of it, which is left to later drivers, and where to list its films."""
    known = job.known
    if known is None:
        size = job.census()
        known = Known(job.findings, work_of_size(size), size.given > 0)
        record(store, job.job_id, job.asked, known)
    # Of films with files the list says nothing: they may be others by now.
    asked = f"{job.asked}-files" if known.files else job.asked
    listed = None if known.files else finished(store, job.job_id, asked, epoch, job.manifest.n_rows)
    return replace(job, known=known, listed=listed), Finishing(store, job.job_id, asked, epoch)


def _enrol(store: Store, job: Job) -> None:
    """Record the job under its id. Raises Refused if the id is of another manifest's job."""
    key, record = f"jobs/{job.job_id}/job.json", _record(job)
    if store.put_marker(key, record):
        return
    other = store.read_marker(key) or {}
    if other.get("manifest_digest") != record["manifest_digest"]:
        raise Refused(
            f"job {job.job_id} in {store.url} is of another manifest, {other.get('manifest')}, or of an "
            f"older state of it: give another --job-id, or none"
        )


def _sweep(store: Store) -> None:
    """Remove what killed drivers left: staged files, and checkpoints of shots that are finished."""
    store.sweep_staging(STALE_S)
    for key in store.list_keys("checkpoints"):
        with suppress(StoreError):  # a damaged marker is told by the film that needs it
            if store.read_marker(marker_key("shot", key.split("/")[1])) is not None:
                store.remove(key)


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


def _conclude(job: Job, store: Store, spool: Spool, closing: Sequence[Failure], seconds: float) -> JobResult:
    """Write results and report, and count; `closing` is why the job ended early, if it did."""
    films = spool.films
    status, code = verdict(films["done"], films["failed"], films["invalid"])
    if closing and films["failed"]:
        status, code = early_end(closing[0])
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
        seconds=round(seconds, 1),
        out=store.url,
        results=f"{store.url.rstrip('/')}/{own}",
        report=f"{store.url.rstrip('/')}/{REPORT_KEY}",
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


def _note(ledger: Ledger, event: Event) -> None:
    """Record what a later reader will ask for."""
    match event:
        case Done(key, worker, outcome):
            name = "cached" if outcome.reused else "done"
            ledger.record(event=name, task_key=key, kind=outcome.kind, worker=worker, seconds=outcome.seconds)
        case Raised(key, worker, failure):
            ledger.record(
                event="failed", task_key=key, worker=worker, code=failure.code, message=failure.message
            )
        case Lost(worker, failure):
            told = {"code": failure.code, "message": failure.message} if failure else {}
            ledger.record(event="lost", worker=worker, **told)


def _record(job: Job) -> dict[str, Any]:
    """What the job is, for `status` and for whoever asks next year how a film was made."""
    return {
        "job_id": job.job_id,
        "manifest": job.manifest.source,
        "manifest_digest": job.manifest.digest,
        "films": job.n_films,
        "versions": versions(),
        "spec": as_plain(job.spec),
    }


def job_id_of(source: str, manifest: Manifest, spec: JobSpec) -> str:
    """The manifest's name and a hash of what is asked: the same command is the same job."""
    text = json.dumps([manifest.digest, as_plain(spec)], sort_keys=True)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(source).stem)[:60]
    return f"{stem}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
