"""Of an audit: whether what gangs took is on the bill, and whether a budget ended what it should have ended.

The ledger tells what calls of gangs took that were answered, in runs. A call that failed, was lost or was
under way at the end has no run: the bill has it as wasted. So of a run that came to its results

    bill - wasted without a run <= runs of the ledger <= bill

and these are one where nothing came to nothing. A driver that was killed left no bill, and one that was cut
short may have lost its last events: of those only the second holds.

Decides: what is asked of the sums. Does not decide: how they are made (cluster.account, cluster.diary).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.unsound import Broken, Findings
from manifests.ledger import of_kinds
from manifests.store import Store

IN_RUNS = {"LATE", "REDONE", "TRIED"}  # wasted, and yet answered
_SLACK_S, _ROUNDED_S = 1e-3, 1e-6  # of sums, and of each window
_RUN = ["worker", "windows", "gpu_s"]
_NUMBER = re.compile(r"(\d{6,})\.json$")
_NOTE = re.compile(r"/spent/(\d{6,})/\d{9,}\.json$")
Marked = dict[int, dict[str, Any]]  # by driver


@dataclass
class Runs:
    """What the ledger's runs of one driver took; `last` are the last two of each gang."""

    gpu_s: float = 0.0
    windows: int = 0
    last: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, table: Any) -> None:
        """Take in events of this driver."""
        for run in of_kinds(table, ["ran"], _RUN):
            gpu_s = run["gpu_s"] or 0.0
            self.gpu_s, self.windows = self.gpu_s + gpu_s, self.windows + (run["windows"] or 0)
            self.last[run["worker"]] = self.last.get(run["worker"], (0.0, 0.0))[1], gpu_s

    @property
    def slack_s(self) -> float:
        """How far the sum may be off."""
        return _SLACK_S + _ROUNDED_S * self.windows


def sums(store: Store, job_id: str, runs: Mapping[int, Runs]) -> Findings:
    """What is wrong with the bills and the budget of a job, by the runs of each driver. Raises StoreError."""
    bills, ended = _marked(store, f"jobs/{job_id}/bill"), _marked(store, f"jobs/{job_id}/ended")
    yield from _spent(job_id, runs, bills, ended)
    yield from _overshot(store, job_id, runs, bills, ended)


def _spent(job_id: str, runs: Mapping[int, Runs], bills: Marked, ended: Marked) -> Findings:
    """Of every driver's bill whether it says what the ledger and its driver's last word do."""
    came_through = {each for each, word in ended.items() if word.get("results")}
    for epoch in sorted(bills.keys() | came_through):
        where, bill = f"jobs/{job_id}/bill/{epoch:06}.json", bills.get(epoch)
        said = (ended.get(epoch, {}).get("gpu") or {}).get("used_s", 0.0) if epoch in came_through else None
        if bill is None:
            if said:
                yield Broken("spent", where, f"the bill is gone, which had {said:,.3f} GPU-seconds")
            continue
        if said is not None and abs(said - bill["used_s"]) > _SLACK_S:
            what = f"the bill has {bill['used_s']:,.3f} GPU-seconds, its driver's last word {said:,.3f}"
            yield Broken("spent", where, what)
        if abs(bill.get("wasted_s", 0.0) - sum(bill.get("wasted_by", {}).values())) > _SLACK_S:
            yield Broken("spent", where, "what was wasted is not the sum of its causes")
        if epoch in runs and (what := _unlike(bill, runs[epoch], epoch in came_through)):
            yield Broken("spent", where, what)


def _unlike(bill: Mapping[str, Any], runs: Runs, is_whole: bool) -> str:
    """What is wrong between a bill and the ledger's runs; empty if nothing is."""
    least_s = bill["used_s"] - _unanswered_s(bill) if is_whole else 0.0
    if least_s - runs.slack_s <= runs.gpu_s <= bill["used_s"] + runs.slack_s:
        return ""
    least = f"at least {least_s:,.3f}, and " if is_whole else ""
    told = f"the ledger's runs come to {runs.gpu_s:,.3f} GPU-seconds"
    return f"{told}; by the bill they are {least}at most {bill['used_s']:,.3f}"


def _unanswered_s(bill: Mapping[str, Any]) -> float:
    """What may have no run in the ledger."""
    return float(sum(s for cause, s in bill.get("wasted_by", {}).items() if cause not in IN_RUNS))


def _overshot(store: Store, job_id: str, runs: Mapping[int, Runs], bills: Marked, ended: Marked) -> Findings:
    """Of drivers that came through, whether they took no more than their budget and what was under way.

    Under way is no more than the last two calls of each gang: one may be given out in the turn in which the
    budget is found to be reached. Of calls without an answer it is not known how long each was: all count.
    """
    before, ordered_s = _before(store, job_id, bills), list(_ordered_s(store, job_id))
    for epoch, record in _marked(store, f"jobs/{job_id}/limits").items():
        set_s = (record.get("hard") or {}).get("gpu_s")
        budget_s = max([math.inf if set_s is None else set_s, *ordered_s])
        if epoch not in bills or epoch not in runs or not ended.get(epoch, {}).get("results"):
            continue
        used_s, told, earlier_s = bills[epoch]["used_s"], runs[epoch], before.get(epoch, 0.0)
        over_s = earlier_s + used_s - max(budget_s, earlier_s)
        under_way_s = sum(map(sum, told.last.values())) + _unanswered_s(bills[epoch])
        if over_s > under_way_s + told.slack_s:
            what = f"after {earlier_s:,.3f} GPU-seconds of earlier runs this one took {used_s:,.3f}"
            most = f"of a budget of {budget_s:,.3f}, with no more than {under_way_s:,.3f} under way"
            yield Broken("budget", f"jobs/{job_id}/bill/{epoch:06}.json", f"{what} {most}")


def _before(store: Store, job_id: str, bills: Marked) -> dict[int, float]:
    """What earlier drivers had taken for sure as each began: those of its host right before it.

    Two never work on one host. One of another host may have been frozen, be taken for dead, and add to its
    bill later.
    """
    spent_s = {epoch: bill["used_s"] for epoch, bill in (_noted(store, job_id) | bills).items()}
    before: dict[int, float] = {}
    sum_s, last = 0.0, None
    for epoch, claim in _marked(store, f"jobs/{job_id}/driver").items():
        sum_s = sum_s if claim.get("host") == last else 0.0
        before[epoch], last = sum_s, claim.get("host")
        sum_s += spent_s.get(epoch, 0.0)
    return before


def _noted(store: Store, job_id: str) -> Marked:
    """The last note of each driver of what it had taken until then."""
    notes: dict[int, str] = {}
    for key in store.list_keys(f"jobs/{job_id}/spent"):  # sorted, so the last of each driver comes last
        if match := _NOTE.search(key):
            notes[int(match[1])] = key
    return {epoch: note for epoch, key in notes.items() if (note := store.read_marker(key)) is not None}


def _ordered_s(store: Store, job_id: str) -> Iterator[float]:
    """The budgets that people ordered at any time; 0 is none."""
    for order in _marked(store, f"jobs/{job_id}/control").values():
        if order.get("order") == "budget" and not order.get("soft"):
            yield float(order["gpu_s"]) or math.inf


def _marked(store: Store, folder: str) -> Marked:
    """The markers of a folder, by the number that they end with."""
    keys = {int(match[1]): key for key in store.list_keys(folder) if (match := _NUMBER.search(key))}
    return {n: marker for n, key in sorted(keys.items()) if (marker := store.read_marker(key)) is not None}
