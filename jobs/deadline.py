"""Whether a job will be done by its deadline: told early, to people and for `status`.

Decides: when a person is warned. Does not decide: which films are dropped for it (cluster.dropping), or which
moment is meant (moment).
"""

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cluster.events import Event, FilmDone
from cluster.pace import Pace
from cluster.progress import Progress, advance
from cluster.state import State
from jobs.moment import told
from jobs.refusal import Refused
from manifests.store import Store, StoreError

if TYPE_CHECKING:
    from jobs.job import Job

SAY_S = 600.0  # between two warnings, unless what they say has changed
NOTE_S = 30.0  # between two notes for status


def due(job: "Job") -> datetime | None:
    """When a job that is about to begin is to be done. Raises Refused for a deadline that has passed."""
    now = datetime.now(UTC)
    deadline = job.spec.done_by(now)
    if deadline is not None and deadline <= now:
        raise Refused(f"deadline={job.spec.deadline!r} has passed: give a later one, or none")
    return deadline


def left_s(deadline: datetime | None) -> float:
    """Seconds from now to a deadline; infinity without one."""
    return (deadline - datetime.now(UTC)).total_seconds() if deadline else math.inf


def forecast(progress: Progress, pace: Pace) -> float | None:
    """Seconds until all films of a job are done; None where no pace is known."""
    if progress.over:
        return 0.0
    return pace.ends_in_s(max(progress.windows - progress.windows_done, 0))


class DeadlineWatch:
    """Holds a job against its deadline as it goes on, warns on stderr, and notes for status how it stands.

    It begins with how far the job is. Without a deadline it does nothing.
    """

    def __init__(self, store: Store, job_id: str, deadline: datetime | None, progress: Progress) -> None:
        self._store, self._key, self._deadline = store, f"jobs/{job_id}/forecast.json", deadline
        self._progress = progress
        self._next_note = self._next_warning = datetime.min.replace(tzinfo=UTC)
        self._late = False

    @property
    def text(self) -> str:
        """The deadline, empty without one."""
        return _iso(self._deadline) if self._deadline else ""

    @property
    def left_s(self) -> float:
        """As `left_s` of the deadline."""
        return left_s(self._deadline)

    def event(self, event: Event, state: State) -> None:
        """Something happened."""
        if self._deadline is None:
            return
        self._progress, now = advance(self._progress, event), datetime.now(UTC)
        ends_in_s = forecast(self._progress, state.pace) if now >= self._next_note else None
        if ends_in_s is not None:
            self._next_note = now + timedelta(seconds=NOTE_S)
            self._say(now, now + timedelta(seconds=ends_in_s), self._deadline)

    def film(self, film: FilmDone) -> None:
        """A film has ended."""
        if self._deadline is not None:
            self._progress = advance(self._progress, film)

    def _say(self, now: datetime, end: datetime, deadline: datetime) -> None:
        late = end > deadline
        if late != self._late or (late and now >= self._next_warning):
            self._late, self._next_warning = late, now + timedelta(seconds=SAY_S)
            print(f"longtake: {told(end, deadline)}", file=sys.stderr, flush=True)
        note = {"at": _iso(now), "deadline": _iso(deadline), "predicted_end": _iso(end)}
        try:
            self._store.publish(self._store.put_artefact(json.dumps(note).encode()), self._key)
        except (OSError, StoreError) as error:  # trouble with a note is no trouble of the job
            print(f"longtake: the forecast cannot be noted now: {error}", file=sys.stderr)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
