"""What an order of a person says to dispatch.

    pause, resume           no new work, and work again; resume takes back a cancel too
    cancel                  every film ends as it is
    skip     rows           these films end as they are, also before they have begun
    priority rows, value    more urgent films go first
    budget   gpu_s, soft    the GPU-seconds that the job may take, in all its runs; or, if soft, after which
                            no film is begun
    retry    rows, where    films that failed are made once more
    pick     rows, shot,    a film is made with another take of a shot, drawn before or not (picks)
             take

Decides: which orders there are, and the events they become. Does not decide: what follows (dispatch), nor how
an order reaches the driver (manifests.control).
"""

import math
from collections.abc import Mapping
from typing import Any

from cluster.events import Budgeted, Ended, Held, Order, Ranked, Resumed
from cluster.outcomes import Failure
from cluster.picks import MOST as MOST_TAKES

PERSON = "a person"
CANCELLED, SKIPPED = "E930_CANCELLED", "E931_SKIPPED"
WHERE = ("code", "error_class")  # what of a failure an order may select by
MOST = 100  # the highest priority, and the lowest below 0
KINDS = ("pause", "resume", "cancel", "skip", "priority", "budget", "retry", "pick")


def checked(order: Mapping[str, Any]) -> dict[str, Any]:
    """The order, if it is one. Raises ValueError that says what is wrong with it."""
    kind, rows, where = order.get("order"), order.get("rows", []), order.get("where", {})
    if kind not in KINDS:
        raise ValueError(f"order {kind!r} is none of {', '.join(KINDS)}")
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise ValueError(f"rows {rows!r} of the order {kind} must be a list of row ids")
    if not isinstance(where, dict) or not where.keys() <= set(WHERE):
        raise ValueError(f"where {where!r} of the order {kind} must name {' or '.join(WHERE)}")
    if kind in ("skip", "priority") and not rows:
        raise ValueError(f"the order {kind} names no rows")
    value = order.get("value")
    if kind == "priority" and not (isinstance(value, int) and abs(value) <= MOST):
        raise ValueError(f"value {value!r} of the order priority must be a number from -{MOST} to {MOST}")
    seconds = order.get("gpu_s")
    if kind == "budget" and not (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf):
        raise ValueError(
            f"gpu_s {seconds!r} of the order budget must be 0 GPU-seconds or more; 0 is no limit"
        )
    if kind == "budget" and not isinstance(order.get("soft", False), bool):
        raise ValueError(f"soft {order['soft']!r} of the order budget must be true or false")
    if kind == "pick":
        _check_pick(order, rows)
    return dict(order)


def _check_pick(order: Mapping[str, Any], rows: list[str]) -> None:
    shot, take = order.get("shot"), order.get("take")
    if len(rows) != 1 or not isinstance(shot, str) or not shot:
        raise ValueError("the order pick names one row and one shot of it")
    if isinstance(take, bool) or not isinstance(take, int) or not 0 <= take <= MOST_TAKES:
        raise ValueError(f"take {take!r} of the order pick must be a number from 0 to {MOST_TAKES}")


def event_of(order: Mapping[str, Any]) -> Order | None:
    """The event of a checked order; None for retry and pick, which only the loop can answer."""
    rows = frozenset(order.get("rows", []))
    by = f"by order {order.get('number', 0)}" + (f" of {order['by']}" if order.get("by") else "")
    again = "longtake resume takes it back; then the same command goes on"
    match order["order"]:
        case "pause":
            return Held(PERSON)
        case "resume":
            return Resumed(PERSON)
        case "cancel":
            return Ended(None, Failure(CANCELLED, f"the job was cancelled {by}", again, "USER"))
        case "skip":
            redo = "longtake retry --row ROW has it made after all"
            return Ended(rows, Failure(SKIPPED, f"the film was skipped {by}", redo, "SKIPPED"))
        case "priority":
            return Ranked(rows, order["value"])
        case "budget":
            return Budgeted(order["gpu_s"] or math.inf, order.get("soft", False))
    return None


def selects(order: Mapping[str, Any], row_id: str, failure: Failure) -> bool:
    """Whether a retry is of this film; without rows and conditions it is of all that failed."""
    rows, where = order.get("rows", []), order.get("where", {})
    return (not rows or row_id in rows) and all(getattr(failure, name) == v for name, v in where.items())
