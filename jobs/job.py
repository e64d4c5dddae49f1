"""A job before it is rendered: a checked manifest, in the order of its making, as films.

Decides: which rows are made, and in which order. Does not decide: how they are rendered (jobs.run).
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.progress import Progress, Work
from cluster.tasks import FilmTasks
from cluster.upstream import ABSENT, MADE
from engine.families.published import Published
from jobs.census import census
from jobs.checks import check
from jobs.plan import film_tasks
from jobs.spec import JobSpec, as_asked
from jobs.stock import Stock, settled, stock, stock_published
from jobs.takeover import Known, asked_of, recorded
from manifests.findings import Finding, Levels, faulty_rows
from manifests.finished import Finished
from manifests.links import Order, awaited
from manifests.source import Manifest, read_source
from manifests.store import Store

if TYPE_CHECKING:
    from jobs.size import Size


class Invalid(Exception):
    """The manifest has findings, and the job's policy is to reject it."""

    def __init__(self, findings: Sequence[Finding], n_rows: int) -> None:
        super().__init__(f"{len(findings)} findings in {n_rows} rows")
        self.findings, self.n_rows = findings, n_rows


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
        """The films to make in the order of their making, each with its place in the manifest.

        Of these rows only, None for all.
        """
        for place, row in self.manifest.chosen(self._todo(rows), self.order):
            yield place, film_tasks(row, self.stocked, self.spec.cluster.batch or 1)

    @cached_property
    def order(self) -> Order | None:
        """The order of their making, None for that of the manifest."""
        return self.manifest.order(self.faulty)

    @cached_property
    def faulty(self) -> set[int]:
        """Places of rows with findings."""
        return faulty_rows(self.findings)

    @property
    def awaited(self) -> dict[str, str | None]:
        """The rows that others depend on, each with its fate where that is known before any is drawn."""
        if not self.manifest.has_order:
            return {}
        found = awaited(self.manifest.links, self.faulty)
        done = self._listed(found) if self.listed else set()
        return {row: MADE if row in done else None if made else ABSENT for row, made in found.items()}

    def _listed(self, rows: Collection[str]) -> set[str]:
        """Which of these rows earlier drivers finished."""
        assert self.listed
        at = self.manifest.named(rows) & self.listed.there
        return set(self.manifest.row_ids.filter(at).to_pylist())

    def _todo(self, rows: Collection[str] | None) -> Any:
        """Which rows of the manifest are to be made, numpy bool."""
        todo = self.manifest.named(rows)
        todo[[index for index in self.faulty if index >= 0]] = False
        return todo & ~self.listed.there if self.listed else todo

    def census(self) -> "Size":
        """How much there is to render, if nothing of it was done before; no film becomes tasks for it."""
        return census(self.levels, self.stocked, self.spec.cluster.batch or 1)

    @property
    def levels(self) -> Iterator[Levels]:
        """The same rows by columns, many at a time, as they lie in the manifest."""
        for start, batch in self.manifest.batches():
            yield Levels.of_batch(start, batch).without(self.faulty)

    @property
    def n_films(self) -> int:
        """How many rows will be rendered."""
        return self.manifest.n_rows - len(self.faulty)


def whole(job: Job) -> Work:
    """How much there is in all to render, of a job that was counted."""
    assert job.known, "it is counted before it begins"
    return job.known.work


def before(job: Job) -> Progress:
    """How far it is before its first event: films that earlier drivers finished are behind."""
    total, listed = whole(job).window_steps, job.listed
    if listed is None:
        return Progress(films=job.n_films, windows=total)
    n, behind = listed.n_films, min(listed.predictions, total)  # shots that they share are counted for each
    return Progress(films=job.n_films, windows=total, films_done=n, films_reused=n, behind=behind)


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


def job_id_of(source: str, manifest: Manifest, spec: JobSpec) -> str:
    """The manifest's name and a hash of what is asked: the same command is the same job."""
    text = json.dumps([manifest.digest, as_asked(spec)], sort_keys=True)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(source).stem)[:60]
    return f"{stem}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
