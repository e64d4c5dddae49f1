"""Hosts that are left alone for a while, since tasks fail there that may do well elsewhere.

A host is blocked after errors that may be its fault and that no single task explains, never more than a
share of the farm. It is forgiven after some hours, and a worker's errors once that worker does well: a
finisher that does tells nothing of a GPU, nor does one GPU of another. A task that turns out to be poison, or
that fails for good after errors on several hosts, takes its errors back.

Decides: which hosts get no new work. Does not decide: which errors may be a host's fault (classes).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cluster.staff import bench, unbench
from cluster.state import Blame, State, kept, without

ERRORS = 3  # that block a host, if not all can be one task's fault
SHARE = 0.2  # of all hosts that may be blocked at once
FORGIVEN_S = 5 * 3600.0


def struck(state: State, worker: str, keys: Iterable[str]) -> State:
    """One error, or end, that may be the fault of the worker's host, or of any one of these tasks."""
    host, tasks = state.workers[worker].host if worker in state.workers else "", frozenset(keys)
    if not host or not tasks:
        return state
    blames = (*_remembered(state, host), Blame(worker, tasks, state.now_s))
    state = replace(state, blamed=state.blamed.set(host, blames))
    if _guilty(blames) and host not in state.blocked and _may_block(state, host):
        until = state.now_s + FORGIVEN_S
        return bench(replace(state, blocked=state.blocked.set(host, until)), host)
    return state


def _remembered(state: State, host: str) -> tuple[Blame, ...]:
    """Errors of a host that are not of long ago."""
    blames = state.blamed.get(host, ())
    return tuple(blame for blame in blames if state.now_s - blame.at_s < FORGIVEN_S)


def _guilty(blames: Sequence[Blame]) -> bool:
    """Enough errors, and no task that may be the cause of all."""
    return len(blames) >= ERRORS and not frozenset.intersection(*(blame.tasks for blame in blames))


def failed_at(state: State, host: str) -> frozenset[str]:
    """Tasks that are better tried on another host."""
    return frozenset[str]().union(*(blame.tasks for blame in state.blamed.get(host, ())))


def _may_block(state: State, host: str) -> bool:
    """Not too many hosts at once, and never the last one that has workers of some role."""
    hosts = {worker.host for worker in state.workers.values()}
    others = {w.role for w in state.workers.values() if w.host != host and w.host not in state.blocked}
    enough = {w.role for w in state.workers.values()} == others
    return enough and len(state.blocked) + 1 <= SHARE * len(hosts)


def did_well(state: State, worker: str) -> State:
    """A worker has done what it was given: it is trusted again, and so is its host if no more is left."""
    host = state.workers[worker].host if worker in state.workers else ""
    return _less(state, host, lambda blame: blame.worker == worker) if host in state.blamed else state


def refunded(state: State, key: str) -> State:
    """No host is to blame for this task's errors."""
    for host in list(state.blamed):
        state = _less(state, host, lambda blame: key in blame.tasks)
    return state


def _less(state: State, host: str, taken_back: Callable[[Blame], bool]) -> State:
    """Errors of a host that are taken back; what is left may be too little to leave it alone."""
    left = tuple(blame for blame in state.blamed[host] if not taken_back(blame))
    state = replace(state, blamed=kept(state.blamed, host, left))
    return state if _guilty(left) else _unblocked(state, host)


def acquitted(state: State, key: str) -> State:
    """A task has failed for good: where it did so on several hosts, none of them is to blame for it."""
    several = sum(any(key in blame.tasks for blame in blames) for blames in state.blamed.values()) > 1
    return refunded(state, key) if several else state


def forgiven(state: State) -> State:
    """Hosts that were blocked for long enough may try again, and errors of long ago are forgotten."""
    for host in sorted(host for host, until in state.blocked.items() if until <= state.now_s):
        state = _unblocked(replace(state, blamed=without(state.blamed, host)), host)
    for host in sorted(set(state.blamed) - set(state.blocked)):
        state = replace(state, blamed=kept(state.blamed, host, _remembered(state, host)))
    return state


def _unblocked(state: State, host: str) -> State:
    if host not in state.blocked:
        return state
    return unbench(replace(state, blocked=state.blocked.delete(host)), host)


def pair(state: State, keys: Sequence[str], idle: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """Which of the first tasks in line goes to which worker: no task to a host on which it failed.

    Where all have failed on all of these hosts, they wait for a busy worker of another one, None: to be tried
    on one host alone would tell nothing of whose fault it is. Where there is none, no waiting helps.
    """
    if not state.blamed:
        return 0, idle[0][1]
    for at, key in enumerate(keys):
        for _, worker in idle:
            if key not in failed_at(state, state.workers[worker].host):
                return at, worker
    role = state.workers[idle[0][1]].role
    for at, key in enumerate(keys):
        if not _elsewhere(state, key, role):
            return at, idle[0][1]
    return None


def _elsewhere(state: State, key: str, role: str) -> bool:
    """Whether a worker of this role, idle or busy, is on a host on which the task has not failed."""
    return any(
        worker.role == role
        and name not in state.yielding
        and worker.host not in state.blocked
        and worker.host not in state.draining
        and key not in failed_at(state, worker.host)
        for name, worker in state.workers.items()
    )
