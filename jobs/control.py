"""Verbs that order a job about while it runs: from anywhere, through its folder in the store alone.

Decides: how an order is asked for and confirmed. Does not decide: what it does (cluster.orders).
"""

import argparse
import getpass
import json
import platform
import time
from datetime import UTC, datetime
from typing import Any

from cluster.orders import WHERE, checked
from jobs.budget import ordered_gpu_s
from jobs.outcome import DONE
from jobs.overruled import price_now
from jobs.places import opened, reading
from jobs.refusal import Refused
from jobs.status import known_job, latest
from manifests.control import give_order

TOLD = {
    "pause": "begins no new work; what is under way goes on",
    "resume": "goes on",
    "cancel": "ends; films that are done stay",
    "skip": "ends {rows} as they are",
    "priority": "makes {rows} at priority {value}",
    "budget": "may take {gpu_s:,.0f} GPU-seconds",
    "soft": "begins no film after {gpu_s:,.0f} GPU-seconds",
    "retry": "makes {rows} once more",
    "pick": "makes {rows} with take {take} of shot {shot}",
}


def order(arguments: argparse.Namespace) -> int:
    """Give an order to a job, and say what it will do. Raises Refused for one that is none."""
    store = opened(arguments.out)
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        try:
            asked = checked(_asked(arguments, price_now(store, arguments.job)))
        except ValueError as error:
            raise Refused(str(error)) from error
        number = give_order(store, arguments.job, asked)
        _, result = latest(store, arguments.job)
    if arguments.output == "json":
        print(json.dumps(asked | {"number": number, "job_id": arguments.job}, ensure_ascii=False))
    else:
        print(_confirmed(arguments.job, number, asked, ended=result is not None))
    return DONE


def _asked(arguments: argparse.Namespace, price: float) -> dict[str, Any]:
    """The order as it is put. Raises ValueError, Refused."""
    at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    asked: dict[str, Any] = {"order": arguments.order, "by": _who(), "at": at}
    names = {"rows": "row", "value": "value", "shot": "shot", "take": "take"}
    asked |= {name: given for name, a in names.items() if (given := getattr(arguments, a, None)) is not None}
    if arguments.order == "budget":
        gpu_s = ordered_gpu_s(arguments.gpu_s, arguments.gpu_hours, arguments.money, price)
        asked |= {"gpu_s": gpu_s} | ({"soft": True} if arguments.soft else {})
    if getattr(arguments, "where", None):
        asked["where"] = dict(_condition(text) for text in arguments.where)
    return asked


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (KeyError, OSError):  # a container's user without a name
        return platform.node()


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in WHERE:
        raise Refused(
            f"--where {text!r} is no condition: use {' or '.join(f'{name}=VALUE' for name in WHERE)}"
        )
    return name, value


def _confirmed(job: str, number: int, asked: dict[str, Any], ended: bool) -> str:
    rows = asked.get("rows") or []
    which = ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    conditions = " and ".join(f"{name}={value}" for name, value in asked.get("where", {}).items())
    which = which or (f"what failed with {conditions}" if conditions else "what failed")
    kind = "soft" if asked.get("soft") else asked["order"]
    told = TOLD[kind].format(**({"value": 0, "gpu_s": 0.0, "shot": "", "take": 0} | asked | {"rows": which}))
    then = "; it has ended, so give its run command again" if ended else " within seconds"
    return f"order {number}: {job} {told}{then}"
