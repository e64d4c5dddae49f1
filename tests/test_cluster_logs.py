"""Claims about log lines: every one is an object with the same fields, and people's lines stay text."""

import json
import logging
import warnings

import pytest

from cluster.logs import FIELDS, LOG, WORK, about, log_as_json, log_as_text, reporting
from cluster.outcomes import Outcome
from tests.night import segment_task, shot_task


@pytest.fixture
def as_json(capsys):
    """Lines of this process as objects."""
    log_as_json("stdout", {"job": "night", "worker": "decode-0"}, lambda: {"window": "step 1 part 2"})
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logging.captureWarnings(False)
    log_as_text()


def test_a_line_has_every_field_whoever_writes_it(as_json):
    LOG.warning("क्या\n%s", "x", extra={"row": "water", "attempt": 2})
    logging.getLogger("another.library").warning("of another")
    logging.captureWarnings(False)  # pytest has taken them back for itself since the fixture began
    logging.captureWarnings(True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("of Python", stacklevel=1)
    ours, other, python = as_json()
    assert {"time", "level", "message", *FIELDS} <= ours.keys() & other.keys() & python.keys()
    assert (ours["message"], ours["row"], ours["attempt"], ours["shot"]) == ("क्या\nx", "water", 2, None)
    assert ours["job"] == other["job"] == "night" and ours["window"] == "step 1 part 2"
    assert ours["time"].endswith("+00:00") and "of Python" in python["message"]


def test_a_workers_error_is_logged_with_its_traceback_and_raised_on(as_json):
    class Decoder:
        @reporting
        def run(self, task):
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        Decoder().run(segment_task(shot_task("s1")))
    (line,) = as_json()
    assert line["level"] == "error" and "ValueError: torn" in line["traceback"]
    assert line["shot"] == "s1" and line["task"] == segment_task(shot_task("s1")).key[:8]


def test_what_a_worker_made_is_a_line_and_other_answers_are_none(as_json):
    class Decoder:
        @reporting
        def run(self, task, answer):
            return answer

    task = segment_task(shot_task("s1"))
    made = Outcome(task.key, "segment", {}, seconds=2.5)
    assert Decoder().run(task, made) is made and Decoder().run(task, 7) == 7
    (line,) = as_json()
    assert (line["message"], line["seconds"], line["level"]) == ("made segment", 2.5, "info")


def test_people_are_told_warnings_alone_and_no_traceback_unless_asked(capsys):
    log_as_text()
    LOG.info("nothing")
    LOG.warning("order 3 is left out")
    WORK.error("failed", exc_info=ValueError("torn"))
    assert capsys.readouterr().err == "longtake: order 3 is left out\n"
    log_as_text(work=True)
    WORK.error("failed", exc_info=ValueError("torn"))
    assert "ValueError: torn" in capsys.readouterr().err
    log_as_text()


def test_a_task_is_named_by_its_shot_and_the_beginning_of_its_key():
    shot = shot_task("s1")
    assert about(shot) == {"shot": "s1", "task": shot.key[:8]} and about(shot.key) == {"task": shot.key[:8]}
    assert about(None) == {}
