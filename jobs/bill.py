"""What a run of a job took, in GPU-seconds and money, and in words. Pure.

Money is of the seconds that ranks of gangs were at work (used), not of those in which they were only there
(hired), at one price for all GPUs.

Decides: what costs what. Does not decide: which seconds are whose (cluster.account).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.account import Account
from cluster.tally import US, Tally

HOUR_S = 3600.0


@dataclass(frozen=True)
class Price:
    """Of an hour of one GPU; 0 is none."""

    per_gpu_hour: float = 0.0
    currency: str = ""

    def of(self, gpu_s: float) -> float | None:
        """What so many GPU-seconds cost."""
        return round(gpu_s / HOUR_S * self.per_gpu_hour, 6) if self.per_gpu_hour else None


@dataclass(frozen=True)
class Bill:
    """One run of a job. used_s, wasted_s, saved_s and hired_s are GPU-seconds, film_s seconds of new films.

    Each language of a film counts in film_s; `cost_a_film_s` is the cost of one of them.
    """

    used_s: float = 0.0
    wasted_s: float = 0.0
    saved_s: float = 0.0
    hired_s: float = 0.0
    film_s: float = 0.0
    wasted_by: dict[str, float] = field(default_factory=dict)  # by cause, see cluster.account
    cost: float | None = None
    cost_a_film_s: float | None = None
    currency: str = ""


def bill_of(account: Account, film_s: float, price: Price) -> Bill:
    """The bill of closed books."""
    job = account.job
    cost = price.of(job.used_us / US)
    causes = sorted(job.wasted.items(), key=lambda item: -item[1])
    return Bill(
        used_s=_seconds(job.used_us),
        wasted_s=_seconds(job.wasted_us),
        saved_s=_seconds(job.saved_us),
        hired_s=_seconds(account.hired_us),
        film_s=round(film_s, 3),
        wasted_by={cause: _seconds(us) for cause, us in causes},
        cost=cost,
        cost_a_film_s=round(cost / film_s, 6) if cost is not None and film_s else None,
        currency=price.currency if cost is not None else "",
    )


def columns_of(tally: Tally, price: Price) -> dict[str, Any]:
    """A film's columns of results, alike in each of its languages."""
    cost = price.of(tally.used_us / US)
    return {
        "gpu_used_s": _seconds(tally.used_us),
        "gpu_wasted_s": _seconds(tally.wasted_us),
        "gpu_saved_s": _seconds(tally.saved_us),
        "cost": cost,
        "currency": price.currency if cost is not None else None,
    }


def added(bills: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bills of one job as one; the price may have changed between them, but not the currency."""
    total = {name: round(sum(bill[name] for bill in bills), 6) for name in ("used_s", "wasted_s", "saved_s")}
    total |= {name: round(sum(bill[name] for bill in bills), 6) for name in ("hired_s", "film_s")}
    causes: Counter[str] = Counter()
    for bill in bills:
        causes.update(bill["wasted_by"])
    costs = [bill["cost"] for bill in bills if bill["cost"] is not None]
    cost = round(sum(costs), 6) if costs else None
    a_film_s = round(cost / total["film_s"], 6) if cost is not None and total["film_s"] else None
    currency = next((bill["currency"] for bill in bills if bill["currency"]), "")
    more = {"cost": cost, "cost_a_film_s": a_film_s, "currency": currency}
    return total | {"wasted_by": dict(causes.most_common())} | more


def spoken(bill: Mapping[str, Any]) -> list[str]:
    """A bill's fields in words, most important first; nothing of a run in which no gang did anything."""
    words = []
    if bill.get("used_s"):
        words.append(f"{bill['used_s']:,.1f} GPU-s used")
    if bill.get("wasted_s"):
        causes = ", ".join(f"{cause} {seconds:,.1f}" for cause, seconds in bill["wasted_by"].items())
        words.append(f"{bill['wasted_s']:,.1f} wasted ({causes})")
    if bill.get("saved_s"):
        words.append(f"{bill['saved_s']:,.1f} GPU-s saved")
    if bill.get("cost") is not None and bill.get("used_s"):
        words.append(money(bill["cost"], bill["currency"]))
    if bill.get("cost_a_film_s"):
        words.append(f"{money(bill['cost_a_film_s'], bill['currency'])} a second of film")
    return words


def money(amount: float, currency: str) -> str:
    """An amount, with as many digits as say something."""
    return f"{amount:,.2f} {currency}".strip() if amount >= 1 else f"{amount:.3g} {currency}".strip()


def _seconds(us: int) -> float:
    return us / US
