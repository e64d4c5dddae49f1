"""The `doctor` verb: what a night needs, tried here and now, a line each.

Decides: how it is told, and the exit code, which is that of the first trouble, as a run would have met it.
Does not decide: what is tried (jobs.checkup).
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from jobs.checkup import Try, tries
from jobs.columns import aligned
from jobs.outcome import DONE, TOOL
from jobs.refusal import code_of
from jobs.show import one_line


@dataclass(frozen=True)
class Told:
    """What a try came to: `code` is 0 if all is well, else the exit code that a run would have had."""

    name: str
    code: int
    error: str  # a stable code such as E804_STORE_LIES, "" where there is none
    said: str
    todo: str


def doctor(arguments: argparse.Namespace) -> int:
    """Print what was tried; exit 0 if all is well."""
    found = [_told(each) for each in tries(arguments)]
    if arguments.output == "json":
        print(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(found)))
    return next((each.code for each in found if each.code), DONE)


def _told(each: Try) -> Told:
    """Try it. Whatever is raised is an answer."""
    try:
        return Told(each.name, DONE, "", each.do(), "")
    except Exception as error:
        known = code_of(error)
        name = getattr(error, "code", "")
        said = getattr(error, "what", "") or str(error) or type(error).__name__
        where = f" ({error.where})" if hasattr(error, "where") else ""
        todo = getattr(error, "todo", each.todo)
        code = each.code if known == TOOL else known
        return Told(each.name, code, name if isinstance(name, str) else "", f"{said}{where}", todo)


def _lines(found: list[Told]) -> Iterator[str]:
    rows = [("WRONG" if each.code else "ok", each.name, _said(each)) for each in found]
    yield from aligned(rows, n_left=3)
    wrong = sum(1 for each in found if each.code)
    yield f"{wrong} of {len(found)} wrong" if wrong else f"all {len(found)} well"


def _said(each: Told) -> str:
    """What was found and, where it is wrong, what to do."""
    parts = [each.error, each.said] if each.error else [each.said]
    text = "  ".join(parts) + (f": {each.todo}" if each.code and each.todo not in each.said else "")
    return one_line(text, 1000)
