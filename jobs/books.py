"""All that is kept of what happens in a job: the ledger, the account, and what is exported. The thin shell.

What the crew is asked for is noted on its way to the crew, so events and actions come in the order in which
they happen, each with its time. All times are of one clock that goes forward only, also while the machine
sleeps: it is set by the wall's when the books are opened.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from cluster.account import Account, advance, closed, settled, tried
from cluster.crew import Crew
from cluster.diary import Diary
from cluster.dispatch import State
from cluster.events import Action, Event, FilmDone
from cluster.metrics import Meter, Sink
from cluster.tally import US, us_of
from jobs.bill import Bill, Price, bill_of, columns_of
from jobs.spent import SpentNote, bills, spent_before
from manifests.finished import Finished
from manifests.ledger import Ledger
from manifests.store import Store, StoreError


class Noted:
    """A crew of which every action is noted before it is done."""

    def __init__(self, crew: Crew, note: Callable[[Action], None]) -> None:
        self._crew, self._note = crew, note

    def act(self, action: Action) -> None:
        """Note it, and have it done."""
        self._note(action)
        self._crew.act(action)

    def wait(self, most_s: float = 1.0) -> Sequence[Event]:
        """What has happened."""
        return self._crew.wait(most_s)

    def close(self) -> None:
        """Let all workers go."""
        self._crew.close()


class Books:
    """One run's. However it ends, its bill is left in the job's folder."""

    def __init__(
        self, store: Store, job_id: str, epoch: int, ledger: Ledger, sink: Sink, price: Price
    ) -> None:
        self.store, self.key = store, f"{bills(job_id)}/{epoch:06}.json"
        self.ledger, self.price, self.meter = ledger, price, Meter(sink, job_id)
        self.account, self.diary = Account(), Diary()
        self.opened, self.began_s, self.film_s = datetime.now(UTC), _clock_s(), 0.0
        self.bill: Bill | None = None
        self._before_s, self._note_spent = spent_before(store, job_id, epoch), SpentNote(store, job_id, epoch)

    def __enter__(self) -> "Books":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, StoreError):  # which may be the very reason for the end
            self.close()

    def hired(self, hire: Callable[[], Crew], ranks: int) -> Callable[[], Crew]:
        """As `hire`, a crew whose actions are noted, and whose gangs have so many ranks."""
        self.account = replace(self.account, ranks=ranks)
        return lambda: Noted(hire(), self._note)

    def tried(self, gang: str, seconds: float, gpu_s: float) -> None:
        """Bill a window that a gang predicted for nothing but its time."""
        now_s = self._now_s()
        self.account = tried(self.account, gpu_s)
        self._note_spent.note(self.account.used_us / US)
        row = {"event": "ran", "worker": gang, "windows": 1, "seconds": seconds, "gpu_s": gpu_s}
        self._record([row | {"began_s": max(0.0, now_s - seconds), "ended_s": now_s}])

    def spent_gpu_s(self) -> float:
        """What the job's gangs took until now: in earlier runs, and in this one by calls that have ended."""
        return self._before_s + self.account.used_us / US

    def had(self, gpu_s: float) -> None:
        """Note that gangs which were tried were there for so long."""
        self.account = replace(self.account, hired_us=self.account.hired_us + us_of(gpu_s, 1))

    def event(self, event: Event, state: State) -> None:
        """Take up an event, with the state that follows from it."""
        self._note(event)
        self.meter.event(self._now_s(), event, state, self.account)
        self._note_spent.note(self.account.used_us / US)

    def film(self, film: FilmDone, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The film's rows of results, with what it took."""
        self.account, tally = settled(self.account, film)
        self.diary.film(film)
        self.meter.film(film)
        done = (row for row in rows if row["status"] == "done" and not row["reused"])
        self.film_s += sum(row["duration_s"] for row in done)
        columns = columns_of(tally, self.price)
        return [row | columns for row in rows]

    def adopt(self, finished: Finished) -> None:
        """Count what films need not take that earlier drivers finished."""
        job = self.account.job
        saved_us = job.saved_us + round(finished.saved_s * US)
        self.account = replace(self.account, job=replace(job, saved_us=saved_us))

    def close(self) -> Bill:
        """The bill, when nothing happens any more; a second call gives the same."""
        if self.bill is None:
            now_s = self._now_s()
            self.account = closed(self.account, now_s)
            self.bill = bill_of(self.account, self.film_s, self.price)
            self.meter.close(self.account)
            self.store.put_marker(self.key, asdict(self.bill))
            self._record(self.diary.close(now_s))
        return self.bill

    def _now_s(self) -> float:
        return _clock_s() - self.began_s

    def _note(self, what: Event | Action) -> None:
        now_s = self._now_s()
        self.account = advance(self.account, now_s, what)
        self._record(self.diary.note(now_s, what))

    def _record(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            for name, column in (("began_s", "began"), ("ended_s", "ts")):
                if (seconds := row.pop(name, None)) is not None:
                    row[column] = self.opened + timedelta(seconds=seconds)
            self.ledger.record(**row)


def _clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
