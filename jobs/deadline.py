"""Whether a job will be done by its deadline, or stands still: told early, to people and for `status`.

    jobs/ID/deadline/HASH.json    the moment that a deadline meant when the job was first given it
    jobs/ID/forecast.json         how the job stood a moment ago

Decides: when a person is warned. Does not decide: which films are dropped for it (cluster.dropping), which
moment is meant (moment), or what standing still is (stall).
"""

import hashlib
import json
import math
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cluster.events import Event, FilmDone
from cluster.pace import Pace
from cluster.progress import Progress, advance
from cluster.state import State
from jobs import stall
from jobs.moment import told
from jobs.refusal import Refused
from manifests.store import Store, StoreError

if TYPE_CHECKING:
    from jobs.job import Job

SAY_S = 600.0  # between two warnings, unless what they say has changed
NOTE_S = 30.0  # between two notes for status


def due(store: Store, job: "Job") -> datetime | None:
    """When a job that is about to begin is to be done: as its deadline was meant when it was first given.

    So a job that goes on at 06:01 is late, and has not a day more. Raises Refused for a deadline that has
    passed and is new, OSError, StoreError.
    """
    text, now = job.spec.deadline, datetime.now(UTC)
    meant = store.read_marker(_meant_key(job.job_id, text)) if text else None
    if meant is not None:
        return datetime.fromisoformat(meant["deadline"])
    deadline = job.spec.done_by(now)
    if deadline is not None and deadline <= now:
        raise Refused(f"deadline={text!r} has passed: give a later one, or none")
    return deadline


def left_s(deadline: datetime | None) -> float:
    """Seconds from now to a deadline; infinity without one."""
    return (deadline - datetime.now(UTC)).total_seconds() if deadline else math.inf


def keep_due(store: Store, job: "Job", deadline: datetime | None) -> None:
    """Record what the job's deadline means, if no driver has; say so if it has passed. Raises OSError."""
    if deadline is None:
        return
    text = job.spec.deadline
    store.put_marker(_meant_key(job.job_id, text), {"asked": text, "deadline": _iso(deadline)})
    if deadline <= datetime.now(UTC):
        what = f"the deadline {text!r} meant {deadline:%Y-%m-%d %H:%M} UTC when it was given, and has passed"
        then = "films that are not begun are dropped; give one with its day for more time"
        print(f"longtake: {what}: {then}", file=sys.stderr)


def _meant_key(job_id: str, text: str) -> str:
    return f"jobs/{job_id}/deadline/{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"


def forecast(progress: Progress, pace: Pace) -> float | None:
    """Seconds until all films of a job are done; None where no pace is known."""
    if progress.over:
        return 0.0
    return pace.ends_in_s(max(progress.windows - progress.windows_done, 0))


class DeadlineWatch:
    """Holds a job against its deadline as it goes on, warns on stderr, and notes for status how it stands.

    It begins with how far the job is. Without a deadline it only tells of a job that stands still.
    """

    def __init__(
        self,
        store: Store,
        job_id: str,
        deadline: datetime | None,
        progress: Progress,
        moves: stall.Stall | None = None,
    ) -> None:
        self._store, self._key, self._deadline = store, f"jobs/{job_id}/forecast.json", deadline
        self._progress, self._moves = progress, moves or stall.Stall()
        self._next_note = self._next_warning = datetime.min.replace(tzinfo=UTC)
        self._late = self._stands = False

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
        self._moves.event(event, state)
        if self._deadline is not None:
            self._progress = advance(self._progress, event)
        now, stands_s = datetime.now(UTC), self._moves.stands_s
        if now < self._next_note and bool(stands_s) == self._stands:
            return
        if stands_s or self._stands:
            self._stood(now, stands_s, state)
        elif self._deadline and (ends_in_s := forecast(self._progress, state.pace)) is not None:
            self._say(now, now + timedelta(seconds=ends_in_s), self._deadline)
        elif self._deadline:  # what was foretold before an outage holds no more
            self._note(now, {"predicted_end": None, "stands_since": None})

    def film(self, film: FilmDone) -> None:
        """A film has ended."""
        if self._deadline is not None:
            self._progress = advance(self._progress, film)

    def _stood(self, now: datetime, stands_s: float, state: State) -> None:
        """The job stands still, or does so no more: no end can be foretold now."""
        if stands_s and (not self._stands or now >= self._next_warning):
            self._next_warning = now + timedelta(seconds=SAY_S)
            due = f"; its deadline is {self._deadline:%Y-%m-%d %H:%M} UTC" if self._deadline else ""
            print(f"longtake: {stall.told(stands_s, state)}{due}", file=sys.stderr, flush=True)
        self._stands = bool(stands_s)
        since = _iso(now - timedelta(seconds=stands_s)) if stands_s else None
        self._note(now, {"predicted_end": None, "stands_since": since})

    def _say(self, now: datetime, end: datetime, deadline: datetime) -> None:
        late = end > deadline
        if late != self._late or (late and now >= self._next_warning):
            self._late, self._next_warning = late, now + timedelta(seconds=SAY_S)
            print(f"longtake: {told(end, deadline)}", file=sys.stderr, flush=True)
        self._note(now, {"predicted_end": _iso(end), "stands_since": None})

    def _note(self, now: datetime, standing: dict[str, Any]) -> None:
        self._next_note = now + timedelta(seconds=NOTE_S)
        note = {"at": _iso(now), "deadline": self.text or None, **standing}
        try:
            self._store.publish(self._store.put_artefact(json.dumps(note).encode()), self._key)
        except (OSError, StoreError) as error:  # trouble with a note is no trouble of the job
            print(f"longtake: the forecast cannot be noted now: {error}", file=sys.stderr)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
