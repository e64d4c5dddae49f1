"""What a driver logs where it is told `log=json`: the same as jobs.show, a line of JSON each, with fields.

Decides: which fields a line has. Does not decide: what is worth a line (jobs.show), or its form
(cluster.logs).
"""

import logging
from collections.abc import Callable
from typing import Any

from cluster.dispatch import State
from cluster.events import Event, FilmDone, Lost, Raised, Window
from cluster.logs import LOG, about
from cluster.outcomes import Failure
from cluster.progress import Progress, advance, line
from jobs.job import Job, before
from jobs.outcome import JobResult
from jobs.show import EVERY_S, film_lines, opening, trouble


class Entries:
    """A Show that logs; it tells how far the job is every EVERY_S seconds."""

    def __init__(self, where: str, now_s: Callable[[], float]) -> None:
        self.where, self.now_s = where, now_s
        self.progress, self.began_s = Progress(), now_s()
        self.told_s = self.began_s

    def begin(self, job: Job) -> None:
        """Say what will be rendered."""
        self.progress = before(job)
        LOG.info(opening(job, self.where))

    def event(self, event: Event, state: State) -> None:
        """Say what went wrong, and now and then how far the job is."""
        warning = trouble(event, state, self.progress)
        self.progress = advance(self.progress, event)
        if warning:
            LOG.warning(warning, extra=fields_of(event, state))
        if self.now_s() - self.told_s >= EVERY_S:
            self.told_s = self.now_s()
            self._tell()

    def film(self, film: FilmDone) -> None:
        """Say what became of a film."""
        self.progress = advance(self.progress, film)
        for word, text in film_lines(film):
            level = logging.ERROR if word == "fail" else logging.INFO
            LOG.log(level, text, extra={"row": film.film.row_id, **_failed(film)})
        if self.progress.over:
            self._tell()

    def close(self) -> None:
        """Nothing is held open."""

    def _tell(self) -> None:
        LOG.info(line(self.progress, self.now_s() - self.began_s))


def ended(result: JobResult) -> None:
    """Log a job's end."""
    counts = f"{result.done} of {result.films} films done, {result.failed} failed, {result.invalid} invalid"
    LOG.info(f"{result.status}: {counts}", extra={"seconds": result.seconds})


def fields_of(event: Event, state: State) -> dict[str, Any]:
    """The fields of a line about an event; a task that films share is of the first of them by name."""
    match event:
        case Raised(key, worker, failure, window):
            rows = sorted(state.users.get(key, ()))
            told = about(state.tasks.get(key, key)) | {"worker": worker, "attempt": state.tries(key)}
            told |= {"row": rows[0]} if rows else {}
            return told | (_window(window) if window else {}) | _told(failure)
        case Lost(worker, failure):
            return {"worker": worker} | (_told(failure) if failure else {})
    return {}


def _window(window: Window) -> dict[str, str]:
    return {"window": f"step {window.step} part {window.part}"}


def _told(failure: Failure) -> dict[str, str]:
    return {"code": failure.code, "error_class": failure.error_class, "hint": failure.hint}


def _failed(film: FilmDone) -> dict[str, str]:
    results = [film.results[version.key] for version in film.film.versions]
    failure = next((result for result in results if isinstance(result, Failure)), None)
    return _told(failure) if failure else {}
