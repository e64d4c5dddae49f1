"""The command line: reads arguments, calls a verb, turns any error into one message and an exit code.

A verb lives in a module of its group, which is loaded when the verb is called: no help text waits for torch.
"""

import argparse
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from cluster.logs import log_as_text
from jobs.order_verbs import add_orders
from jobs.outcome import INTERRUPTED
from jobs.refusal import report

CODES = (
    "exit codes: 0 all done, 1 an error in longtake, 2 usage, 3 manifest invalid, 4 some films failed, "
    "5 job failed, 6 cancelled, 7 wait timed out, 8 stopped by budget or deadline, "
    "9 cluster or store unreachable, 130 interrupted"
)
READER_GONE = 128 + 13  # as a shell says that SIGPIPE ended a command
JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


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
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_manifest(verbs)
    _add_previews(verbs)
    _add_run(verbs)
    _add_submit(verbs)
    _add_models(verbs)
    _add_status(verbs)
    add_orders(lambda name, help: _verb(verbs, name, "jobs.control:order", help))
    _add_verify(verbs)
    _add_repairs(verbs)
    _add_quality(verbs)
    _add_doctor(verbs)
    return parser


def _add_manifest(verbs: Verbs) -> None:
    init = _verb(verbs, "init", "jobs.starter:init", "write a small manifest to start from")
    init.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="where to; this folder if left out"
    )
    group = verbs.add_parser("manifest", help="new, schema or convert").add_subparsers(
        required=True, metavar="VERB"
    )
    new = _verb(group, "new", "jobs.starter:new", "write the same small manifest to a path")
    new.add_argument("path", type=Path)
    schema = _verb(group, "schema", "jobs.starter:schema", "every column with its unit and meaning")
    _add_output(schema)
    convert = _verb(
        group, "convert", "jobs.starter:convert", "write a manifest in another form, by the names' endings"
    )
    convert.add_argument("source", help=".parquet, .yaml, .jsonl or .csv")
    convert.add_argument("target", type=Path, help="likewise")


def _add_previews(verbs: Verbs) -> None:
    check = _verb(verbs, "validate", "jobs.preview:validate", "check every row; exit 3 if any is faulty")
    plan = _verb(verbs, "plan", "jobs.preview:plan", "what would be rendered, and what is there already")
    plan.add_argument(
        "--out", type=_place, metavar="URL", help="folder or s3:// URL of the films: what it holds is reused"
    )
    plan.add_argument("--explain", action="store_true", help="which gangs pay, what they take, and why")
    plan.add_argument(
        "--farm",
        type=Path,
        metavar="FILE",
        help="the farm, for --explain; three examples if left out",
    )
    plan.add_argument(
        "--latency", action="store_true", help="for --explain: how soon one film is there, not films an hour"
    )
    plan.add_argument(
        "--model", metavar="NAME", help="plan for this published checkpoint; `longtake models` lists them"
    )
    for parser in (check, plan):
        _add_job(parser)
        _add_output(parser)


def _add_run(verbs: Verbs) -> None:
    run = _verb(verbs, "run", "jobs.drive:drive", "render; the same command again goes on where it stopped")
    _add_job(run)
    _add_target(run)
    run.add_argument("--local", action="store_true", help="in this process, without Ray")
    run.add_argument("--address", help="a Ray cluster; else RAY_ADDRESS, else Ray is started here")


def _add_submit(verbs: Verbs) -> None:
    submit = _verb(verbs, "submit", "jobs.submit:submit", "hand the job to a Ray cluster and print its id")
    _add_job(submit)
    _add_target(submit)
    submit.add_argument(
        "--address", help="of the cluster's dashboard, http://HOST:8265; else RAY_API_SERVER_ADDRESS"
    )
    submit.add_argument(
        "--working-dir", type=Path, default=Path(), metavar="FOLDER", help="uploaded; . if left out"
    )
    submit.add_argument("--python", default="python", help="the interpreter on the cluster's head")
    submit.add_argument("--wait", action="store_true", help="show its log, and exit with its exit code")


def _add_models(verbs: Verbs) -> None:
    models = _verb(
        verbs,
        "models",
        "jobs.models:models",
        "the published checkpoints that can be rendered, or a folder's",
    )
    models.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="of a model, to look at: a path, a URL or a hub id"
    )
    _add_output(models)


def _add_status(verbs: Verbs) -> None:
    status = _verb(verbs, "status", "jobs.status:status", "how a job stands")
    status.add_argument("job", nargs="?", metavar="JOB", help="may be left out")
    wait = _verb(verbs, "wait", "jobs.status:wait", "wait for a job's end, and exit with its exit code")
    wait.add_argument("job", metavar="JOB")
    wait.add_argument(
        "--timeout", type=_seconds, metavar="S", help="give up after so many seconds, and exit 7"
    )
    trace = _verb(verbs, "trace", "jobs.trace:trace", "write a job's night as a Chrome trace to stdout")
    trace.add_argument("job", metavar="JOB")
    trace.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    for parser in (status, wait):
        parser.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
        _add_output(parser)


