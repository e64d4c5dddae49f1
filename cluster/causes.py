"""What Ray says of a worker: that it is gone, with its node or of what, or that a peer failed it.

Decides: whose fault an error is. Does not decide: what becomes of the task (dispatch).
"""

from collections.abc import Collection, Sequence

import ray
from ray import exceptions as errors

from cluster.actors import Ref
from cluster.crew import judge, out_of_memory
from cluster.outcomes import Failure
from engine.faults import PeerFailed, gpu_failed
from engine.memory import ran_out

# The process or its node is gone. Any other error is of the task, and would come again on another worker.
GONE = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
PEERS_S = 1.0  # in which a rank's own error is here, if another's of the collective came first


def is_collective(cause: BaseException) -> bool:
    """Whether an error may come from a peer: torch raises RuntimeError and its kin for those."""
    return isinstance(cause, RuntimeError) and not ran_out(cause) and not gpu_failed(cause)


def first_failure(refs: Sequence[Ref]) -> Failure | None:
    """What one of a gang's ranks says was wrong with itself, if its answer is there within PEERS_S."""
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=PEERS_S) if refs else ([], [])
    told = (own_failure(ref) for ref in ready)
    return next((failure for failure in told if failure is not None), None)


def of_peer(cause: BaseException) -> bool:
    """Whether a rank only says that another failed it, and that itself is ready for what comes next."""
    return isinstance(cause, PeerFailed)


def own_failure(ref: Ref) -> Failure | None:
    """What a rank's answer says was wrong with that rank itself."""
    try:
        ray.get(ref)
    except GONE as error:
        return of_memory(error)
    except errors.RayTaskError as error:
        return None if of_peer(error.cause) or is_collective(error.cause) else judge(error.cause)
    except errors.ObjectLostError:
        return None
    return None


def of_memory(error: BaseException) -> Failure | None:
    """What Ray says of a process that it ended to save its node's memory; None for any other end."""
    return out_of_memory("main", str(error)) if isinstance(error, errors.OutOfMemoryError) else None


def of_node(worker: str, node: str, draining: Collection[str], lives: bool) -> Failure | None:
    """Why a worker is gone, where its node is to blame: that had notice to go, or is dead; else None."""
    hint = "what was done stays done; another node does the rest"
    if node in draining:
        return Failure("E913_PREEMPTED", f"{worker} went with its node, which had notice", hint, "PREEMPTED")
    if node and not lives:
        return Failure("E912_NODE_LOST", f"{worker} is lost with its node {node[:8]}", hint, "NODE_LOST")
    return None
