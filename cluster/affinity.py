"""Which window goes to which idle gang where several models are under way: loading weights takes long.

A gang keeps its model while windows of it are ready, for STINT of them at least; then the first in line may
have it loaded anew. So nobody waits for ever, and weights are never loaded for one window where a window of
the gang's own model is ready. A gang without one takes the first in line: none is idle while any is ready.

Decides: the pairing. Does not decide: the order of the line (films), or which hosts a shot avoids (hosts).
"""

from collections.abc import Sequence
from dataclasses import replace

from cluster.hosts import failed_at, pair
from cluster.identity import Model
from cluster.state import State

AHEAD = 8  # of a line are looked at where all windows are of one model
FAR = 512  # of it that are looked at for one of the gang's own
STINT = 32  # windows that a loading of weights is worth


def pairing(state: State, idle: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """The place in line of a window, and the idle gang that is to predict it; None to wait (hosts.pair)."""
    line = [window.shot for _, window in state.windows[:AHEAD]]
    if len(state.models) > 1:
        for _, gang in idle[:AHEAD]:
            place = _own(state, gang)
            if place is not None:
                return place, gang
        fresh = [entry for entry in idle if entry[1] not in state.loaded]
        if fresh and (found := pair(state, line, fresh)):
            return found
    return pair(state, line, idle)


def _own(state: State, gang: str) -> int | None:
    """The first window of the gang's own model, unless it has done its stint and another's comes first."""
    if gang not in state.loaded:
        return None
    model, stint = state.loaded[gang]
    failed = failed_at(state, state.workers[gang].host)
    for place, (_, window) in enumerate(state.windows[:FAR]):
        if state.canvases[window.shot].task.model == model and window.shot not in failed:
            return place
        if stint >= STINT:
            return None
    return None


def with_model(state: State, gang: str, model: Model) -> State:
    """A gang predicts a window of a model: one more, or the first since its weights were loaded."""
    before, stint = state.loaded.get(gang, (model, 0))
    return replace(state, loaded=state.loaded.set(gang, (model, stint + 1 if before == model else 1)))


def opened(state: State, model: Model) -> State:
    """One more canvas of a model is open."""
    return replace(state, models=state.models.set(model, state.models.get(model, 0) + 1))
