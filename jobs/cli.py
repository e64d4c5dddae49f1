"""The command line: reads arguments, calls a verb, turns any error into one message and an exit code.

Decides: where settings may stand among the words, and what an exit code says. Does not decide: which verbs
there are (verbs), or which code an error has (refusal).
"""

import argparse
import os
import select
import sys
from collections.abc import Sequence

from cluster.logs import log_as_text
from jobs.outcome import INTERRUPTED
from jobs.refusal import report
from jobs.verbs import add_verbs

CODES = (
    "exit codes: 0 all done, 1 an error in longtake, 2 usage, 3 manifest invalid, 4 some films failed, "
    "5 job failed, 6 cancelled, 7 wait timed out or the job verified has not ended, 8 stopped by its budget, "
    "9 cluster or store unreachable, 130 interrupted"
)
READER_GONE = 128 + 13  # as a shell says that SIGPIPE ended a command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. Whatever goes wrong is a message, never a traceback."""
    log_as_text(work=os.environ.get("LONGTAKE_TRACEBACK") == "1")
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        code: int = arguments.verb(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("longtake: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return READER_GONE if isinstance(error, BrokenPipeError) and _reader_gone() else report(error)


def _reader_gone() -> bool:
    """Whether it was stdout that broke, as under `head`, and no socket; Python then says no more of it."""
    watch = select.poll()
    try:
        watch.register(number := sys.stdout.fileno(), 0)  # tells of errors and hang-ups only
    except (AttributeError, OSError):  # no stdout, or one in memory
        return False
    gone = bool(watch.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return gone


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; `key.sub=value` may stand anywhere, which argparse allows in one place only.

    Raises SystemExit, 2 for words that make no command.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    takes = hasattr(arguments, "overrides")
    strays = [text for text in rest if not takes or text.startswith("-") or "=" not in text]
    if takes:
        arguments.overrides = [*arguments.overrides, *rest]
        strays += [text for text in arguments.overrides if "=" not in text and text not in strays]
    if strays:
        parser.error(f"unrecognized arguments: {' '.join(strays)}")
    arguments.command = ["longtake", *argv]
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longtake", description="Render AI films from a manifest.", epilog=CODES
    )
    add_verbs(parser.add_subparsers(required=True, metavar="VERB"))
    return parser
