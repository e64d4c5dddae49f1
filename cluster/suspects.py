"""Which of the shots of one conductor is to blame where it dies or hangs: each is tried alone.

A conductor has many shots, and nobody knows which of them it died of. A lost one counts against the piece at
which each of them stood, but never as the last that the piece may lose: for that the shot must have been
alone there. So one that can bear no loss more is a suspect, and gets a conductor of its own until it is past
that piece; then it is one among others again.

Decides: who is tried alone, and where. Does not decide: how often a piece may be lost (trouble).
"""

from dataclasses import replace

from immutables import Map

from cluster.classes import CLASSES
from cluster.events import Action
from cluster.films import put_back
from cluster.hosts import failed_at
from cluster.staff import loaded
from cluster.state import Limits, Piece, State, kept

CONDUCTOR = "conduct"


def limit(limits: Limits, name: str) -> int:
    """How many workers a piece may lose to errors of this class, "" for nobody knows what."""
    return CLASSES[name].limit if name else limits.max_losses


def counted(state: State, piece: Piece, name: str, alone: bool) -> tuple[State, int]:
    """One more worker is lost at a piece; how many that makes, less than the limit if it was not alone."""
    key, most = piece[0], limit(state.limits, name)
    of_task = state.losses.get(key, Map())
    losses = of_task.get((piece, name), 0) + 1
    losses = losses if alone else min(losses, most - 1)
    state = replace(state, losses=state.losses.set(key, of_task.set((piece, name), losses)))
    return _suspected(state, key), losses


def passed(state: State, key: str, step: int) -> State:
    """A shot stands before a step: what its conductors were lost at before that was not its fault."""
    if key not in state.losses:
        return state
    left = {at: n for at, n in state.losses[key].items() if at[0][2] != -1 or at[0][1] >= step}
    state = _suspected(replace(state, losses=kept(state.losses, key, Map(left))), key)
    canvas = state.canvases[key]
    if key in state.suspects or not canvas.alone:
        return state
    state = replace(state, canvases=state.canvases.set(key, replace(canvas, alone=False)))
    return loaded(state, canvas.conductor, 1 - state.workers[canvas.conductor].capacity)


def _suspected(state: State, key: str) -> State:
    """Note whether a shot can bear no loss more."""
    found = any(
        part == -1 and n >= limit(state.limits, name) - 1
        for ((_, _, part), name), n in state.losses.get(key, Map()).items()
    )
    is_shot = key in state.tasks and state.tasks[key].kind == "shot"
    return replace(state, suspects=state.suspects | {key} if found and is_shot else state.suspects - {key})


def in_line(state: State) -> list[str]:
    """Suspects that wait for their trial, in the order of their films."""
    waiting = (key for key in state.suspects if key not in state.running and key not in state.waiting)
    return sorted((key for key in waiting if state.wants(key)), key=lambda key: (state.ranks[key], key))


def place(state: State, key: str) -> tuple[State, str | None, list[Action]]:
    """A conductor with no other shot, if one can be had; one trial at a time may take it from others.

    Those go on elsewhere, from where they are.
    """
    idle = state.idle.get(CONDUCTOR, ())  # one at a trial has its hands full
    free = min(
        ((key in failed_at(state, state.workers[name].host), load, name) for load, name in idle), default=None
    )
    if free is None or (free[1] and any(other in state.canvases for other in state.suspects)):
        return state, None, []
    actions, conductor = list[Action](), free[2]
    for other in sorted(key for key, canvas in state.canvases.items() if canvas.conductor == conductor):
        state, dropped = put_back(state, other, save=True)
        actions += dropped
    return state, conductor, actions
