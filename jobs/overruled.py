"""Of a budget that was ordered and one that is set, the later holds: which orders a new setting overrules.

A driver reads all orders of the job's life anew. One of a budget would bring back what it said for ever,
also over a setting that was raised since. So each driver records its settings, and how many orders there were
when it first saw them.

    jobs/ID/limits/EPOCH.json    {"hard": {"gpu_s": 3600.0, "orders": 2}, "soft": {"gpu_s": null, …}, …}

With them lies the price by which people give a budget in money.

Decides: which orders do not count any more. Does not decide: what an order does (cluster.dispatch).
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.budget import hard_gpu_s, soft_gpu_s

if TYPE_CHECKING:
    from jobs.spec import ClusterSpec
    from manifests.store import Store

Counts = Callable[[Mapping[str, Any]], bool]  # whether an order is still of account


def counts_after(store: "Store", job_id: str, epoch: int, cluster: "ClusterSpec") -> Counts:
    """Record this driver's budgets, and give a test of orders: of a budget, those since it was set so.

    Raises OSError, StoreError.
    """
    last = _last(store, job_id)
    n_orders = len(store.list_keys(f"jobs/{job_id}/control"))
    asked = {"hard": hard_gpu_s(cluster), "soft": soft_gpu_s(cluster)}
    limits = {kind: _limit(gpu_s, last.get(kind), n_orders) for kind, gpu_s in asked.items()}
    record = {**limits, "price_per_gpu_hour": cluster.price_per_gpu_hour}
    store.put_marker(f"jobs/{job_id}/limits/{epoch:06}.json", record)

    def counts(order: Mapping[str, Any]) -> bool:
        kind, number = "soft" if order.get("soft") else "hard", int(order.get("number", 0))
        return order["order"] != "budget" or number > int(limits[kind]["orders"])

    return counts


def price_now(store: "Store", job_id: str) -> float:
    """What an hour of a GPU costs by the settings of the job's latest driver; 0 where that is not known."""
    return float(_last(store, job_id).get("price_per_gpu_hour", 0.0))


def _last(store: "Store", job_id: str) -> dict[str, Any]:
    """The limits of the latest driver that recorded any."""
    before = store.list_keys(f"jobs/{job_id}/limits")
    return (store.read_marker(before[-1]) if before else None) or {}


def _limit(gpu_s: float, last: Mapping[str, Any] | None, n_orders: int) -> dict[str, Any]:
    """A budget, None for none, with the number of orders that came before it was set so."""
    told = gpu_s if gpu_s < math.inf else None
    if last is None:  # the job's first driver: people may have ordered while it came up
        return {"gpu_s": told, "orders": 0}
    return {"gpu_s": told, "orders": last["orders"] if last["gpu_s"] == told else n_orders}
