"""The loop: the only place where time passes. Events go to dispatch, its actions go to the crew."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol, Self

from immutables import Map

from cluster import upstream
from cluster.crew import Crew
from cluster.dispatch import Limits, State, decide
from cluster.events import Action, Admitted, Draw, Event, FilmDone, Reprieved, Ticked
from cluster.identity import Task
from cluster.once import found
from cluster.orders import event_of, selects
from cluster.outcomes import Failure, Outcome
from cluster.tasks import FilmTasks
from manifests.store import Store, StoreError

LOOK_S = 0.05  # between two looks at the crew while there are films to draw
WAIT_S = 1.0  # for the crew, where there are none, so that signals are seen

Watch = Callable[[Event, State], None]
Refuse = Callable[[Iterable[Task]], Mapping[str, Failure]]  # which of a film's tasks cannot be done, and why


def _nothing(tasks: Iterable[Task]) -> Mapping[str, Failure]:
    return {}


class Desk(Protocol):
    """Where people's orders come in, and films that are to be made once more."""

    def orders(self) -> Sequence[Mapping[str, Any]]:
        """Checked orders (cluster.orders) that were given since the last call."""

    def again(self, rows: Collection[str]) -> Iterable[FilmTasks]:
        """The films of these rows."""


class Unattended:
    """A desk at which nobody orders anything."""

    def orders(self) -> Sequence[Mapping[str, Any]]:
        """None."""
        return ()

    def again(self, rows: Collection[str]) -> Iterable[FilmTasks]:
        """None, as nobody asks."""
        return ()


class Source:
    """The films to come, those under way, and those that failed and may be asked for again.

    A film of which another take is picked is made again: now, or if it is under way when it has ended. One
    that has not come yet is made now, and not when it comes.
    """

    def __init__(self, films: Iterable[FilmTasks], desk: Desk) -> None:
        self.films, self.desk = iter(films), desk
        self.failed: dict[str, Failure] = {}
        self.begun, self.under_way, self.picked = False, set[str](), set[str]()

    def draw(self, n: int) -> Iterator[FilmTasks]:
        """At most n films more."""
        again = self.picked - self.under_way
        if again:
            self.picked -= again
            self.failed = {row: failure for row, failure in self.failed.items() if row not in again}
            self.films = chain(self.desk.again(again), (f for f in self.films if f.row_id not in again))
        self.begun |= n > 0
        for film in islice(self.films, max(n, 0)):
            self.under_way.add(film.row_id)
            yield film

    def ordered(self) -> list[Event]:
        """What people have ordered since the last call."""
        events = list[Event]()
        for order in self.desk.orders():
            if order["order"] == "pick":
                self.picked |= set(order["rows"]) if self.begun else set()  # before that, it is planned so
                continue
            event = event_of(order)
            events.append(self._again(order) if event is None else event)
        return events

    def _again(self, order: Mapping[str, Any]) -> Reprieved:
        rows = frozenset(row for row, failure in self.failed.items() if selects(order, row, failure))
        self.failed = {row: failure for row, failure in self.failed.items() if row not in rows}
        self.films = chain(self.desk.again(rows), self.films) if rows else self.films
        return Reprieved(rows | frozenset(order.get("rows", [])))

    def ended(self, film: FilmDone) -> None:
        """Remember a film that failed."""
        self.under_way.discard(film.film.row_id)
        results = [film.results[task.key] for task in film.film.wanted]
        failures = [result for result in results if isinstance(result, Failure)]
        if failures:
            self.failed[film.film.row_id] = failures[0]


class Hands:
    """The crew: hired when a film first needs one, looked at every so often, let go at the end."""

    def __init__(self, hire: Callable[[], Crew], spent: Callable[[], float]) -> None:
        self._hire, self._spent = hire, spent
        self._crew: Crew | None = None
        self._began_s, self._next_s = time.monotonic(), -float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew is not None:
            self._crew.close()

    def news(self, needed: bool, idle: bool) -> list[Event]:
        """What has happened, and what time it is: waited for if the loop is idle, else only if it is due."""
        if needed and self._crew is None:
            self._crew = self._hire()
        if self._crew is None or not (idle or time.monotonic() >= self._next_s):
            return []
        happened = self._crew.wait(WAIT_S if idle else 0.0)
        now_s = time.monotonic()
        self._next_s = now_s + LOOK_S
        return [*happened, Ticked(now_s - self._began_s, self._spent())]

    def act(self, actions: Iterable[Action]) -> Iterator[FilmDone]:
        """Have the crew act; the films that ended."""
        for action in actions:
            if isinstance(action, FilmDone):
                yield action
            elif not isinstance(action, Draw):
                assert self._crew is not None, "work is given to hired workers only"
                self._crew.act(action)


def render(
    films: Iterable[FilmTasks],
    hire: Callable[[], Crew],
    store: Store,
    limits: Limits,
    watch: Watch,
    desk: Desk | None = None,
    refuse: Refuse = _nothing,
    awaited: Mapping[str, str | None] = Map(),
    spent: Callable[[], float] = lambda: 0.0,
) -> Iterator[FilmDone]:
    """Yield every film when nothing is left to do for it, in the order in which they end.

    A crew is hired when a film needs one and let go at the end: what was done before needs none.
    Films are drawn one at a time as there is room for them, so a manifest of any length costs the same
    memory, and the crew and the clock are attended to also while films are drawn that are done. `watch` is
    told each event and the state that follows from it; `refuse` is asked of what is left to do of a film. A
    film that is ordered again is yielded again. `awaited` are the rows that others depend on, each with
    its fate (cluster.upstream), None if it is among the films. `spent` says how many GPU-seconds of the job's
    budgets were taken until now, by this run and those before it.
    """
    source = Source(films, desk or Unattended())
    freed = deque[FilmTasks]()  # that need not wait for others any more
    state = upstream.first(State(limits, spent_gpu_s=spent()), awaited)
    with Hands(hire, spent) as hands:
        while True:
            events = source.ordered()
            drawn = [freed.popleft()] if freed else source.draw(min(state.room, 1))
            events += [_admitted(film, store, refuse) for film in drawn]
            if not events and not state.films:
                if not state.later:
                    return
                events.append(upstream.stranded(state))
            events += hands.news(needed=bool(state.films), idle=not events)
            for event in events:
                state, actions = decide(state, event)
                watch(event, state)
                freed += [each.film for each in actions if isinstance(each, Draw)]
                for film in hands.act(actions):
                    source.ended(film)
                    yield film


def _admitted(film: FilmTasks, store: Store, refuse: Refuse) -> Admitted:
    """A film with what was done of it before, and what of the rest cannot be done."""
    done = known(store, film)
    left = (task for key, task in film.unfinished(done).items() if key not in done)
    return Admitted(film, {**done, **refuse(left)})


def known(store: Store, film: FilmTasks) -> dict[str, Outcome]:
    """What was done of a film before: wanted artefacts first, and below them only where one is wanting."""
    results: dict[str, Outcome] = {}
    seen: set[str] = set()
    waiting = [task.key for task in film.wanted]
    while waiting:
        task = film.tasks[waiting.pop()]
        if task.key in seen:
            continue
        seen.add(task.key)
        try:
            outcome = found(store, task.kind, task.key)
        except (FileNotFoundError, StoreError):
            outcome = None  # artefact gone or marker damaged: who needs it will say so, for this film alone
        if outcome is not None:
            results[task.key] = outcome
        else:
            waiting += task.needs
    return results
