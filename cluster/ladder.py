"""What is tried after a GPU's memory ran out: the same task with its weights further away.

The picture keeps its bits: where weights lie between forwards changes none (engine.families.offload).

Decides: the next rung. Does not decide: how often it is climbed (classes).
"""

from dataclasses import replace

from cluster.identity import Task
from cluster.shots import ShotTask

RUNGS = ("", "memory", "disk")  # where the transformer's weights lie between forwards


def eased(task: Task, errors: int) -> Task:
    """The task as it is tried after so many errors; as it is where its weights can lie nowhere else."""
    if not errors or not isinstance(task, ShotTask) or task.adapters:
        return task
    model = task.model
    if model.zero or model.quantise or model.compile:
        return task
    rung = min(RUNGS.index(model.offload) + errors, len(RUNGS) - 1)
    return replace(task, model=replace(model, offload=RUNGS[rung]))
