"""What gangs spent, in GPU-seconds by job and film: folded from what happens. Pure, in constant memory.

    used    a gang's ranks were at a window: as they measured it, or, where no answer came, from call to end
    kept    of that, what went into latents of a shot that was done
    wasted  of that, the rest, by cause
    saved   what artefacts had taken that were found: whoever made them said so in their markers
    hired   a gang was there, at work or idle

A shot that films share is paid for by the first of them, and saved for the others. Until a shot has ended its
windows are neither kept nor wasted, so that used = kept + wasted + open at any moment, and open is 0 at the
end. Seconds are whole microseconds: sums are exact, and the same in any order.

A cause is a class of errors (cluster.classes), or one of CAUSES (cluster.tally).

Decides: whose seconds are whose, and of which kind. Does not decide: what they cost (jobs.bill).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from immutables import Map

from cluster.events import (
    Action,
    Admitted,
    Done,
    Drop,
    Event,
    FilmDone,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Turned,
    Window,
)
from cluster.outcomes import Failure, Outcome
from cluster.state import GANG, without
from cluster.tally import Paid, Tally, cause_of, taken_us, us_of
from cluster.tasks import FilmTasks


@dataclass(frozen=True)
class Account:
    """The books. `ranks` are those of a gang; `job` is closed, what shots under way took is in `shots`."""

    ranks: int = 1
    used_us: int = 0  # of the job, noted as it is spent
    hired_us: int = 0  # of gangs that are gone
    job: Tally = field(default_factory=Tally)
    films: Map[str, Tally] = Map()  # under way, or failed and perhaps asked for again
    users: Map[str, tuple[str, ...]] = Map()  # shot -> rows of films under way that have it; the first pays
    payers: Map[str, str] = Map()  # shot that was done -> the row that has paid for it
    shots: Map[str, Paid] = Map()
    calls: Map[Window, tuple[str, float]] = Map()  # under way: at which gang, since when
    gangs: Map[str, float] = Map()  # since when

    def hired_until_us(self, now_s: float) -> int:
        """Hired until now, by all gangs."""
        return self.hired_us + sum(us_of(now_s - since, self.ranks) for since in self.gangs.values())


def advance(account: Account, now_s: float, what: Event | Action) -> Account:
    """The books after an event, or an action, at a moment. FilmDone is left to `settled`."""
    match what:
        case Admitted(film):
            return _admitted(account, film.row_id, _shots(film))
        case Predict(gang, _, window):
            return replace(account, calls=account.calls.set(window, (gang, now_s)))
        case Predicted():
            return _predicted(account, now_s, what)
        case Raised():
            return _raised(account, now_s, what)
        case Lost():
            return _lost(account, now_s, what)
        case Hired(worker, role) if role == GANG:
            return replace(account, gangs=account.gangs.set(worker, now_s))
        case Open(conductor, task, opening):
            paid = account.shots.get(task.key, Paid())
            return _with(account, task.key, replace(paid, conductor=conductor, opening=opening))
        case Turned():
            return _turned(account, what)
        case Drop(_, shot, opening, save):
            return _dropped(account, shot, opening, "PREEMPTED" if save else "")
        case Done(key, _, outcome) if key in account.shots:
            return _done(account, key, outcome)
    return account


def tried(account: Account, gpu_s: float) -> Account:
    """The books with what a gang took that was tried before the job's own came: no latents are of it."""
    us = us_of(gpu_s, 1)
    return replace(account, used_us=account.used_us + us, job=account.job.plus(us, "TRIED"))


def settled(account: Account, film: FilmDone) -> tuple[Account, Tally]:
    """The books without a film that has ended, and what it spent; a shot of it goes on where others want it.

    What is still being predicted of it comes late, and is the job's alone.
    """
    row, results = film.film.row_id, film.results
    saved = _saved(account, film)
    for shot in _shots(film.film):
        left = tuple(other for other in account.users.get(shot, ()) if other != row)
        if not left and shot in account.shots:
            account = _closed(account, shot, cause_of(film, shot))
        users = account.users.set(shot, left) if left else without(account.users, shot)
        payers = account.payers if left else without(account.payers, shot)
        account = replace(account, users=users, payers=payers)
    tally = account.films.get(row, Tally())
    more = max(0, saved - tally.before_us)
    tally = replace(tally, saved_us=tally.saved_us + more)
    job = replace(account.job, saved_us=account.job.saved_us + more)
    failed = any(isinstance(results[task.key], Failure) for task in film.film.wanted)
    films = account.films.set(row, tally) if failed else without(account.films, row)
    return replace(account, job=job, films=films), tally


def closed(account: Account, now_s: float) -> Account:
    """The books of a job that ends now: what is under way is lost with its crew."""
    for window, (_, since) in account.calls.items():
        account = _used(account, window.shot, us_of(now_s - since, account.ranks), "ENDED")
    for shot in account.shots:
        account = _closed(account, shot, "ENDED")
    return replace(account, calls=Map(), hired_us=account.hired_until_us(now_s), gangs=Map())


# What happens.


def _admitted(account: Account, row: str, shots: Iterable[str]) -> Account:
    users = account.users.update({shot: (*account.users.get(shot, ()), row) for shot in shots})
    tally = account.films.get(row, Tally())
    tally = replace(tally, before_us=tally.kept_us)
    return replace(account, users=users, films=account.films.set(row, tally))


