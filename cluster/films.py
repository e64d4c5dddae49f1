"""What follows from a result: which tasks may begin, which are no longer needed, which films have ended.

A task waits until what it needs is done, then stands in line for its role. Films may share tasks; one that
nobody needs any more is forgotten.

Decides: what follows from a result, from a task put back, from a film admitted. Does not decide: what an
event means, or who gets which work (dispatch).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cluster.classes import EXCUSED
from cluster.events import Action, Drop, FilmDone, Window
from cluster.outcomes import Failure, Outcome
from cluster.shots import ShotTask
from cluster.staff import loaded
from cluster.state import EMPTY, ROLES, Canvas, Film, Rank, Results, State, Step, kept, without
from cluster.tasks import FilmTasks

# Tasks under way.


def begun(state: State, key: str, worker: str) -> State:
    """A task is under way."""
    return loaded(replace(_unqueued(state, key), running=state.running.set(key, worker)), worker, +1)


def put_back(state: State, key: str, save: bool = False) -> Step:
    """A task is no longer under way. Windows of its canvas that are under way will come back to nobody."""
    actions: list[Action] = []
    hands = 1
    if key in state.canvases:
        canvas = state.canvases[key]
        hands = state.workers[canvas.conductor].capacity if canvas.alone else 1
        actions.append(Drop(canvas.conductor, key, canvas.opening, save))
        models = kept(state.models, canvas.task.model, state.models[canvas.task.model] - 1)
        canvases, windows = state.canvases.delete(key), state.windows.taken(*_entries(canvas))
        state = replace(state, canvases=canvases, windows=windows, models=models)
    if key in state.running:
        worker = state.running[key]
        state = loaded(replace(state, running=state.running.delete(key)), worker, -hands)
    return queued(state, key), actions


def _entries(canvas: Canvas) -> list[tuple[Rank, Window]]:
    """The missing windows of a canvas, as they stand in line unless they are under way."""
    return [(canvas.rank, window) for window in canvas.windows]


def queued(state: State, key: str) -> State:
    """A task stands in line, if a film waits for it and it waits for nothing but a worker."""
    if not state.wants(key) or key in state.running or key in state.waiting:
        return state
    if not all(isinstance(state.results.get(need), Outcome) for need in state.tasks[key].needs):
        return state
    role, entry = ROLES[state.tasks[key].kind], (state.ranks[key], key)
    if _stands(state, key):
        return state
    return replace(state, ready=state.ready.set(role, state.ready.get(role, EMPTY).put(entry)))


def _stands(state: State, key: str) -> bool:
    """Whether a task stands in line."""
    return (state.ranks[key], key) in state.ready.get(ROLES[state.tasks[key].kind], EMPTY)


def _unqueued(state: State, key: str) -> State:
    role, entry = ROLES[state.tasks[key].kind], (state.ranks[key], key)
    return replace(state, ready=kept(state.ready, role, state.ready.get(role, EMPTY).taken(entry)))


# Films.


def admitted(
    state: State, made: FilmTasks, known: Mapping[str, Outcome | Failure], failure: Failure | None = None
) -> Step:
    """A film is under way; `known` are its tasks that were done before, or cannot be done.

    A task may be known that films under way still wait for: a worker has put its marker, and its answer is
    on the way. They go on at once, as nobody will wait for that answer. With a failure the film ends so at
    once, unless all of it was done before.
    """
    actions: list[Action] = []
    for key in known:
        state, more = with_result(state, key, known[key])
        actions += more
    order, row = state.admissions, made.row_id
    results = state.results.update({key: result for key, result in known.items() if key not in state.results})
    holders = state.holders.update({key: state.holders.get(key, 0) + 1 for key in made.tasks})
    state = replace(state, admissions=order + 1, results=results, holders=holders)
    needed = made.unfinished(results)
    shots = [key for key, task in needed.items() if isinstance(task, ShotTask) and key not in results]
    begun = not shots or any(key in state.running for key in shots)
    film = Film(made, order, state.urgent.get(row, made.priority), frozenset(needed), begun)
    state = replace(
        state,
        films=state.films.set(row, film),
        tasks=state.tasks.update(needed),
        users=state.users.update({key: state.users.get(key, frozenset()) | {row} for key in needed}),
    )
    for key in needed:
        rank = film.rank(key)
        state = _moved(state, key, min(state.ranks.get(key, rank), rank))
    ending = state.closing or state.endings.get(row) or failure or (None if begun else state.cut)
    if ending is not None and not made.is_done(results):
        state, more = ended(state, row, ending)
    else:
        state, more = _settled(state, row)
    return state, [*actions, *more]


def with_begun(state: State, key: str) -> State:
    """A shot is begun, and so are the films that need it."""
    begun = {row: replace(state.films[row], begun=True) for row in state.users[key]}
    return replace(state, films=state.films.update(begun))


def reranked(state: State, row: str, priority: int) -> State:
    """A film is more or less urgent than it was."""
    film = replace(state.films[row], priority=priority)
    return _ranked(replace(state, films=state.films.set(row, film)), sorted(film.needed))


def _ranked(state: State, keys: Iterable[str]) -> State:
    """Tasks stand where the most urgent film that needs them puts them, their windows too."""
    for key in keys:
        state = _moved(state, key, min(state.films[row].rank(key) for row in state.users[key]))
    return state


def _moved(state: State, key: str, rank: Rank) -> State:
    if state.ranks.get(key) == rank:
        return state
    stood = key in state.ranks and _stands(state, key)
    state = _unqueued(state, key) if stood else state
    state = replace(state, ranks=state.ranks.set(key, rank))
    if key in state.canvases:
        canvas = state.canvases[key]
        waiting = [window for window in canvas.windows if window not in state.predicting]
        windows = state.windows.taken(*_entries(canvas)).put(*((rank, window) for window in waiting))
        canvases = state.canvases.set(key, replace(canvas, rank=rank))
        state = replace(state, windows=windows, canvases=canvases)
    return queued(state, key) if stood else state


def with_result(state: State, key: str, result: Outcome | Failure) -> Step:
    """A task has its result, unless it had one or nobody wants it any more."""
    actions: list[Action] = []
    if not state.wants(key):
        return state, actions
    state = replace(
        _unqueued(state, key),
        results=state.results.set(key, result),
        waiting=without(state.waiting, key),
        alarms=state.alarms.taken((state.waiting.get(key, 0.0), key)),
    )
    if key in state.canvases:  # done by a worker that was given up for lost
        state, actions = put_back(state, key)
    for row in sorted(state.users[key], key=lambda row: state.films[row].order):
        state, more = _settled(state, row)
        actions += more
    return state, actions


def _settled(state: State, row: str) -> Step:
    """What the results there are come to for a film: tasks it needs no more are let go, others may begin."""
    film = state.films[row]
    state = replace(state, results=_spread(film, state.results))
    if film.made.is_done(state.results):
        return ended(state, row)
    needed = film.made.unfinished(state.results)
    state = replace(state, films=state.films.set(row, replace(film, needed=frozenset(needed))))
    state, actions = _released(state, row, film.needed.difference(needed))
    for key in needed:
        state = queued(state, key)
    return state, actions


def _spread(film: Film, results: Results) -> Results:
    """What needs a failed task fails with its failure; in order of need, so one pass reaches all."""
    for key, task in film.made.tasks.items():
        if key in film.needed and key not in results:
            failed = [f for f in map(results.get, task.needs) if isinstance(f, Failure)]
            if failed:
                results = results.set(key, failed[0])
    return results


def ended(state: State, row: str, failure: Failure | None = None) -> Step:
    """Let go of a film, and of all that only it needed or had; `failure` is of what is not done."""
    film = state.films[row]
    results = {key: state.results[key] for key in film.made.tasks if key in state.results}
    if failure is not None:
        results |= dict.fromkeys(film.needed - results.keys(), failure)
    found = [results[task.key] for task in film.made.wanted]
    failed = any(isinstance(each, Failure) and each.error_class not in EXCUSED for each in found)
    state, actions = _released(state, row, film.needed)
    state = replace(state, films=state.films.delete(row), ended=state.ended + 1, failed=state.failed + failed)
    for key in film.made.tasks:
        left = state.holders[key] - 1
        state = replace(state, holders=kept(state.holders, key, left))
        if not left:
            state = replace(state, results=without(state.results, key))
    return state, [*actions, FilmDone(film.made, results)]


def _released(state: State, row: str, keys: Iterable[str]) -> Step:
    """A film needs these tasks no more; those that nobody else needs are forgotten."""
    actions: list[Action] = []
    for key in sorted(keys):
        users = state.users[key] - {row}
        state = replace(state, users=kept(state.users, key, users))
        if not users:
            state, dropped = _forgotten(state, key)
            actions += dropped
        elif key not in state.results and state.ranks[key] == state.films[row].rank(key):
            state = _ranked(state, [key])
    return state, actions


def _forgotten(state: State, key: str) -> Step:
    """Nobody needs a task; if it is simple and under way it runs out by itself."""
    failed = isinstance(state.results.get(key), Failure)
    state = _unqueued(state, key)
    state = replace(
        state,
        tasks=state.tasks.delete(key),
        ranks=state.ranks.delete(key),
        strikes=without(state.strikes, key),
        waiting=without(state.waiting, key),
        alarms=state.alarms.taken((state.waiting.get(key, 0.0), key)),
        losses=without(state.losses, key),
        suspects=state.suspects - {key},
        results=without(state.results, key) if failed else state.results,
    )
    return put_back(state, key) if key in state.canvases else (state, [])
