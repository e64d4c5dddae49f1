"""Who can take a call, as dispatch believes: workers come, take calls, are free of them and are lost.

Decides: how busy each is. Does not decide: what they are given (dispatch).
"""

from dataclasses import replace

from cluster.events import Action, Replace
from cluster.state import EMPTY, GANG, State, Step, Worker, kept


def loaded(state: State, name: str, change: int) -> State:
    """A worker has taken a call, or is free of one; nothing for a worker that is gone."""
    worker = state.workers.get(name)
    if worker is None:
        return state
    now = replace(worker, load=worker.load + change)
    idle = state.idle.get(worker.role, EMPTY).taken((worker.load, name))
    benched = worker.host in state.blocked or worker.host in state.draining or name in state.yielding
    if now.load < now.capacity and not benched:
        idle = idle.put((now.load, name))
    return replace(
        state,
        workers=state.workers.set(name, now),
        idle=kept(state.idle, worker.role, idle),
        busy=kept(state.busy, worker.role, state.busy.get(worker.role, 0) + change),
    )


def hired(state: State, name: str, worker: Worker) -> State:
    """A worker is there, with nothing to do."""
    state = loaded(replace(state, workers=state.workers.set(name, worker)), name, 0)
    return left(state, worker.host) if worker.host in state.draining else state


def left(state: State, host: str) -> State:
    """Whoever works on a host that is about to go is to be replaced; for gangs, others come (pool)."""
    names = {name for name, worker in state.workers.items() if worker.host == host and worker.role != GANG}
    return replace(state, leaving=state.leaving | names)


def relieved(state: State) -> Step:
    """Workers that are to be replaced and have nothing to do begin anew elsewhere, before their host goes."""
    actions: list[Action] = []
    for name in sorted(name for name in state.leaving if not state.workers[name].load):
        state = dismissed(state, name)
        actions.append(Replace(name))
    return state, actions


def dismissed(state: State, name: str) -> State:
    """A worker is gone; its tasks were put back before."""
    worker, state = state.workers[name], forgotten(state, name)
    return replace(
        state,
        workers=state.workers.delete(name),
        leaving=state.leaving - {name},
        yielding=state.yielding - {name},
        idle=kept(state.idle, worker.role, state.idle.get(worker.role, EMPTY).taken((worker.load, name))),
        busy=kept(state.busy, worker.role, state.busy.get(worker.role, 0) - worker.load),
    )


def bench(state: State, host: str) -> State:
    """Workers of a host get no new calls; what they are at goes on. Nobody counts on the gangs' models."""
    for name, worker in state.workers.items():
        if worker.host == host:
            line = state.idle.get(worker.role, EMPTY).taken((worker.load, name))
            state = forgotten(replace(state, idle=kept(state.idle, worker.role, line)), name)
    return state


def yielding(state: State, name: str) -> State:
    """A worker gets no new calls, as it is to be given up; nothing for one that is gone."""
    if name not in state.workers:
        return state
    return loaded(replace(forgotten(state, name), yielding=state.yielding | {name}), name, 0)


def forgotten(state: State, gang: str) -> State:
    """A gang's model is none that windows may wait for; nothing for a worker without one."""
    if gang not in state.loaded:
        return state
    model, _ = state.loaded[gang]
    having = kept(state.having, model, state.having[model] - 1)
    return replace(state, loaded=state.loaded.delete(gang), having=having)


def unbench(state: State, host: str) -> State:
    """Workers of a host may be called again."""
    for name in [name for name, worker in state.workers.items() if worker.host == host]:
        state = loaded(state, name, 0)
    return state
