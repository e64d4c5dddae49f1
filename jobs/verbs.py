"""Which verbs there are, each with its arguments and its line of help.

Decides: what may be said after `longtake`. Does not decide: what an argument may be (arguments), what a verb
does (the module that it names), or the verbs that are orders to a job that runs (order_verbs).
"""

from pathlib import Path

from jobs.arguments import (
    Verbs,
    add_job,
    add_output,
    add_settings,
    add_target,
    add_verb,
    frame,
    frames,
    place,
    seconds,
)
from jobs.order_verbs import add_orders


def add_verbs(verbs: Verbs) -> None:
    """Every verb, in the order in which help lists them."""
    _add_manifest(verbs)
    _add_previews(verbs)
    _add_run(verbs)
    _add_submit(verbs)
    _add_models(verbs)
    _add_status(verbs)
    add_orders(lambda name, help: add_verb(verbs, name, "jobs.control:order", help))
    _add_verify(verbs)
    _add_repairs(verbs)
    _add_quality(verbs)
    _add_doctor(verbs)


def _add_manifest(verbs: Verbs) -> None:
    init = add_verb(verbs, "init", "jobs.starter:init", "write a small manifest to start from")
    init.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="where to; this folder if left out"
    )
    group = verbs.add_parser("manifest", help="new, schema or convert").add_subparsers(
        required=True, metavar="VERB"
    )
    new = add_verb(group, "new", "jobs.starter:new", "write the same small manifest to a path")
    new.add_argument("path", type=Path)
    schema = add_verb(group, "schema", "jobs.starter:schema", "every column with its unit and meaning")
    add_output(schema)
    convert = add_verb(
        group, "convert", "jobs.starter:convert", "write a manifest in another form, by the names' endings"
    )
    convert.add_argument("source", help=".parquet, .yaml, .jsonl or .csv")
    convert.add_argument("target", type=Path, help="likewise")


def _add_previews(verbs: Verbs) -> None:
    check = add_verb(verbs, "validate", "jobs.preview:validate", "check every row; exit 3 if any is faulty")
    plan = add_verb(verbs, "plan", "jobs.preview:plan", "what would be rendered, and what is there already")
    plan.add_argument(
        "--out", type=place, metavar="URL", help="folder or URL of the films: what it holds is reused"
    )
    plan.add_argument("--explain", action="store_true", help="which gangs pay, what they take, and why")
    plan.add_argument(
        "--farm",
        type=Path,
        metavar="FILE",
        help="the farm, for --explain; three examples if left out",
    )
    plan.add_argument(
        "--model", metavar="NAME", help="plan for this published checkpoint; `longtake models` lists them"
    )
    for parser in (check, plan):
        add_job(parser)
        add_output(parser)


def _add_run(verbs: Verbs) -> None:
    run = add_verb(
        verbs, "run", "jobs.drive:drive", "render; the same command again goes on where it stopped"
    )
    add_job(run)
    add_target(run)
    run.add_argument("--local", action="store_true", help="in this process, without Ray")
    run.add_argument("--address", help="a Ray cluster; else RAY_ADDRESS, else Ray is started here")


def _add_submit(verbs: Verbs) -> None:
    submit = add_verb(verbs, "submit", "jobs.submit:submit", "hand the job to a Ray cluster and print its id")
    add_job(submit)
    add_target(submit)
    submit.add_argument(
        "--address", help="of the cluster's dashboard, http://HOST:8265; else RAY_API_SERVER_ADDRESS"
    )
    submit.add_argument(
        "--working-dir", type=Path, default=Path(), metavar="FOLDER", help="uploaded; . if left out"
    )
    submit.add_argument("--python", default="python", help="the interpreter on the cluster's head")
    submit.add_argument("--wait", action="store_true", help="show its log, and exit with its exit code")


def _add_models(verbs: Verbs) -> None:
    models = add_verb(
        verbs,
        "models",
        "jobs.models:models",
        "the published checkpoints that can be rendered, or a folder's",
    )
    models.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="of a model, to look at: a path, a URL or a hub id"
    )
    add_output(models)


