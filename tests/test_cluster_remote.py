"""Answers that Ray gives in one batch, in an order that cannot be had on purpose: played by hand here."""

from collections import deque
from fractions import Fraction

import pytest

from cluster.crew import Setup
from cluster.dispatch import Limits, State, decide
from cluster.events import Admitted, Fared, Hired, Lost, Predicted
from cluster.tasks import (
    FilmTasks,
    Layout,
    MasterTask,
    Model,
    Outcome,
    Picture,
    Sampling,
    SegmentTask,
    ShotTask,
    VersionTask,
)
from engine.parallel.axes import ALONE
from engine.timeline import PromptSpan, Shot


def film_of_one_shot() -> FilmTasks:
    shot = Shot("s", 25, (PromptSpan("rain"),), "", 1)
    source = ShotTask(Model("/m", "float32", "d"), shot, Sampling(3, 4.0), Layout(4, 2, 1), 64, 64, 32)
    segment = SegmentTask(source, Picture(64, 64, Fraction(8), 20, "ultrafast"))
    return FilmTasks("row", MasterTask((segment,)), (VersionTask((segment,), "und", "", ()),))


class Played:
    """Handles whose answers are set by the test: a reference is a number, its answer a value or an error."""

    def __init__(self) -> None:
        self.answers: dict[int, object] = {}

    def ref(self, answer: object = None) -> int:
        self.answers[len(self.answers)] = answer
        return len(self.answers) - 1

    def get(self, ref: int) -> object:
        if isinstance(self.answers[ref], Exception):
            raise self.answers[ref]
        return self.answers[ref]


@pytest.fixture
def played(monkeypatch):
    """A crew of two gangs and a conductor that is on its canvas's first step."""
    from cluster import remote
    from cluster.conductor import Turn

    play = Played()

    def slots(task):
        return [play.ref() for _ in range(task.course.n_slots)]

    class Stage:
        def open(self, task, opening):
            return [play.ref(Turn(0)), *slots(task)]

        def advance(self, task, opening, predictions):
            return [play.ref(remote.errors.RayActorError()), *slots(task)]

        def ready(self):
            return play.ref()

        def kill(self):
            pass

    class Gang:
        def predict(self, request, window):
            return [play.ref(Fared(0.1, "cpu", ALONE))], play.ref()

        def form(self):
            return [play.ref()]

        def kill(self):
            pass

    crew = remote.RayCrew.__new__(remote.RayCrew)
    crew.setup, crew.events = Setup("/out", "/id"), deque()
    crew.stages, crew.gangs = {"conduct-0": Stage()}, {"gang-0": Gang(), "gang-1": Gang()}
    crew.pending, crew.requests, crew.predictions = {}, {}, {}
    crew.conductors, crew.openings, crew.hires = {}, {}, {}
    monkeypatch.setattr(remote.ray, "get", play.get)
    monkeypatch.setattr(remote, "StageHandle", lambda role, setup: Stage())
    return crew, remote.errors, play


def test_a_conductor_that_dies_in_the_batch_of_a_last_prediction_costs_no_more_than_its_step(played):
    crew, errors, play = played
    film = film_of_one_shot()
    prompts = {key: Outcome(key, "prompt", {}) for key in film.master.segments[0].source.needs}
    state = State(Limits())

    def feed(*events):
        nonlocal state
        for event in events:
            state, actions = decide(state, event)
            for action in actions:
                crew.act(action)

    def settle(*refs):
        for ref in refs:
            crew._settle(ref)
        events, crew.events = list(crew.events), deque()
        return events

    feed(Admitted(film, prompts), Hired("conduct-0", "conduct", 8))
    feed(*settle(*crew.pending))
    feed(Hired("gang-0", "denoise"), Hired("gang-1", "denoise"))
    while len(state.predicting) + len(state.queue) > 1:
        feed(*settle(next(iter(crew.pending))))
    last = next(iter(crew.pending))
    dead = play.ref(errors.RayActorError())
    crew.pending[dead] = type(crew.pending[last])("conduct-0", "", lambda _: None)
    events = settle(last, dead)
    assert [type(event) for event in events] == [Predicted, Lost]
    feed(*events)
    assert all(canvas.step == -1 for canvas in state.canvases.values())
    assert crew.requests == {} and crew.predictions == {}
    feed(*settle(*crew.pending))
    assert "conduct-0" in state.workers, "another stands in its place"
