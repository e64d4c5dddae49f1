"""The `run` verb: a driver from its start to its last line, however it ends.

Decides: in which order a run is prepared, and that it always says how it ended. Does not decide: what an
end is called (ending), how films are rendered (run) or what a person sees meanwhile (show).
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from jobs.ending import Account, explain, leave_word, note_bill, say_end
from jobs.outcome import JobResult
from jobs.places import opened
from jobs.preview import spec_of
from jobs.settle import refuse_gangs, settled_here, settled_on_ray
from jobs.signals import Stopped, Stopping, stoppable

if TYPE_CHECKING:
    from cluster.metrics import Sink


class Outliving(io.FileIO):
    """An open descriptor that outlives its reader: what is written after `head` has gone goes nowhere."""

    def write(self, data: Any, /) -> int:
        """As FileIO does; a broken pipe becomes /dev/null, for libraries that write to the descriptor too."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


@contextmanager
def outliving() -> Iterator[None]:
    """stdout and stderr that no departing reader can break, and that show each line at once."""
    with redirect_stdout(_outliving(sys.stdout)), redirect_stderr(_outliving(sys.stderr)):
        yield


def _outliving(stream: TextIO) -> TextIO:
    """The stream; over an Outliving descriptor if it has one at all."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError):  # closed by the caller, or in memory
        return stream
    stream.flush()
    raw = io.BufferedWriter(Outliving(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True)


def drive(arguments: argparse.Namespace) -> int:
    """Render a manifest. The last line of stdout is LONGTAKE_RESULT and says how it ended."""
    with outliving():
        return _drive(arguments)


def _drive(arguments: argparse.Namespace) -> int:
    account = Account(arguments)
    try:
        with stoppable(account.stopped) as stopping:
            result = _to_an_end(arguments, account, stopping)
    except Stopped as stop:
        message, result = account.stopped(stop.number)
        print(message, file=sys.stderr, flush=True)
        print(result.last_line, flush=True)
        os._exit(result.exit_code)  # Python would first take torch and Ray apart, which lasts too long
    print(result.last_line, flush=True)
    return result.exit_code


def _to_an_end(arguments: argparse.Namespace, account: Account, stopping: Stopping) -> JobResult:
    """The job's result, whatever error it meets. Raises Stopped."""
    try:
        result = _render(arguments, account, stopping)
        say_end(result, account)
        return result
    except BaseException as error:
        note_bill(account)
        if stopping.number is not None:
            _, result = account.stopped(stopping.number)
            leave_word(result)
            raise Stopped(stopping.number) from error
        if not isinstance(error, Exception):
            raise
        result = explain(error, account)
        leave_word(result)
        return result


def _render(arguments: argparse.Namespace, account: Account, stopping: Stopping) -> JobResult:
    """Check the job, find the workers, render."""
    store = opened(arguments.out)  # a place that cannot be one is told before anything is read
    spec = spec_of(arguments)
    from cluster.local import LocalCrew
    from cluster.logs import log_as_json
    from jobs.job import prepare
    from jobs.log import Entries
    from jobs.run import run
    from jobs.show import make_show
    from jobs.soundness import check_models

    job = prepare(arguments.manifest, spec, account.job_id, store=store)
    check_models(job.stocked, spec.cluster.cache)
    account.job_id, account.films = job.job_id, job.manifest.n_rows
    account.as_json = spec.log == "json"
    if account.as_json:
        log_as_json("stdout", {"job": job.job_id, "worker": "driver"})
    with ExitStack() as stack:
        hire: Any = LocalCrew
        sink: Sink | None = None
        if arguments.local:
            refuse_gangs(spec)
        else:
            from cluster.connect import connect
            from cluster.export import RaySink
            from cluster.remote import RayCrew

            hire, sink = RayCrew, RaySink()
            stack.enter_context(connect(arguments.address))
            stopping.arm()  # Ray has put its own handler in place
        where = f"{'in this process' if arguments.local else 'on Ray'}, into {arguments.out}"
        show = Entries(where, time.monotonic) if account.as_json else make_show(sys.stdout, where=where)
        account.show = stack.enter_context(closing(show))
        settle = partial(settled_here if arguments.local else settled_on_ray, out=arguments.out)
        return run(job, arguments.out, hire, account, settle, sink)