def _add_verify(verbs: Verbs) -> None:
    verify = _verb(
        verbs,
        "verify",
        "jobs.verify:verify",
        "check films' Content Credentials, or jobs; exit 4 unless all is well",
    )
    verify.add_argument("films", nargs="+", metavar="FILM", help="or JOB, with --out")
    verify.add_argument("--out", metavar="URL", help="check jobs instead: all that must be true of them")
    trust = verify.add_mutually_exclusive_group()
    trust.add_argument("--root", type=Path, metavar="PEM", help="the root certificate to trust")
    trust.add_argument(
        "--identity", type=Path, metavar="FOLDER", help="the folder of the identity that signed"
    )
    _add_output(verify)


def _add_repairs(verbs: Verbs) -> None:
    again = _verb(
        verbs, "reproduce", "jobs.reproduce:reproduce", "try the step again at which a shot was given up"
    )
    again.add_argument("job", metavar="JOB")
    again.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    again.add_argument("--row", required=True, metavar="ID", help="the film's")
    again.add_argument("--shot", required=True, metavar="ID", help="its shot's")
    again.add_argument("--step", type=_frame, metavar="S", help="else the one at which it was given up")
    again.add_argument("--window", type=_frame, metavar="W", help="of the step; else that one, or all")
    again.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    _add_output(again)
    takes = _verb(verbs, "takes", "jobs.takes:takes", "which takes of a film's shots were drawn and picked")
    takes.add_argument("job", metavar="JOB")
    takes.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    takes.add_argument("--row", required=True, metavar="ID", help="the film's")
    _add_output(takes)
    clean = _verb(verbs, "clean", "jobs.clean:clean", "take away what nobody needs any more in a job's store")
    clean.add_argument("job", metavar="JOB")
    clean.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be taken away")
    clean.add_argument(
        "--older-than", type=_seconds, default=168.0, metavar="H", help="hours; a week if left out"
    )
    _add_output(clean)


def _add_quality(verbs: Verbs) -> None:
    quality = _verb(
        verbs, "quality", "jobs.quality:quality", "measure a film's seams, drift, flicker and smoothness"
    )
    quality.add_argument("film", type=Path, metavar="FILM", help="any video file")
    quality.add_argument("--manifest", metavar="MANIFEST", help="what rendered it: tells cuts and windows")
    quality.add_argument("--row", metavar="ID", help="its row; else taken from the film's name")
    _add_settings(quality)
    where = quality.add_mutually_exclusive_group()
    where.add_argument("--seams", type=_frames, metavar="N,N", help="frames at which a next window begins")
    where.add_argument("--stride", type=_frame, metavar="N", help="a next window begins every N frames")
    quality.add_argument(
        "--overlap", type=_frame, metavar="N", help="frames that two windows share; 0 if left out"
    )
    quality.add_argument(
        "--compression", type=_frame, metavar="N", help="pixel frames of a latent frame; 1 if left out"
    )
    quality.add_argument("--cuts", type=_frames, metavar="N,N", help="frames at which a next shot begins")
    quality.add_argument(
        "--skip", type=_seconds, default=0.0, metavar="S", help="leave out the first seconds, as of a title"
    )
    quality.add_argument("--plot", type=Path, metavar="PNG", help="the picture; beside FILM if left out")
    _add_output(quality)


def _add_doctor(verbs: Verbs) -> None:
    doctor = _verb(
        verbs, "doctor", "jobs.doctor:doctor", "try what a night needs; exit as a run would that lacks it"
    )
    doctor.add_argument("--out", type=_place, metavar="URL", help="folder or s3:// URL of the films to be")
    doctor.add_argument("--address", help="a Ray cluster, to ask every node; else RAY_ADDRESS, else none")
    _add_settings(doctor)
    _add_output(doctor)


def _add_job(parser: argparse.ArgumentParser) -> None:
    """What says what to render, and how."""
    parser.add_argument(
        "manifest", metavar="MANIFEST", help="path or URL of a .parquet, .yaml, .jsonl or .csv"
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings, stronger than FILE's"
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="URL", help="folder or s3:// URL for the films")
    parser.add_argument("--job-id", type=_job_id, metavar="ID", help="else made of what is asked")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=["text", "json"], default="text", help="for people or for scripts"
    )


def _verb(verbs: Verbs, name: str, place: str, help: str) -> argparse.ArgumentParser:
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


def _place(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it names no place; . is the folder you are in")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError(text)
    return value


def _frame(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _frames(text: str) -> tuple[int, ...]:
    """Frame numbers, as in 37,74, in the order in which they are given."""
    return tuple(_frame(part) for part in text.split(","))
