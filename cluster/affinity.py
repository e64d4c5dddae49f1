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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from immutables import Map

from cluster.events import Window
from cluster.hosts import pair
from cluster.identity import Model
from cluster.staff import forgotten
from cluster.state import State

AHEAD = 8  # of a line are looked at where all windows are of one model
FAR = 512  # of it that are looked at where they are of several
STINT = 32  # windows that a loading of weights is worth
SOON = 8  # windows that a gang predicts while another loads weights, until that is known


def pairing(state: State, idle: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """The place in line of a window, and the idle gang that is to predict it; None to wait."""
    if len(state.models) < 2 and len(state.having) < 2:
        return pair(state, [window.shot for _, window in state.windows[:AHEAD]], idle)
    ready = Counter(_model_of(state, window) for _, window in state.windows[:FAR])
    wanting = _not_served(state, ready)
    for _, gang in idle:  # all of them, as a window waits for whoever has its model
        place = _own(state, gang, ready, wanting)
        if place is not None:
            return place, gang
    spare = sorted(idle[:FAR], key=lambda entry: _demand(state, entry[1]))
    free = [entry for entry in spare if not _demand(state, entry[1])]
    for gangs, places in ((spare, wanting), (free, range(len(state.windows[:AHEAD])))):
        shots = [state.windows[place][1].shot for place in places]
        if gangs and shots and (found := pair(state, shots, gangs)):
            return places[found[0]], found[1]
    return None


def _not_served(state: State, ready: Mapping[Model, int]) -> list[int]:
    """The places of the first windows whose model too few gangs have, or whose shot avoids a host."""
    few = {model for model, n in ready.items() if n > state.having.get(model, 0) * _soon(state, model)}
    wanting = (
        place
        for place, (_, window) in enumerate(state.windows[:FAR])
        if _model_of(state, window) in few or _is_blamed(state, window)
    )
    return list(islice(wanting, AHEAD))


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
    blamed = state.blamed.get(state.workers[gang].host, Map())
    for place, (_, window) in enumerate(state.windows[:FAR]):
        if _model_of(state, window) == model and window.shot not in blamed:
            return place
        if stint >= STINT and place in wanting:
            return None
    return None


def _model_of(state: State, window: Window) -> Model:
    return state.canvases[window.shot].task.model


def _is_blamed(state: State, window: Window) -> bool:
    """Whether the window's shot has failed on some host: perhaps that of all gangs that have its model."""
    return any(window.shot in of_host for of_host in state.blamed.values())


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
