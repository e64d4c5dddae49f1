"""A driver that is told to stop: by SIGTERM, as `ray job stop` does, or by Ctrl-C.

Decides how long the orderly way may take. The signal becomes an exception in the main thread; where that is
deep in a computation that cannot be interrupted, a second thread says the last words and ends the process,
because Ray kills a stopped driver after 3 s and a killed driver says nothing.
"""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from jobs.outcome import CANCELLED, INTERRUPTED, JobResult

STOPS = {signal.SIGTERM: ("cancelled", CANCELLED), signal.SIGINT: ("interrupted", INTERRUPTED)}
GRACE_S = 2.0
LastWords = Callable[[int], tuple[str, JobResult]]  # signal -> what to tell the person, and the job's end


class Stopped(KeyboardInterrupt):
    """A signal came. Not an Exception: a film's trouble is caught, an order to stop is not.

    Ray makes nonsense of most exceptions that a handler raises inside its calls, but knows this family.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopping:
    """Whether a signal has come: to be asked of every error, as a library may put its own in our place."""

    number: int | None = None

    def arm(self) -> None:
        """Take the signals, also back from a library that has put its own handlers in place of ours."""
        for number in STOPS:
            signal.signal(number, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        """Raise once: a second signal must not interrupt the clearing up."""
        self.number = number
        for stop in STOPS:
            signal.signal(stop, signal.SIG_IGN)
        raise Stopped(number)


@contextmanager
def stoppable(last_words: LastWords) -> Iterator[Stopping]:
    """Signals raise Stopped inside the block, and GRACE_S later they end the process.

    Only for the main thread.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = {number: signal.getsignal(number) for number in STOPS}
    wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_guard, args=(ear, last_words), daemon=True).start()
    stopping = Stopping()
    stopping.arm()
    try:
        yield stopping
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(mouth)  # which tells the guard that nobody is stuck


def _guard(ear: int, last_words: LastWords) -> None:
    """Wait for a stop; if the block has not ended by itself in time, end the process."""
    try:
        while heard := os.read(ear, 1):
            if heard[0] in STOPS and not select.select([ear], [], [], GRACE_S)[0]:
                message, result = last_words(heard[0])
                with suppress(OSError):  # nobody may be reading any more
                    os.write(2, f"{message}\n".encode())  # not print: the main thread may hold its lock
                    os.write(1, f"{result.last_line}\n".encode())
                os._exit(result.exit_code)
    finally:
        os.close(ear)
