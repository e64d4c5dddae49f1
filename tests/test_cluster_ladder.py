"""What is tried after a GPU's memory ran out."""

from dataclasses import replace

import pytest

from cluster.ladder import eased
from tests.test_cluster_tasks import shot_task


def test_weights_go_further_away_with_every_error_and_the_shot_stays_the_same():
    task = shot_task()
    tried = [eased(task, errors) for errors in range(4)]
    assert [each.model.offload for each in tried] == ["", "memory", "disk", "disk"]
    assert {each.key for each in tried} == {task.key}


@pytest.mark.parametrize("chosen", [{"zero": True}, {"quantise": "int8"}, {"compile": True}])
def test_weights_that_can_lie_nowhere_else_are_tried_as_they_are(chosen):
    task = shot_task()
    task = replace(task, model=replace(task.model, **chosen))
    assert eased(task, 2) == task
