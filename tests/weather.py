"""What befalls all processes of a driver at once: a store in trouble, a full disk, a clock that leaps.

`Weather` is a few words of memory that a driver shares with the workers forked from it. The product has no
hooks for it: `brew` wraps the store's place and the clocks from outside, and all is calm until a word is set.
Whoever asks the store next meets the trouble, driver or worker.
"""

import errno
import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from manifests import places, replies, store

WORDS = struct.Struct("4d")  # operations in trouble, which trouble, whether the disk is full, seconds of leap
TROUBLES = ("500", "503", "timeout", "slow", "lost reply")
OPERATIONS = ("create", "show", "read", "fetch", "size", "keys", "remove")
CLOCKS = ("manifests.ledger", "jobs.spool", "jobs.show", "jobs.status")  # modules that ask what day it is
SLOW_S = 0.3


class Weather:
    """Shared by all processes forked after it was made."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, WORDS.size)

    def _get(self) -> list[float]:
        return list(WORDS.unpack(self._memory[: WORDS.size]))

    def _set(self, at: int, value: float) -> None:
        struct.pack_into("d", self._memory, 8 * at, value)

    def trouble(self, kind: str, operations: int) -> None:
        """The next operations of any process meet this trouble."""
        self._set(1, TROUBLES.index(kind))
        self._set(0, operations)

    def fill(self, full: bool) -> None:
        """The store's disk is full, or has room again."""
        self._set(2, full)

    def leap(self, seconds: float) -> None:
        """The clock on the wall goes ahead, or back."""
        self._set(3, self.leapt + seconds)

    @property
    def leapt(self) -> float:
        """Seconds that the clock is ahead."""
        return self._get()[3]

    @property
    def full(self) -> bool:
        """Whether the disk is full."""
        return bool(self._get()[2])

    def met(self) -> str:
        """The trouble that an operation meets, if it meets any."""
        left, kind, _, _ = self._get()
        if left < 1:
            return ""
        self._set(0, left - 1)
        return TROUBLES[int(kind)]


def brew(weather: Weather) -> None:
    """From now on this process and those forked from it live in this weather."""
    for name in OPERATIONS:
        setattr(places.Disk, name, _troubled(weather, getattr(places.Disk, name), name == "create"))
    staged = store.Store._staged
    store.Store._staged = contextmanager(lambda self: _filling(weather, staged(self)))  # type: ignore[method-assign]
    real_time, real_day = time.time, datetime

    class Leaping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_day.now(tz) + timedelta(seconds=weather.leapt)

    time.time = lambda: real_time() + weather.leapt
    for module in CLOCKS:
        import_module(module).datetime = Leaping  # type: ignore[attr-defined]


def _troubled(weather: Weather, real: Callable[..., Any], writes: bool) -> Callable[..., Any]:
    """An operation of a store that may fail before it is done, or after."""

    def operation(*given: Any) -> Any:
        trouble = weather.met()
        if writes and weather.full:
            raise no_room()
        if trouble == "500":
            raise ConnectionError("the server said 500 InternalError")
        if trouble == "503":
            raise replies.Throttled("the server said 503 SlowDown")
        if trouble in ("timeout", "slow"):
            time.sleep(SLOW_S)
        if trouble == "timeout":
            raise TimeoutError("no answer from the server")
        answer = real(*given)
        if trouble == "lost reply":
            raise ConnectionResetError("the connection was reset")
        return answer

    return operation


def _filling(weather: Weather, staged: Any) -> Iterator[Any]:
    """A staged file of which half is written when the disk is full."""
    with staged as out:
        write = out.write

        class Filling:
            name, fileno, flush = out.name, out.fileno, out.flush

            def write(self, data: bytes) -> int:
                if not weather.full:
                    return int(write(data))
                write(data[: len(data) // 2])
                raise no_room()

        yield Filling()


def no_room() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, "No space left on device")