def _add_status(verbs: Verbs) -> None:
    status = add_verb(verbs, "status", "jobs.status:status", "how a job stands")
    status.add_argument("job", nargs="?", metavar="JOB", help="may be left out")
    wait = add_verb(verbs, "wait", "jobs.status:wait", "wait for a job's end, and exit with its exit code")
    wait.add_argument("job", metavar="JOB")
    wait.add_argument(
        "--timeout", type=seconds, metavar="S", help="give up after so many seconds, and exit 7"
    )
    trace = add_verb(verbs, "trace", "jobs.trace:trace", "write a job's night as a Chrome trace to stdout")
    trace.add_argument("job", metavar="JOB")
    trace.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    for parser in (status, wait):
        parser.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
        add_output(parser)


def _add_verify(verbs: Verbs) -> None:
    verify = add_verb(
        verbs,
        "verify",
        "jobs.verify:verify",
        "check films' Content Credentials, or jobs; exit 4 unless all is well, 7 of a job that has not ended",
    )
    verify.add_argument("films", nargs="+", metavar="FILM", help="or JOB, with --out")
    verify.add_argument("--out", metavar="URL", help="check jobs instead: all that must be true of them")
    trust = verify.add_mutually_exclusive_group()
    trust.add_argument("--root", type=Path, metavar="PEM", help="the root certificate to trust")
    trust.add_argument(
        "--identity", type=Path, metavar="FOLDER", help="the folder of the identity that signed"
    )
    add_output(verify)


def _add_repairs(verbs: Verbs) -> None:
    again = add_verb(
        verbs, "reproduce", "jobs.reproduce:reproduce", "try the step again at which a shot was given up"
    )
    again.add_argument("job", metavar="JOB")
    again.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    again.add_argument("--row", required=True, metavar="ID", help="the film's")
    again.add_argument("--shot", required=True, metavar="ID", help="its shot's")
    again.add_argument("--step", type=frame, metavar="S", help="else the one at which it was given up")
    again.add_argument("--window", type=frame, metavar="W", help="of the step; else that one, or all")
    again.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add_output(again)
    takes = add_verb(
        verbs, "takes", "jobs.takes:takes", "which takes of a film's shots were drawn and picked"
    )
    takes.add_argument("job", metavar="JOB")
    takes.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    takes.add_argument("--row", required=True, metavar="ID", help="the film's")
    add_output(takes)
    clean = add_verb(
        verbs, "clean", "jobs.clean:clean", "take away what nobody needs any more in a job's store"
    )
    clean.add_argument("job", metavar="JOB")
    clean.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be taken away")
    clean.add_argument(
        "--older-than", type=seconds, default=168.0, metavar="H", help="hours; a week if left out"
    )
    add_output(clean)


def _add_quality(verbs: Verbs) -> None:
    quality = add_verb(
        verbs, "quality", "jobs.quality:quality", "measure a film's seams, drift, flicker and smoothness"
    )
    quality.add_argument("film", type=Path, metavar="FILM", help="any video file")
    quality.add_argument("--manifest", metavar="MANIFEST", help="what rendered it: tells cuts and windows")
    quality.add_argument("--row", metavar="ID", help="its row; else taken from the film's name")
    add_settings(quality)
    where = quality.add_mutually_exclusive_group()
    where.add_argument("--seams", type=frames, metavar="N,N", help="frames at which a next window begins")
    where.add_argument("--stride", type=frame, metavar="N", help="a next window begins every N frames")
    quality.add_argument(
        "--overlap", type=frame, metavar="N", help="frames that two windows share; 0 if left out"
    )
    quality.add_argument(
        "--compression", type=frame, metavar="N", help="pixel frames of a latent frame; 1 if left out"
    )
    quality.add_argument("--cuts", type=frames, metavar="N,N", help="frames at which a next shot begins")
    quality.add_argument(
        "--skip", type=seconds, default=0.0, metavar="S", help="leave out the first seconds, as of a title"
    )
    quality.add_argument("--plot", type=Path, metavar="PNG", help="the picture; beside FILM if left out")
    add_output(quality)


def _add_doctor(verbs: Verbs) -> None:
    doctor = add_verb(
        verbs, "doctor", "jobs.doctor:doctor", "try what a night needs; exit as a run would that lacks it"
    )
    doctor.add_argument("--out", type=place, metavar="URL", help="folder or URL of the films to be")
    doctor.add_argument("--address", help="a Ray cluster, to ask every node; else RAY_ADDRESS, else none")
    add_settings(doctor)
    add_output(doctor)
