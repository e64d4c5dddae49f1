"""What Ray's errors say of a worker: that it is gone, that it ran out of memory, that a peer failed it.

Decides: whose fault an error is. Does not decide: what becomes of the task (dispatch).
"""

import ray
from ray import exceptions as errors

from cluster.actors import Ref
from cluster.crew import judge, out_of_memory
from cluster.tasks import Failure
from engine.memory import ran_out

# The process or its node is gone. Any other error is of the task, and would come again on another worker.
GONE = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)


def is_collective(cause: BaseException) -> bool:
    """Whether an error may come from a peer: torch raises RuntimeError and its kin for those."""
    return isinstance(cause, RuntimeError) and not ran_out(cause)


def own_failure(ref: Ref) -> Failure | None:
    """What a rank's answer says was wrong with that rank itself."""
    try:
        ray.get(ref)
    except GONE as error:
        return of_memory(error)
    except errors.RayTaskError as error:
        return None if is_collective(error.cause) else judge(error.cause)
    except errors.ObjectLostError:
        return None
    return None


def of_memory(error: BaseException) -> Failure | None:
    """What Ray says of a process that it ended to save its node's memory; None for any other end."""
    return out_of_memory("main", str(error)) if isinstance(error, errors.OutOfMemoryError) else None
