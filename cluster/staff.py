"""Who can take a call, as dispatch believes: workers come, take calls, are free of them and are lost.

Decides: how busy each is. Does not decide: what they are given (dispatch).
"""

from dataclasses import replace

from cluster.state import State, Worker, kept, put, taken


def loaded(state: State, name: str, change: int) -> State:
    """A worker has taken a call, or is free of one; nothing for a worker that is gone."""
    worker = state.workers.get(name)
    if worker is None:
        return state
    now = replace(worker, load=worker.load + change)
    idle = taken(state.idle.get(worker.role, ()), (worker.load, name))
    if now.load < now.capacity:
        idle = put(idle, [(now.load, name)])
    return replace(
        state,
        workers=state.workers.set(name, now),
        idle=kept(state.idle, worker.role, idle),
        busy=kept(state.busy, worker.role, state.busy.get(worker.role, 0) + change),
    )


def hired(state: State, name: str, worker: Worker) -> State:
    """A worker is there, with nothing to do."""
    idle = put(state.idle.get(worker.role, ()), [(0, name)])
    return replace(state, workers=state.workers.set(name, worker), idle=state.idle.set(worker.role, idle))


def dismissed(state: State, name: str) -> State:
    """A worker is gone; its tasks were put back before."""
    worker = state.workers[name]
    return replace(
        state,
        workers=state.workers.delete(name),
        idle=kept(state.idle, worker.role, taken(state.idle.get(worker.role, ()), (worker.load, name))),
        busy=kept(state.busy, worker.role, state.busy.get(worker.role, 0) - worker.load),
    )
