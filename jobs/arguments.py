"""What arguments of several verbs have in common: their types, and the groups in which they come.

A verb lives in a module of its group, which is loaded when the verb is called: no help text waits for torch.
Decides: what an argument may be. Does not decide: which verb takes it (verbs), or what becomes of it.
"""

import argparse
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_job(parser: argparse.ArgumentParser) -> None:
    """What says what to render, and how."""
    parser.add_argument(
        "manifest", metavar="MANIFEST", help="path or URL of a .parquet, .yaml, .jsonl or .csv"
    )
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """How, but not what."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings, stronger than FILE's"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Where to, and under which name."""
    parser.add_argument(
        "--out", required=True, metavar="URL", help="folder or s3://, gs://, az:// URL for the films"
    )
    parser.add_argument("--job-id", type=_job_id, metavar="ID", help="else made of what is asked")


def add_output(parser: argparse.ArgumentParser) -> None:
    """For whom the answer is."""
    parser.add_argument(
        "-o", "--output", choices=["text", "json"], default="text", help="for people or for scripts"
    )


def add_verb(verbs: Verbs, name: str, place: str, help: str) -> argparse.ArgumentParser:
    """A verb's parser; `place` is the module:function that is loaded when the verb is called."""
    parser = verbs.add_parser(name, help=help, description=help, allow_abbrev=False)
    parser.set_defaults(verb=_later(*place.split(":")))
    return parser


def _later(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def call(arguments: argparse.Namespace) -> int:
        code: int = getattr(import_module(module), function)(arguments)
        return code

    return call


def _job_id(text: str) -> str:
    if not JOB_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no job id: use 1 to 100 of A-Z a-z 0-9 . _ - and no dot first"
        )
    return text


def place(text: str) -> str:
    """A folder or a URL."""
    if not text:
        raise argparse.ArgumentTypeError("it names no place; . is the folder you are in")
    return text


def seconds(text: str) -> float:
    """A time, 0 or more."""
    value = float(text)
    if not value >= 0:
        raise ValueError(text)
    return value


def frame(text: str) -> int:
    """A frame's number, or a number of frames; 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def frames(text: str) -> tuple[int, ...]:
    """Frame numbers, as in 37,74, in the order in which they are given."""
    return tuple(frame(part) for part in text.split(","))
