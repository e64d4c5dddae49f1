"""Run the command line and let this process die, without warning, at a chosen moment.

    python tests/crash.py POINT NTH -- run MANIFEST --out FOLDER --local …
    python tests/crash.py --serve      lines of JSON: a list of [POINT, NTH, [arguments], LOG], and where it
                                       matters the name of the host that it is to be, and a delay in seconds

At the NTH passing of POINT the process sends itself SIGKILL: no handler, no `finally`, no flush. The product
has no hooks for this: one function of it is wrapped here, from outside. With --serve everything is imported
once; what a line lists is carried out at the same time, in processes forked from that one, and their exit
statuses are answered as a JSON list.
"""

import gc
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

Ignite = Callable[[], None]
Patch = Callable[[Ignite], None]
READ_TIMEOUT = "LONGTAKE_TEST_READ_TIMEOUT_S"  # in the environment: of S3 clients, whose own is long
IMPORTED = ("jobs.drive", "jobs.job", "jobs.run", "jobs.show", "cluster.local", "engine.families.cogvideox")


def fuse(nth: int) -> Ignite:
    """A function that ends this process at its `nth` call."""
    left = nth

    def burn() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    return burn


def die() -> None:
    """As if the power had failed."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(place: str, when: Callable[..., bool] = lambda *_: True) -> Patch:
    """Ignite before every call of `place`, a module:attribute, whose arguments `when` accepts."""

    def patch(ignite: Ignite) -> None:
        owner, name, real = _find(place)

        def wrapped(*given: Any, **named: Any) -> Any:
            if when(*given, *named.values()):
                ignite()
            return real(*given, **named)

        setattr(owner, name, wrapped)

    return patch


def after(place: str, when: Callable[..., bool] = lambda *_: True) -> Patch:
    """Ignite after every call of `place`, a module:attribute, whose arguments `when` accepts."""

    def patch(ignite: Ignite) -> None:
        owner, name, real = _find(place)

        def wrapped(*given: Any, **named: Any) -> Any:
            result = real(*given, **named)
            if when(*given, *named.values()):
                ignite()
            return result

        setattr(owner, name, wrapped)

    return patch


def half(place: str) -> Patch:
    """Ignite in the middle of the bytes that a call of `place`, a module:attribute, puts into a store."""

    def patch(ignite: Ignite) -> None:
        owner, name, real = _find(place)
        store = import_module("manifests.store").Store
        staged = store._staged

        def wrapped(*given: Any, **named: Any) -> Any:
            store._staged = lambda self: _leaky(staged(self), ignite)
            try:
                return real(*given, **named)
            finally:
                store._staged = staged

        setattr(owner, name, wrapped)

    return patch


@contextmanager
def _leaky(staged: Any, ignite: Ignite) -> Iterator[Any]:
    """A staged file that ignites once half of what is written to it has reached the disk."""
    with staged as out:
        write = out.write

        class Leaky:
            name, fileno, flush = out.name, out.fileno, out.flush

            def write(self, data: bytes) -> int:
                write(data[: len(data) // 2])
                out.flush()
                ignite()
                return len(data) // 2 + write(data[len(data) // 2 :])

        yield Leaky()


def _find(place: str) -> tuple[Any, str, Any]:
    """Who owns a module:attribute or module:Class.method, its name, and what it is."""
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def _key(part: str) -> Callable[..., bool]:
    """Whether any argument is a key that holds `part`."""
    return lambda *given: any(isinstance(value, str) and part in value for value in given)


def _from_staging(source: Any, _: Any) -> bool:
    """Whether a rename is the one that publishes."""
    return ".staging" in Path(source).parts


POINTS: dict[str, Patch] = {
    "validation": before("jobs.checks:validated"),
    "epoch-claimed": after("jobs.run:claim_epoch"),
    "settled": after("jobs.run:keep_settled"),
    "plan": before("jobs.job:film_tasks"),
    "prediction": before("cluster.rank:Rank.predict"),
    "checkpoint-half": before("manifests.places:Disk.create", _key("checkpoints/")),
    "checkpoint": after("manifests.store:Store.put_new", _key("checkpoints/")),
    "checkpoint-removal": before("manifests.store:Store.remove"),
    "artefact-before": before("manifests.store:Store._put"),
    "artefact-half": half("manifests.store:Store._put"),
    "artefact-after": after("manifests.store:Store._put"),
    "marker-half": before("manifests.places:Disk.create", _key("done/")),
    "marker-after": after("manifests.store:Store.put_marker", _key("done/")),
    "event-recorded": after("manifests.ledger:Ledger.record"),
    "ledger-half": before("manifests.places:Disk.create", _key("/ledger/")),
    "ledger-after": after("manifests.places:Disk.create", _key("/ledger/")),
    "publish": before("manifests.places:os.replace", _from_staging),
    "results-before": before("jobs.run:write_results"),
    "results-half": half("jobs.run:write_results"),
    "results-after": after("jobs.run:write_results"),
    "report-half": half("jobs.run:write_report"),
    "report-after": after("jobs.run:write_report"),
    "ended-before": before("manifests.store:Store.put_marker", _key("/ended/")),
    "ended-after": after("manifests.store:Store.put_marker", _key("/ended/")),
    "never": lambda ignite: None,
}


def crash(point: str, nth: int, arguments: list[str]) -> int:
    """The command line's exit code, if it lives to tell it."""
    main = import_module("jobs.cli").main
    for name in IMPORTED:
        import_module(name)
    POINTS[point](fuse(nth))
    return int(main(arguments))


def serve() -> None:
    """Carry out what each line of stdin lists, all at once, each in a process of its own."""
    for name in ("jobs.cli", *IMPORTED):
        import_module(name)
    if READ_TIMEOUT in os.environ:
        import_module("s3fs").S3FileSystem.read_timeout = float(os.environ[READ_TIMEOUT])
    gc.freeze()  # so that no child searches, and copies, what all share
    for line in sys.stdin:
        children = [_forked(*command) for command in json.loads(line)]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), flush=True)


def _forked(
    point: str, nth: int, arguments: list[str], log: str, host: str = "", delay_s: float = 0.0
) -> int:
    """The process id of a child that carries out one command and writes what it says to `log`."""
    child = os.fork()
    if child:
        return child
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if host:
        platform.node = lambda: host
    time.sleep(delay_s)
    code = 1  # of an error that is none of the command line's
    try:
        code = crash(point, nth, arguments)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    elif len(sys.argv) < 5 or sys.argv[1] not in POINTS or sys.argv[3] != "--":
        sys.exit(f"{__doc__}\nPOINT is one of {', '.join(POINTS)}")
    else:
        sys.exit(crash(sys.argv[1], int(sys.argv[2]), sys.argv[4:]))
