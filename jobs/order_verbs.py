"""How the verbs of jobs.control are asked for."""

import argparse
from collections.abc import Callable

AddVerb = Callable[[str, str], argparse.ArgumentParser]  # by name and help
HELP = {
    "pause": "let a running job begin no new work",
    "resume": "let a paused or cancelled job go on",
    "cancel": "end a running job; what is done stays",
    "retry": "have failed films made once more, while the job runs",
    "skip": "leave films out of a running job",
    "priority": "have films made sooner or later than others",
    "budget": "change how much a running job may take",
    "pick": "have a film made with another take of a shot, drawn before or not",
}


def add_orders(add: AddVerb) -> None:
    """A verb for each order."""
    for name, help in HELP.items():
        verb = add(name, help)
        verb.set_defaults(order=name)
        verb.add_argument("job", metavar="JOB", help="its id, as `longtake status` tells it")
        verb.add_argument("--out", required=True, metavar="URL", help="where the job writes its films")
        _add_what(verb, name)
        verb.add_argument(
            "-o", "--output", choices=["text", "json"], default="text", help="for people or for scripts"
        )


def _add_what(verb: argparse.ArgumentParser, name: str) -> None:
    """Which films the order is of, and its number."""
    if name in ("retry", "skip", "priority"):
        whole = name == "retry"
        verb.add_argument("--row", action="append", metavar="ID", required=not whole, help="a film's")
    if name == "pick":
        verb.add_argument("--row", action="append", metavar="ID", required=True, help="the film's")
        verb.add_argument("--shot", metavar="ID", required=True, help="its shot's")
        told = "0 is the one of the manifest's seed, any other has a seed of its own"
        verb.add_argument("--take", type=int, metavar="K", required=True, help=told)
    if name == "retry":
        told = "only films whose failure has this code or error_class"
        verb.add_argument("--where", action="append", metavar="NAME=VALUE", help=told)
    if name == "priority":
        verb.add_argument("value", type=int, metavar="N", help="-100 to 100; 0 is usual, more goes first")
    if name == "budget":
        told = "GPU-seconds of the job, in all its runs; 0 is no limit"
        verb.add_argument("gpu_s", type=float, nargs="?", metavar="S", help=told)
        verb.add_argument("--gpu-hours", type=float, metavar="H", help="the same in GPU-hours")
        verb.add_argument("--money", type=float, metavar="M", help="or in money, where an hour has a price")
        verb.add_argument("--soft", action="store_true", help="begin no film after it, but finish the others")
