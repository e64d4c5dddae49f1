"""What an error means to the person who gave the command: one message, one exit code.

Decides the code by the error's class. Does not decide what is printed where: `jobs.cli` and `jobs.ending` do.
"""

import errno
import os
import sys
import traceback

from cluster.logs import LOG
from jobs.outcome import FAILED, INVALID, TOOL, UNREACHABLE, USAGE

# By name, because most commands never load these modules; an error of a module that is not loaded cannot be.
CODES = (
    ("manifests.schema", "ManifestError", INVALID),
    ("manifests.places", "StoreError", UNREACHABLE),
    ("cluster.connect", "Unreachable", UNREACHABLE),
    ("cluster.topology", "TooSmall", FAILED),
    ("cluster.choose", "NoFit", FAILED),
    ("cluster.hiring", "CrewError", FAILED),
)

DISK_GONE = {errno.EIO, errno.EREMOTEIO, errno.ESTALE}  # of a disk that is broken, or no longer mounted


class Refused(Exception):
    """The command cannot be carried out. The message is for the person, the code for the shell."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


class SpecError(Exception):
    """A configuration that cannot be used; the message says which key, and why."""


def code_of(error: Exception) -> int:
    """The exit code that an error stands for; 1 if it is none that we foresaw."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, SpecError):
        return USAGE
    if isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, BrokenPipeError):
        return UNREACHABLE  # a store or a cluster, after all patience; a pipe is neither
    if isinstance(error, OSError) and error.errno in DISK_GONE:
        return UNREACHABLE
    for module, name, code in CODES:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(error, known):
            return code
    return TOOL


def report(error: Exception) -> int:
    """Log one message, after the traceback if LONGTAKE_TRACEBACK=1; returns the exit code."""
    if os.environ.get("LONGTAKE_TRACEBACK") == "1":
        traceback.print_exception(error)
    code, message = code_of(error), str(error).strip()
    if isinstance(name := getattr(error, "code", None), str):
        message = f"{name}  {message}"
    if code == TOOL:
        brief = " ".join(message.split())[:500]
        message = f"{type(error).__name__}: {brief} (LONGTAKE_TRACEBACK=1 shows where)"
    LOG.error(message)
    return code