def _predicted(account: Account, now_s: float, event: Predicted) -> Account:
    """An answer counts for its canvas, if that is still open; without seconds the answer itself is lost."""
    window, call = event.window, account.calls.get(event.window)
    if call is None or call[0] != event.gang:
        return account  # of a gang that was lost, and counted then
    account = replace(account, calls=account.calls.delete(window))
    if event.fared is None:
        return _used(account, window.shot, us_of(now_s - call[1], account.ranks), "LOST")
    us, paid = us_of(event.fared.gpu_s, 1), account.shots.get(window.shot)
    if paid is None or paid.opening != window.opening:
        return _used(account, window.shot, us, "LATE")
    steps = paid.steps.set(window.step, paid.steps.get(window.step, 0) + us)
    account = replace(account, used_us=account.used_us + us)
    return _with(account, window.shot, replace(paid, steps=steps))


def _raised(account: Account, now_s: float, event: Raised) -> Account:
    call = account.calls.get(event.window) if event.window else None
    if event.window is not None and call is not None and call[0] == event.worker:
        account = replace(account, calls=account.calls.delete(event.window))
        us = us_of(now_s - call[1], account.ranks)
        account = _used(account, event.key, us, event.failure.error_class)
    return _blamed(account, event.key, event.failure.error_class)


def _lost(account: Account, now_s: float, event: Lost) -> Account:
    cause = event.failure.error_class if event.failure else "LOST"
    for window, (gang, since) in account.calls.items():
        if gang == event.worker:
            account = replace(account, calls=account.calls.delete(window))
            account = _used(account, window.shot, us_of(now_s - since, account.ranks), cause)
    for shot, paid in account.shots.items():
        if paid.conductor == event.worker:
            account = _with(account, shot, replace(paid, conductor="", opening=0, cause=cause))
    if event.worker in account.gangs:
        us = us_of(now_s - account.gangs[event.worker], account.ranks)
        gangs = account.gangs.delete(event.worker)
        account = replace(account, gangs=gangs, hired_us=account.hired_us + us)
    return account


def _turned(account: Account, event: Turned) -> Account:
    """A canvas stands before a step: what was predicted of that step and later ones is done again."""
    shot, paid = event.shot, account.shots.get(event.shot)
    if paid is None or paid.opening != event.opening:
        return account
    if paid.found is None:
        paid = replace(paid, found=event.step > 0)
    again = {step: us for step, us in paid.steps.items() if step >= event.step}
    for step in again:
        paid = replace(paid, steps=paid.steps.delete(step))
    account = _with(account, shot, replace(paid, cause="REDONE"))
    return _charged(account, shot, sum(again.values()), paid.cause)


def _dropped(account: Account, shot: str, opening: int, cause: str) -> Account:
    paid = account.shots.get(shot)
    if paid is None or paid.opening != opening:
        return account
    paid = replace(paid, conductor="", opening=0, cause=cause or paid.cause)
    return _with(account, shot, paid)


def _blamed(account: Account, shot: str, cause: str) -> Account:
    """What of a shot is done again is so because of this."""
    paid = account.shots.get(shot)
    return account if paid is None else _with(account, shot, replace(paid, cause=cause))


def _done(account: Account, shot: str, outcome: Outcome) -> Account:
    """A shot's windows are kept, unless somebody else had made it; those of an earlier run are saved."""
    paid, row = account.shots[shot], next(iter(account.users.get(shot, ())), "")
    account = _closed(account, shot, "LATE" if outcome.reused else "")
    if outcome.reused or not row:
        return account
    account = replace(account, payers=account.payers.set(shot, row))
    more = max(0, taken_us(outcome) - paid.us) if paid.found else 0
    if not more:
        return account
    tally, job = account.films[row], account.job
    films = account.films.set(row, replace(tally, saved_us=tally.saved_us + more))
    return replace(account, films=films, job=replace(job, saved_us=job.saved_us + more))


# Sums.


def _saved(account: Account, film: FilmDone) -> int:
    """What the film had no gang do: of a master that was found all its shots, else shot by shot."""
    results, row = film.results, film.film.row_id
    master = results.get(film.film.master.key)
    if isinstance(master, Outcome) and master.reused:
        return taken_us(master)
    saved: dict[str, int] = {}
    for segment in film.film.master.segments:
        shot = segment.source.key
        segment_result, shot_result = results.get(segment.key), results.get(shot)
        if isinstance(segment_result, Outcome) and segment_result.reused:
            saved[shot] = taken_us(segment_result)
        elif isinstance(shot_result, Outcome) and account.payers.get(shot) != row:
            saved[shot] = taken_us(shot_result)
    return sum(saved.values())


def _shots(film: FilmTasks) -> tuple[str, ...]:
    """The film's shots, each once."""
    return tuple(dict.fromkeys(segment.source.key for segment in film.master.segments))


def _closed(account: Account, shot: str, cause: str) -> Account:
    """A shot has ended: all its windows are kept, or wasted of this cause."""
    us = account.shots[shot].us
    return _charged(replace(account, shots=account.shots.delete(shot)), shot, us, cause)


def _used(account: Account, shot: str, us: int, cause: str) -> Account:
    """Used, and wasted at once."""
    return _charged(replace(account, used_us=account.used_us + us), shot, us, cause)


def _charged(account: Account, shot: str, us: int, cause: str) -> Account:
    """Kept or wasted by the job, and by the film that pays for the shot, if any is left."""
    account = replace(account, job=account.job.plus(us, cause))
    row = next(iter(account.users.get(shot, ())), None)
    if row is None or row not in account.films:
        return account
    return replace(account, films=account.films.set(row, account.films[row].plus(us, cause)))


def _with(account: Account, shot: str, paid: Paid) -> Account:
    return replace(account, shots=account.shots.set(shot, paid))
