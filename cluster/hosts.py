"""Hosts that are left alone for a while, since tasks fail there that may do well elsewhere.

A host is blocked after errors of several tasks that may be its fault, never more than a share of the farm,
and forgiven after some hours, or as soon as a task that it still had ends well. A task that turns out to be
poison, or that fails for good after errors on several hosts, takes its errors back.

Decides: which hosts get no new work. Does not decide: which errors may be a host's fault (classes).
"""

from collections.abc import Sequence
from dataclasses import replace

from immutables import Map

from cluster.staff import bench, unbench
from cluster.state import State, without

ERRORS = 3  # that block a host
TASKS = 2  # of which they must be at least
SHARE = 0.2  # of all hosts that may be blocked at once
FORGIVEN_S = 5 * 3600.0


def struck(state: State, worker: str, key: str) -> State:
    """An error, or an end, that may be the fault of the worker's host."""
    host = state.workers[worker].host if worker in state.workers else ""
    if not host:
        return state
    of_host = state.blamed.get(host, Map())
    of_host = of_host.set(key, of_host.get(key, 0) + 1)
    state = replace(state, blamed=state.blamed.set(host, of_host))
    guilty = sum(of_host.values()) >= ERRORS and len(of_host) >= TASKS
    if guilty and host not in state.blocked and _may_block(state, host):
        until = state.now_s + FORGIVEN_S
        return bench(replace(state, blocked=state.blocked.set(host, until)), host)
    return state


def _may_block(state: State, host: str) -> bool:
    """Not too many hosts at once, and never the last one that has workers of some role."""
    hosts = {worker.host for worker in state.workers.values()}
    others = {w.role for w in state.workers.values() if w.host != host and w.host not in state.blocked}
    enough = {w.role for w in state.workers.values()} == others
    return enough and len(state.blocked) + 1 <= SHARE * len(hosts)


def did_well(state: State, worker: str) -> State:
    """A task has ended well: its host is trusted again."""
    host = state.workers[worker].host if worker in state.workers else ""
    return _forgiven(state, host) if host in state.blamed else state


def refunded(state: State, key: str) -> State:
    """No host is to blame for this task's errors."""
    for host, of_host in list(state.blamed.items()):
        if key in of_host:
            left = of_host.delete(key)
            state = replace(state, blamed=state.blamed.set(host, left))
            if sum(left.values()) < ERRORS or len(left) < TASKS:
                state = _forgiven(state, host, left)
    return state


def acquitted(state: State, key: str) -> State:
    """A task has failed for good: where it did so on several hosts, none of them is to blame for it."""
    several = sum(key in of_host for of_host in state.blamed.values()) > 1
    return refunded(state, key) if several else state


def forgiven(state: State) -> State:
    """Hosts that were blocked for long enough may try again."""
    for host in sorted(host for host, until in state.blocked.items() if until <= state.now_s):
        state = _forgiven(state, host)
    return state


def _forgiven(state: State, host: str, left: Map[str, int] | None = None) -> State:
    blamed = state.blamed.set(host, left) if left else without(state.blamed, host)
    state = replace(state, blamed=blamed)
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
            if key not in state.blamed.get(state.workers[worker].host, ()):
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
        and key not in state.blamed.get(worker.host, ())
        for name, worker in state.workers.items()
    )
