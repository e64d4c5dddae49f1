"""Log lines of the driver and its workers: text for people, or a line of JSON each for what collects logs.

    longtake          what the driver has to say
    longtake.worker   what a worker made, and the errors of its tasks with their traceback

A line of JSON has time (ISO 8601, UTC), level, job, row, shot, window, attempt, worker and message, null
where it is of none; task, the first 8 digits of its key, is how a worker's line is found from the driver's.
A worker knows neither row nor attempt: several films may share what it does.

Decides: what a line holds. Does not decide: what is worth one (jobs.show, jobs.log), or where lines are kept.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeVar, cast

from cluster.identity import Task
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.tasks import SegmentTask

Call = TypeVar("Call", bound=Callable[..., Any])
Fields = Mapping[str, Any]
LOG, WORK = logging.getLogger("longtake"), logging.getLogger("longtake.worker")
FIELDS = ("job", "row", "shot", "window", "attempt", "worker", "task")
MORE = ("code", "error_class", "hint", "seconds")  # where a line has any
AT: ContextVar[Fields | None] = ContextVar("what a crew of one process is at", default=None)


class Standard(logging.Handler):
    """Writes to what is stdout, or stderr, at that time: a driver puts other streams in their place."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, at once."""
        try:
            print(self.format(record), file=getattr(sys, self.stream), flush=True)
        except Exception:  # a line that cannot be written stops nothing
            self.handleError(record)


class JsonLines(logging.Formatter):
    """A record as one line of JSON; `common` is of all lines, `here` of what is under way at the time."""

    def __init__(self, common: Fields, here: Callable[[], Fields] = dict) -> None:
        super().__init__()
        self.common, self.here = common, here

    def format(self, record: logging.LogRecord) -> str:
        """The line; more fields are given as the record's `extra`."""
        own = {name: record.__dict__[name] for name in (*FIELDS, *MORE) if name in record.__dict__}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower()} | dict.fromkeys(FIELDS)
        line |= {**self.common, **(AT.get() or {}), **self.here(), **own, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_text(work: bool = False) -> None:
    """Warnings of ours go to stderr, as `longtake: …`, with tracebacks of tasks where `work` is of interest.

    A driver tells people of errors of tasks by other means.
    """
    _set(logging.getLogger(), None)
    _set(LOG, "stderr", logging.Formatter("longtake: %(message)s"))
    LOG.setLevel(logging.WARNING)
    LOG.propagate, WORK.disabled = False, not work


def log_as_json(stream: str, common: Fields, here: Callable[[], Fields] = dict) -> None:
    """All lines of this process, other libraries' too, go to stdout or stderr as JSON."""
    _set(logging.getLogger(), stream, JsonLines(common, here))
    _set(LOG, None)
    LOG.setLevel(logging.INFO)
    LOG.propagate, WORK.disabled = True, False
    logging.captureWarnings(True)
    for name in ("diffusers", "transformers"):  # which have handlers of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def reporting(call: Call) -> Call:
    """A worker's call that logs what it made, and any error with its traceback before it is raised on."""

    @wraps(call)
    def reported(self: object, *args: Any, **more: Any) -> Any:
        try:
            answer = call(self, *args, **more)
        except Exception:
            what = f"{type(self).__name__.lower()} failed at {call.__name__}"
            WORK.exception(what, extra=about(args[0] if args else None))
            raise
        if isinstance(answer, Outcome):
            made = f"{'found' if answer.reused else 'made'} {answer.kind}"
            WORK.info(made, extra={**about(args[0]), "seconds": answer.seconds})
        return answer

    return cast(Call, reported)


def about(task: object) -> dict[str, Any]:
    """The fields of a task, or of its key."""
    shot = task.source if isinstance(task, SegmentTask) else task
    named = {"shot": shot.shot.shot_id} if isinstance(shot, ShotTask) else {}
    key = task.key if isinstance(task, Task) else task
    return named | ({"task": key[:8]} if isinstance(key, str) else {})


def _set(logger: logging.Logger, stream: str | None, formatter: logging.Formatter | None = None) -> None:
    """Where a logger's lines go, None for nowhere: in place of what was set here before, or by default."""
    for handler in list(logger.handlers):
        if isinstance(handler, Standard) or type(handler) is logging.StreamHandler:
            logger.removeHandler(handler)
    if stream is not None:
        ours = Standard(stream)
        ours.setFormatter(formatter)
        logger.addHandler(ours)


log_as_text()
