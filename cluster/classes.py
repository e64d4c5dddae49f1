"""Classes of errors, and what each means for the task that it struck: try again, when, or give up.

An error is charged to its task where the task may be its cause, and is not where a store, a node or a GPU is.
A class has a limit of its own in either case; of workers that are lost uncharged it is for one piece of a
task, such as a window's step, since nodes may be lost at different ones as often as they are anywhere.

Decides: how often and after which wait an error of a class is tried again. Does not decide: which class an
error is of (crew), or who tries again (dispatch).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

ALWAYS = 1 << 30


@dataclass(frozen=True)
class ErrorClass:
    """At its `limit`-th error of a class a task fails; before, it waits `wait_s`, doubled up to `longest_s`.

    `blames_host`: the machine may be at fault, so another is tried, and this one is watched. `shared`: what
    struck is shared by all tasks, so all wait. `ends_job`: without it no task can be done, so at the limit
    the job ends.
    """

    name: str
    limit: int
    charged: bool
    wait_s: float = 0.0
    longest_s: float = 0.0
    blames_host: bool = False
    shared: bool = False
    ends_job: bool = False


CLASSES = {
    each.name: each
    for each in (
        ErrorClass("USER", 1, True),  # what a person gave cannot be used
        ErrorClass("DATA", 1, True),  # what is stored or given is not what it should be
        ErrorClass("TRANSIENT", 8, False, 1.0, 60.0),  # a store answers slowly, wrongly or not at all
        ErrorClass("SHARED", 20, False, 10.0, 900.0, shared=True),  # a store that asks to be asked less often
        ErrorClass("STORE_FULL", 4, False, 30.0, 120.0, shared=True, ends_job=True),
        ErrorClass("GPU_OOM", 4, True),  # every new try is on the next rung of the ladder
        ErrorClass("HOST_OOM", 3, True, 5.0, 60.0, blames_host=True),
        ErrorClass("DISK_FULL", 3, True, 5.0, 60.0, blames_host=True),  # a node's own disk
        ErrorClass("GPU_FAULT", 5, False, blames_host=True),
        ErrorClass("NODE_LOST", 10, False),
        ErrorClass("PREEMPTED", ALWAYS, False),
        ErrorClass("TIMEOUT", 2, True, blames_host=True),
        ErrorClass("QUALITY", 2, True),  # what came out is no picture: again, as a GPU may have erred
        ErrorClass("POISON", 1, True),
        ErrorClass("BUG", 2, True, blames_host=True),  # anything that nobody foresaw
    )
}

# Of films that end without an error of their own, which is no sign that something is broken: one that they
# depend on is not done, a person left them out, or there was no time or money for them.
EXCUSED = frozenset({"UPSTREAM", "SKIPPED", "DROPPED"})


def gives_up(strikes: Mapping[str, int], name: str, max_tries: int) -> bool:
    """Whether a task fails that was struck so often by each class, now by `name`.

    It does at the class's own limit, or at `max_tries` charged errors of any class.
    """
    charged = sum(n for each, n in strikes.items() if CLASSES[each].charged)
    return strikes[name] >= CLASSES[name].limit or (CLASSES[name].charged and charged >= max_tries)


def wait_s(name: str, n: int, key: str) -> float:
    """Seconds until the try after the n-th error, n from 1: half to all of a wait that doubles.

    The other half is spread by the task's key, so that many tasks struck at once do not come back at once
    and the same night waits the same times.
    """
    each = CLASSES[name]
    full = min(each.wait_s * (1 << min(n - 1, 30)), each.longest_s)
    draw = hashlib.blake2b(f"{key} {name} {n}".encode(), digest_size=4).digest()
    return full * (1 + int.from_bytes(draw) / 2**32) / 2
