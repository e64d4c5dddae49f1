"""A job's desk: orders from its folder in the store, its rows planned again, and the beats of its driver.

Trouble with the store is no trouble of the job: orders that cannot be read now are read later.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from cluster.logs import LOG
from cluster.orders import checked
from cluster.tasks import FilmTasks
from jobs.overruled import Counts
from jobs.picked import all_of
from jobs.refusal import Refused
from manifests.control import Orders
from manifests.drivers import Heart, told


class JobDesk:
    """A Desk of the loop; `again` is told the rows that are made once more before they are planned.

    `picks` are the takes that people picked, which planning looks up; orders that do not count are left out.
    """

    def __init__(
        self,
        orders: Orders,
        heart: Heart,
        plan: Callable[[Collection[str]], Iterable[FilmTasks]],
        again: Callable[[Collection[str]], None],
        picks: dict[tuple[str, str], int],
        counts: Counts,
    ) -> None:
        self._counts = counts
        self._orders, self._heart, self._plan, self._again, self._picks = orders, heart, plan, again, picks

    def orders(self) -> Sequence[dict[str, Any]]:
        """Those that are none are logged and left out.

        Raises Refused where another driver has taken the job over.
        """
        try:
            found = self._orders.new()
        except (OSError, ValueError) as error:
            LOG.warning("orders cannot be read now: %s", error)
            return ()
        if (successor := self._heart.successor) is not None:
            raise Refused(f"the job was taken over by {told(successor)}; this driver leaves it to that")
        understood = [order for each in found if (order := _understood(each)) and self._counts(order)]
        for order in understood:
            if order["order"] == "pick":
                self._picks[order["rows"][0], order["shot"]] = order["take"]
        return understood

    def again(self, rows: Collection[str]) -> Iterable[FilmTasks]:
        """The films of these rows, planned when they are drawn."""
        self._again(rows)
        return all_of(rows, self._plan(rows))


def _understood(order: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return checked(order)
    except ValueError as error:
        LOG.warning("order %s is left out: %s", order.get("number"), error)
        return None
