"""What a person sees while a job runs: bars on a terminal, plain lines in a log.

A log has no carriage returns and no colour: Ray turns each carriage return into a line. Text that comes from
manifests and errors is laid on one line, without control characters, before it is shown.

Decides: what is worth a line, and when. Does not decide: how far a job is (cluster.progress).
"""

import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from cluster.dispatch import GANG, State
from cluster.events import Event, FilmDone, Lost, Raised
from cluster.hiring import PARKED
from cluster.outcomes import Failure, Outcome
from cluster.progress import Progress, advance, clock, eta_s, line
from cluster.shares import GIVEN_UP
from jobs.bill import spoken
from jobs.job import Job, before, whole
from jobs.outcome import JobResult

EVERY_S, EVERY_SHARE = 30.0, 0.01  # a progress line needs both: that much time, and that much more done
CLOSING_CHARS = 6_500  # of failures; what follows them brings it to less than 8,000
MESSAGE_CHARS, FIELD_CHARS = 500, 200
Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def make_show(
    stream: TextIO, *, interactive: bool | None = None, where: str = "", now: Now = utc_now
) -> "Lines | Bars":
    """A Show that writes to `stream`; once it has begun, close it before anything else is written there.

    `interactive` None means: if the stream is a terminal that can move its cursor. `where` tells people
    where films are rendered and where they go.
    """
    if interactive is None:
        interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Bars(stream, where, now) if interactive else Lines(stream, where, now)


class Lines:
    """Plain lines with the time in UTC."""

    def __init__(self, stream: TextIO, where: str, now: Now) -> None:
        self.stream, self.where, self.now = stream, where, now
        self.progress = Progress()
        self.began = self.last = now()
        self.last_done = 0

    def begin(self, job: Job) -> None:
        """Say what will be rendered."""
        self.progress = before(job)
        self._say("run", opening(job, self.where))

    def event(self, event: Event, state: State) -> None:
        """Say at once what went wrong, and now and then how far the job is."""
        warning = trouble(event, state, self.progress)
        self.progress = advance(self.progress, event)
        if warning:
            self._say("warn", warning)
        self._tick()

    def film(self, film: FilmDone) -> None:
        """Say what became of a film."""
        self.progress = advance(self.progress, film)
        for word, text in film_lines(film):
            self._say(word, text)
        if self.progress.over:
            self._say("run", line(self.progress, self._elapsed_s()))

    def close(self) -> None:
        """Nothing is held open."""

    def _tick(self) -> None:
        more = self.progress.windows_done - self.last_done
        late = (self.now() - self.last).total_seconds() >= EVERY_S
        if late and more and more >= EVERY_SHARE * self.progress.windows:
            self.last, self.last_done = self.now(), self.progress.windows_done
            self._say("run", line(self.progress, self._elapsed_s()))

    def _elapsed_s(self) -> float:
        return (self.now() - self.began).total_seconds()

    def _say(self, word: str, text: str) -> None:
        print(f"{self.now():%H:%M:%SZ} {word:<4}  {text}", file=self.stream, flush=True)


class Bars:
    """Two bars, with everything else above them as it happens."""

    def __init__(self, stream: TextIO, where: str, now: Now) -> None:
        self.where, self.now, self.began = where, now, now()
        self.progress = Progress()
        self.console = Console(file=stream, force_terminal=True, highlight=False, markup=False)
        self.bars = RichProgress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
            expand=True,
            redirect_stdout=sys.stdout.isatty(),  # what workers print goes above; a pipe keeps its bytes
            redirect_stderr=sys.stderr.isatty(),
        )

    def begin(self, job: Job) -> None:
        """Say what will be rendered, and draw the bars."""
        self.progress = before(job)
        self.console.print(opening(job, self.where))
        self.films = self.bars.add_task("films", total=job.n_films, note="")
        self.windows = self.bars.add_task("windows", total=self.progress.windows, note="")
        self.bars.start()

    def event(self, event: Event, state: State) -> None:
        """Move the bars; say what went wrong."""
        warning = trouble(event, state, self.progress)
        self.progress = advance(self.progress, event)
        if warning:
            self.console.print(f"warn  {warning}", style="yellow")
        self._move()

    def film(self, film: FilmDone) -> None:
        """Say what became of a film."""
        self.progress = advance(self.progress, film)
        for word, text in film_lines(film):
            self.console.print(f"{word:<4}  {text}", style="red" if word == "fail" else None)
        self._move()
        if self.progress.over:
            self.close()

    def close(self) -> None:
        """Leave the bars as they are, and give the terminal back."""
        self.bars.stop()

    def _move(self) -> None:
        progress = self.progress
        eta = eta_s(progress, (self.now() - self.began).total_seconds())
        counts = [(progress.films_failed, "failed"), (progress.films_reused, "reused")]
        notes = [f"gangs {progress.alive(GANG)}"]
        notes += [f"lost {progress.lost}"] if progress.lost else []
        notes += [] if eta is None else [f"eta {clock(eta)}"]
        ended = progress.films_done + progress.films_failed
        self.bars.update(
            self.films, completed=ended, note=", ".join(f"{n} {word}" for n, word in counts if n)
        )
        self.bars.update(self.windows, completed=progress.windows_done, note=", ".join(notes))


def opening(job: Job, where: str) -> str:
    """What will be rendered, and where."""
    work = whole(job)
    steps = "-".join(str(n) for n in sorted({*work.n_steps[:1], *work.n_steps[-1:]}))
    parts = [count(work.films, "film"), count(work.shots, "shot")]
    parts += [f"{count(work.windows, 'window')} x {steps} steps" if steps else "no windows"]
    return one_line(", ".join(parts) + (f"; {where}" if where else ""))


