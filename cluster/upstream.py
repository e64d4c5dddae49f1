"""Films that wait for films: one begins when all that it depends on are done, and not at all if one is not.

A film that waits is not under way and takes no room. Rows come in an order in which none waits for a later
one (manifests.links), so what it waits for is under way or has ended.

Decides: which films wait, and which end since another did. Does not decide: what a film's tasks do (films).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from immutables import Map

from cluster.events import Action, Draw, Ended, FilmDone
from cluster.films import admitted
from cluster.outcomes import Failure, Outcome
from cluster.state import State, Step, without
from cluster.tasks import FilmTasks

UPSTREAM = "E932_UPSTREAM"
MADE = ""  # the fate of a row that is done
ABSENT = "invalid"  # and of one that is not among the job's films


def first(state: State, awaited: Mapping[str, str | None]) -> State:
    """The state before any film: the rows that others depend on, and their fates, None of films to come."""
    fates = Map({row: fate for row, fate in awaited.items() if fate is not None})
    return replace(state, awaited=frozenset(awaited), fates=fates)


def received(state: State, made: FilmTasks, known: Mapping[str, Outcome | Failure]) -> Step:
    """A film is drawn: it is under way, waits for others, or has ended; once more, its fate is open again."""
    state = replace(state, fates=without(state.fates, made.row_id))
    ends = state.closing is not None or made.row_id in state.endings or made.is_done(known)
    if _waits(state, made) and not ends:
        return replace(state, later=state.later.set(made.row_id, made)), []
    return admitted(state, made, known, _failure(state, made))


def followed(state: State, actions: Sequence[Action]) -> Step:
    """What the end of films means to those that depend on them: who waits no more is drawn once more."""
    told = list(actions)
    for end in [action for action in actions if isinstance(action, FilmDone)]:
        row = end.film.row_id
        if row not in state.awaited:
            continue
        state = replace(state, fates=state.fates.set(row, _fate(end)))
        waiting = [made for made in state.later.values() if row in made.depends_on]
        state, draws = _drawn(state, [made.row_id for made in waiting if not _waits(state, made)])
        told += draws
    return state, told


def left_waiting(state: State, rows: Collection[str] | None) -> Step:
    """Films that wait and are ordered to end, None for all, wait no more: when they are drawn they end."""
    return _drawn(state, [row for row in state.later if rows is None or row in rows])


def _drawn(state: State, rows: Iterable[str]) -> Step:
    actions: list[Action] = []
    for row in sorted(rows):
        actions.append(Draw(state.later[row]))
        state = replace(state, later=state.later.delete(row))
    return state, actions


def stranded(state: State) -> Ended:
    """What to tell films that wait when no other is under way or to come: nobody makes what they wait for."""
    hint = "mend the manifest's depends_on, or make the rows that it names in the same job"
    message = "the film depends on a row that is not among the job's films"
    return Ended(frozenset(state.later), Failure(UPSTREAM, message, hint, "UPSTREAM"))


def _waits(state: State, made: FilmTasks) -> bool:
    """Whether what a film depends on is done as far as it has ended, and some of it has not."""
    return not any(map(state.fates.get, made.depends_on)) and any(
        row not in state.fates for row in made.depends_on
    )


def _failure(state: State, made: FilmTasks) -> Failure | None:
    """With which a film ends since one that it depends on is not done; None if all are."""
    for row in made.depends_on:
        if fate := state.fates.get(row):
            message = f"the film depends on row {row!r}, which is not done: {fate}"
            return Failure(UPSTREAM, message, f"have {row!r} made first, then this film again", "UPSTREAM")
    return None


def _fate(end: FilmDone) -> str:
    """The code of what kept a film from being done, MADE if nothing did."""
    results = (end.results[task.key] for task in end.film.wanted)
    return next((result.code for result in results if isinstance(result, Failure)), MADE)
