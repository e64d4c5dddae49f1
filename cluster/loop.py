"""The loop: the only place where time passes. Events go to dispatch, its actions go to the crew."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice

from cluster.crew import Crew
from cluster.dispatch import Limits, State, decide
from cluster.events import Admitted, Event, FilmDone, Ticked
from cluster.once import found
from cluster.tasks import FilmTasks, Outcome
from manifests.store import Store, StoreError

Watch = Callable[[Event, State], None]


def render(
    films: Iterable[FilmTasks], hire: Callable[[], Crew], store: Store, limits: Limits, watch: Watch
) -> Iterator[FilmDone]:
    """Yield every film when nothing is left to do for it, in the order in which they end.

    A crew is hired when a film needs one and let go at the end: what was done before needs none.
    Films are drawn as there is room for them, so a manifest of any length costs the same memory. `watch` is
    told each event and the state that follows from it.
    """
    state, source, began = State(limits), iter(films), time.monotonic()
    with ExitStack() as stack:
        crew: Crew | None = None
        while True:
            drawn = islice(source, max(state.room, 0))
            events: list[Event] = [Admitted(film, known(store, film)) for film in drawn]
            if not events:
                if not state.films:
                    return
                crew = crew or stack.enter_context(closing(hire()))
                events = [*crew.wait(), Ticked(time.monotonic() - began)]
            for event in events:
                state, actions = decide(state, event)
                watch(event, state)
                for action in actions:
                    if isinstance(action, FilmDone):
                        yield action
                    else:
                        assert crew is not None, "work is given to hired workers only"
                        crew.act(action)


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
