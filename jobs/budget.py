"""What a job may take, as GPU-seconds: budgets are given as those, or as money where an hour has a price.

A hard budget ends the job; after a soft one no film is begun, and those under way are finished. Both are of
all runs of the job together. A gang's call counts when it has ended, however that was: what hangs, when it is
given up, so that a job may take more than its budget by what its gangs are at when that is reached.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.spec import ClusterSpec

HOUR_S = 3600.0


def gpu_s_of(money: float, price_per_gpu_hour: float) -> float:
    """How long a GPU is to be had for so much. Raises ValueError where an hour has no price."""
    if price_per_gpu_hour <= 0:
        raise ValueError("money buys no GPU-seconds without a price: set cluster.price_per_gpu_hour")
    return money / price_per_gpu_hour * HOUR_S


def hard_gpu_s(cluster: "ClusterSpec") -> float:
    """GPU-seconds after which the job ends; infinity for none."""
    return _least(cluster.budget_gpu_s, cluster.budget_money, cluster.price_per_gpu_hour)


def soft_gpu_s(cluster: "ClusterSpec") -> float:
    """GPU-seconds after which no film is begun; infinity for none."""
    return _least(cluster.soft_gpu_s, cluster.soft_money, cluster.price_per_gpu_hour)


def ordered_gpu_s(gpu_s: float | None, gpu_hours: float | None, money: float | None, price: float) -> float:
    """The GPU-seconds that an order names in one of three ways; `price` is of a GPU's hour, 0 for none.

    Raises ValueError for none or several of them, and for money where an hour has no price.
    """
    if sum(each is not None for each in (gpu_s, gpu_hours, money)) != 1:
        raise ValueError("a budget is given as S GPU-seconds, or by --gpu-hours, or by --money, and once")
    if money is not None:
        return gpu_s_of(money, price) if money else 0.0
    return gpu_s if gpu_s is not None else (gpu_hours or 0.0) * HOUR_S


def _least(gpu_s: float, money: float, price: float) -> float:
    """The tighter of two bounds, either of which is none where it is 0."""
    return min(gpu_s or math.inf, gpu_s_of(money, price) if money else math.inf)
