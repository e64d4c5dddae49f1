"""The loop: the only place where time passes. Events go to dispatch, its actions go to the crew."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice

from cluster.crew import Crew
from cluster.dispatch import Limits, State, decide
from cluster.events import Admitted, Event, FilmDone
from cluster.once import found
from cluster.tasks import Failure, FilmTasks, Outcome, Task
from manifests.store import Store, StoreError

Watch = Callable[[Event, State], None]
Refuse = Callable[[Iterable[Task]], Mapping[str, Failure]]  # which of a film's tasks cannot be done, and why


def _nothing(tasks: Iterable[Task]) -> Mapping[str, Failure]:
    return {}


def render(
    films: Iterable[FilmTasks],
    hire: Callable[[], Crew],
    store: Store,
    limits: Limits,
    watch: Watch,
    refuse: Refuse = _nothing,
) -> Iterator[FilmDone]:
    """Yield every film when nothing is left to do for it, in the order in which they end.

    A crew is hired when a film needs one and let go at the end: what was done before needs none.
    Films are drawn as there is room for them, so a manifest of any length costs the same memory. `watch` is
    told each event and the state that follows from it; `refuse` is asked of what is left to do of a film.
    """
    state, source = State(limits), iter(films)
    with ExitStack() as stack:
        crew: Crew | None = None
        while True:
            room = limits.max_films - len(state.films)
            events: Sequence[Event] = [_admitted(film, store, refuse) for film in islice(source, room)]
            if not events:
                if not state.films:
                    return
                crew = crew or stack.enter_context(closing(hire()))
                events = crew.wait()
            for event in events:
                state, actions = decide(state, event)
                watch(event, state)
                for action in actions:
                    if isinstance(action, FilmDone):
                        yield action
                    else:
                        assert crew is not None, "work is given to hired workers only"
                        crew.act(action)


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