def trouble(event: Event, state: State, before: Progress) -> str | None:
    """An event worth a warning; a task's last error is left out, as its films say it at once."""
    match event:
        case Lost(worker, failure) if worker in before.workers and failure and failure.code == GIVEN_UP:
            return f"gave up {worker} ({before.workers[worker]}): {failure.message}"
        case Lost(worker, failure) if failure and failure.code == PARKED:
            return one_line(f"{failure.code} {failure.message}; the others go on without it", MESSAGE_CHARS)
        case Lost(worker, failure) if worker in before.workers:
            why = f": {failure.code} {failure.message}" if failure else ""
            lost = f"lost {worker} ({before.workers[worker]}); its work goes on elsewhere{why}"
            return one_line(lost, MESSAGE_CHARS)
        case Raised(key, worker, failure) if state.wants(key):
            error = f"{failure.error_class} error {state.tries(key)}, tried again"
            task = f"{state.tasks[key].kind} {key[:8]} on {worker}, {error}"
            return one_line(f"{failure.code}  {task}: {failure.message}", MESSAGE_CHARS)
    return None


def film_lines(film: FilmDone) -> Iterator[tuple[str, str]]:
    """What became of a film: its good languages in a line, then every failure once with its languages."""
    row_id, made, failed = film.film.row_id, dict[str, Outcome](), dict[Failure, list[str]]()
    for version in film.film.versions:
        result = film.results[version.key]
        if isinstance(result, Outcome):
            made[version.lang] = result
        else:
            failed.setdefault(result, []).append(version.lang)
    if made:
        fresh = [r for r in film.results.values() if isinstance(r, Outcome) and not r.reused]
        seconds = f"rendered in {sum(result.seconds for result in fresh):.1f} s of work"
        reused = all(result.reused for result in made.values())
        yield "film", one_line(f"{row_id}  {' '.join(made)}  {'reused' if reused else seconds}")
    for failure, langs in failed.items():
        text = f"{failure.code}  {row_id}  {' '.join(langs)}: {failure.message}"
        yield "fail", one_line(text + (f". {failure.hint}" if failure.hint else ""), MESSAGE_CHARS)


@dataclass
class Group:
    """Results that failed with one code, and the first of them."""

    example: Mapping[str, Any]
    n: int = 0
    films: int = 0
    last: str | None = None  # row_id of the newest: a film's rows follow one another


def closing_lines(result: JobResult, rows: Iterable[Mapping[str, Any]], command: Sequence[str] = ()) -> str:
    """A job's last word to people: failures by code, the most frequent first, then where everything is.

    Under 8,000 characters, since Ray shows no more of a log than 20,000. `command` is what to run again.
    """
    groups = _groups(rows)
    head = f"{result.job_id}: {count(result.done, 'film')} done of {result.films:,}"
    notes = [(result.reused, "reused"), (result.failed, "failed"), (result.dropped, "of them dropped")]
    notes.append((result.invalid, "invalid"))
    head += "".join(f", {n:,} {word}" for n, word in notes if n) + f", in {clock(result.seconds)}"
    spent = ", ".join(spoken(asdict(result.gpu)))
    again = shlex.join(command) or "the same command"
    lines = [*_failures(groups), one_line(head, FIELD_CHARS * 2), ""]
    lines += [f"  films    {result.out.rstrip('/')}/films/" if result.done else "  films    none"]
    lines += [f"  results  {result.results}", f"  report   {result.report}"]
    lines += [one_line(f"  spent    {spent}", FIELD_CHARS * 2)] if spent else []
    if result.failed:
        lines += ["", "To go on, run again; what is done stays done:", f"  {again}"]
    elif result.invalid:
        lines += ["", "Mend the rows above, then run again; what is done stays done:", f"  {again}"]
    return "\n".join(lines)


def _groups(rows: Iterable[Mapping[str, Any]]) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for row in rows:
        if row["status"] == "done":
            continue
        group = groups.setdefault(row.get("code") or "(no code)", Group(row))
        group.n += 1
        group.films += row["row_id"] != group.last
        group.last = row["row_id"]
    return groups


def _failures(groups: Mapping[str, Group]) -> Iterator[str]:
    """A paragraph for each code while there is room, then how many codes are left out."""
    room = CLOSING_CHARS
    ranked = sorted(groups.items(), key=lambda item: (-item[1].films, item[0]))
    for index, (code, group) in enumerate(ranked):
        text = _paragraph(code, group)
        if len(text) > room:
            yield f"and {count(len(ranked) - index, 'code')} more, all in the report\n"
            return
        room -= len(text)
        yield text


def _paragraph(code: str, group: Group) -> str:
    row = group.example
    entries = f", {count(group.n, 'result')}" if group.n != group.films else ""
    lang = "" if row.get("lang") in (None, "und") else f" {row['lang']}"
    place = f" {row['json_path']}" if row.get("json_path") else ""
    lines = [f"{one_line(code, 60)}  {count(group.films, 'film')}{entries}"]
    lines += ["  " + one_line(f"row {row['row_id'] or '(no row_id)'}{lang}{place}", FIELD_CHARS)]
    lines += ["  " + one_line(row[name], MESSAGE_CHARS) for name in ("message", "hint") if row.get(name)]
    return "\n".join(lines) + "\n"


def count(n: int, noun: str) -> str:
    """A number and its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def one_line(text: str, most_chars: int = 1000) -> str:
    """Text laid on one line, without control characters, at most so long; zero-width joiners stay."""
    flat = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).strip()
    return flat if len(flat) <= most_chars else flat[: most_chars - 1] + "…"
