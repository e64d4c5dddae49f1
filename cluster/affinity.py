"""Which window goes to which idle gang where several models are under way: loading weights takes long.

A gang keeps its model while windows of it are ready, for STINT of them at least. After that, or where none is
ready, it loads another only for a model that is not served: one that no gang has, or of which more windows
are ready than those that have it can predict while it would be loaded. Else the gang waits: those windows are
predicted no later, and windows of its own come with the next step of their shot. A gang without a model, or
of whose model no shot is open, takes the first in line that is not served, else the first.

So nobody waits for ever, as a model that is served has a gang at work; and no gang waits beside a ready
window but one whose own model has shots open, while another is at work with that window's.

Decides: the pairing. Does not decide: the order of the line (films), or which hosts a shot avoids (hosts).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from cluster.events import Window
from cluster.hosts import failed_at, pair
from cluster.identity import Model
from cluster.staff import forgotten
from cluster.state import State

AHEAD = 8  # shots, or other tasks, in line of which one may be given out before those before it
FAR = 512  # windows in line that are looked at for them
STINT = 32  # windows that a loading of weights is worth
SOON = 8  # windows that a gang predicts while another loads weights, until that is known


def pairing(state: State, idle: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """The place in line of a window, and the idle gang that is to predict it; None to wait."""
    if len(state.models) < 2 and len(state.having) < 2:
        return _paired(state, _heads(state) if state.blamed else [0], idle)
    ready = Counter(_model_of(state, window) for _, window in state.windows[:FAR])
    wanting = _not_served(state, ready)
    for _, gang in idle:  # all of them, as a window waits for whoever has its model
        place = _own(state, gang, ready, wanting)
        if place is not None:
            return place, gang
    spare = sorted(idle[:FAR], key=lambda entry: _demand(state, entry[1]))
    free = [entry for entry in spare if not _demand(state, entry[1])]
    for gangs, places in ((spare, wanting), (free, _heads(state))):
        if gangs and places and (found := _paired(state, places, gangs)):
            return found
    return None


def _paired(state: State, places: Sequence[int], gangs: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """Which window of these places goes to which of the gangs; None to wait."""
    found = pair(state, [state.windows[place][1].shot for place in places], gangs)
    return (places[found[0]], found[1]) if found else None


def _heads(state: State, counts: Callable[[Window], bool] = lambda window: True) -> list[int]:
    """The places of the first windows of the first shots in line, of windows that count.

    One shot's windows stand side by side: where it avoids a host, so do all of them.
    """
    found: dict[str, int] = {}
    for place, (_, window) in enumerate(islice(state.windows, FAR)):
        if window.shot not in found and counts(window):
            found[window.shot] = place
        if len(found) == AHEAD:
            break
    return list(found.values())


def _not_served(state: State, ready: Mapping[Model, int]) -> list[int]:
    """The places of windows whose model too few gangs have, or whose shot avoids a host."""
    few = {model for model, n in ready.items() if n > state.having.get(model, 0) * _soon(state, model)}
    return _heads(state, lambda window: _model_of(state, window) in few or _is_blamed(state, window))


def _soon(state: State, model: Model) -> float:
    """Windows that a gang predicts while another loads the model: one at least, a stint at most."""
    first_s, later_s = state.loading.get(model, (0.0, 0.0))
    return min(max(first_s / later_s - 1, 1.0), STINT) if first_s and later_s else SOON


def _demand(state: State, gang: str) -> float:
    """Open canvases of the gang's model for each gang that has it, 0 for one without a model."""
    if gang not in state.loaded:
        return 0.0
    model, _ = state.loaded[gang]
    return state.models.get(model, 0) / state.having[model]


def _own(state: State, gang: str, ready: Mapping[Model, int], wanting: Sequence[int]) -> int | None:
    """The first window of the gang's own model, unless its stint is over and one of `wanting` comes first."""
    model, stint = state.loaded.get(gang, (None, 0))
    if model not in ready:
        return None
    failed = failed_at(state, state.workers[gang].host)
    for place, (_, window) in enumerate(state.windows[:FAR]):
        if _model_of(state, window) == model and window.shot not in failed:
            return place
        if stint >= STINT and place in wanting:
            return None
    return None


def _model_of(state: State, window: Window) -> Model:
    return state.canvases[window.shot].task.model


def _is_blamed(state: State, window: Window) -> bool:
    """Whether the window's shot has failed on some host: perhaps that of all gangs that have its model."""
    return any(window.shot in blame.tasks for blames in state.blamed.values() for blame in blames)


def with_model(state: State, gang: str, model: Model) -> State:
    """A gang predicts a window of a model: one more, or the first since its weights were loaded."""
    before, stint = state.loaded.get(gang, (None, 0))
    if before == model:
        return replace(state, loaded=state.loaded.set(gang, (model, stint + 1)))
    state = forgotten(state, gang)
    having = state.having.set(model, state.having.get(model, 0) + 1)
    return replace(state, loaded=state.loaded.set(gang, (model, 1)), having=having)


def timed(state: State, gang: str, seconds: float) -> State:
    """A gang took so long for a window; where there are several models, what their loading takes is kept."""
    if len(state.having) < 2 or gang not in state.loaded:
        return state
    model, stint = state.loaded[gang]
    first_s, later_s = state.loading.get(model, (0.0, 0.0))
    taken = (seconds, later_s) if stint == 1 else (first_s, seconds)
    return replace(state, loading=state.loading.set(model, taken))


def opened(state: State, model: Model) -> State:
    """One more canvas of a model is open."""
    return replace(state, models=state.models.set(model, state.models.get(model, 0) + 1))
