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
from jobs.bill import HOUR_S
from jobs.outcome import DONE
from jobs.places import opened, reading
from jobs.refusal import Refused
from jobs.status import known_job, latest
from manifests.control import give_order
from manifests.store import Store

TOLD = {
    "pause": "begins no new work; what is under way goes on",
    "resume": "goes on",
    "cancel": "ends; films that are done stay",
    "skip": "ends {rows} as they are",
    "priority": "makes {rows} at priority {value}",
    "budget": "may take {gpu_s:,.0f} GPU-seconds",
    "retry": "makes {rows} once more",
}


def order(arguments: argparse.Namespace) -> int:
    """Give an order to a job, and say what it will do. Raises Refused for one that is none."""
    store, asked = opened(arguments.out), _asked(arguments)
    try:
        checked(asked)
    except ValueError as error:
        raise Refused(str(error)) from error
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        if getattr(arguments, "money", False):
            asked["gpu_s"] = _bought(store, arguments.job, asked["gpu_s"])
        number = give_order(store, arguments.job, asked)
        _, result = latest(store, arguments.job)
    if arguments.output == "json":
        print(json.dumps(asked | {"number": number, "job_id": arguments.job}, ensure_ascii=False))
    else:
        print(_confirmed(arguments.job, number, asked, ended=result is not None))
    return DONE


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    asked: dict[str, Any] = {"order": arguments.order, "by": _who(), "at": at}
    names = {"rows": "row", "value": "value", "gpu_s": "gpu_s"}
    asked |= {name: given for name, a in names.items() if (given := getattr(arguments, a, None)) is not None}
    if getattr(arguments, "where", None):
        asked["where"] = dict(_condition(text) for text in arguments.where)
    return asked


def _bought(store: Store, job: str, amount: float) -> float:
    """The GPU-seconds that an amount of money buys, at the price that the job was told."""
    record = store.read_marker(f"jobs/{job}/job.json") or {}
    price = record.get("spec", {}).get("cluster", {}).get("price_per_gpu_hour")
    if not price:
        raise Refused(f"{job} was told no cluster.price_per_gpu_hour: give GPU-seconds, without --money")
    return float(amount / price * HOUR_S)


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
    told = TOLD[asked["order"]].format(**({"value": 0, "gpu_s": 0.0} | asked | {"rows": which}))
    then = "; it has ended, so give its run command again" if ended else " within seconds"
    return f"order {number}: {job} {told}{then}"
