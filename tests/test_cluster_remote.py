"""Answers that Ray gives in one batch, in an order that cannot be had on purpose: played by hand here."""

import time
from collections import deque
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from cluster import ground, remote
from cluster.crew import Setup
from cluster.dispatch import Limits, State, decide
from cluster.events import (
    Admitted,
    Draining,
    Fared,
    Hired,
    Lost,
    Predicted,
    Raised,
    Replace,
    Yielding,
)
from cluster.ground import Ground
from cluster.hiring import HIRES, PARKED_S, CrewError, Hires
from cluster.identity import Model, Picture, Sampling
from cluster.outcomes import Failure, Outcome
from cluster.pool import Pool
from cluster.progress import Progress
from cluster.shortage import Shortage
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.faults import PeerFailed
from engine.parallel.axes import ALONE, Axes
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from jobs.show import trouble


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
    from cluster.canvases import Canvases
    from cluster.conductor import Turn

    play = Played()

    def slots(task):
        return [play.ref() for _ in range(task.course.n_slots)]

    class Stage:
        def open(self, task, opening):
            return [play.ref(Turn(0)), *slots(task)]

        def advance(self, task, opening, predictions, gpu_s):
            return [play.ref(remote.errors.RayActorError()), *slots(task)]

        def ready(self):
            return play.ref()

        def kill(self):
            pass

    class Gang:
        def __init__(self, *made):
            self.made = made

        def node(self):
            return "f00dfeedcafe"

        def disband(self):
            self.made = None

        def predict(self, request, window):
            return [play.ref(Fared(0.1, "cpu", ALONE))], play.ref()

        def form(self):
            return [play.ref()]

        def kill(self):
            pass

    crew = remote.RayCrew.__new__(remote.RayCrew)
    crew.setup, crew.events = Setup("/out", "/id"), deque()
    crew.stages, crew.gangs = {"conduct-0": Stage()}, {"gang-0": Gang(), "gang-1": Gang()}
    crew.pending, crew.canvases, crew.hires, crew.causes = {}, Canvases(), Hires(), {}
    crew.ground, crew.next_look_s = Ground(), float("inf")
    crew.pool = Pool(replace(crew.setup, gangs=2), None, growing=False)
    crew.part, crew.place = None, ("here", 0)
    monkeypatch.setattr(remote.ray, "get", play.get)
    monkeypatch.setattr(ground, "draining_nodes", set)
    monkeypatch.setattr(ground, "living", lambda: {"node-a": {"CPU": 2.0}})
    monkeypatch.setattr(remote, "placeless", lambda gangs: [])
    monkeypatch.setattr(remote, "StageHandle", lambda role, setup: Stage())
    monkeypatch.setattr(remote, "Gang", Gang)
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
    assert crew.canvases.requests == {} and crew.canvases.predictions == {}
    feed(*settle(*crew.pending))
    assert "conduct-0" in state.workers, "another stands in its place"


def refused(cause):
    return RayTaskError("predict", "", cause)


def shortage():
    return refused(Shortage(Failure("E920_MEMORY", "a window needs 62.0 GiB", "use less")))


COLLECTIVE = RuntimeError("Connection closed by peer [127.0.0.1]:4012")
CAUSES = {
    "E921_GPU_OOM": lambda: refused(torch.OutOfMemoryError("CUDA out of memory")),
    "E922_HOST_OOM": lambda: OutOfMemoryError("the memory monitor ended it"),
    "E920_MEMORY": shortage,
    "E923_GPU_FAULT": lambda: refused(RuntimeError("CUDA error: an illegal memory access was encountered")),
}


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("code", CAUSES)
def test_a_peers_error_of_the_collective_hides_no_rank_that_ran_out_of_memory_whichever_comes_first(
    played, monkeypatch, code, own_first
):
    crew, _, play = played
    crew.setup = replace(crew.setup, axes=Axes.of_gang(1, 1, 2))
    answers = [CAUSES[code](), refused(COLLECTIVE)]
    refs = [play.ref(answer) for answer in answers]
    call = crew_call("gang-0", "key")
    crew.pending = dict.fromkeys(refs, call)
    monkeypatch.setattr("cluster.remote.ray.wait", lambda refs, **_: (list(refs), []))
    for ref in refs if own_first else refs[::-1]:
        crew._settle(ref)
    (lost,) = crew.events
    assert isinstance(lost, Lost) and lost.failure is not None and lost.failure.code == code
    assert not crew.pending and not crew.causes


def test_a_lone_rank_whose_gpu_failed_is_replaced_as_nothing_that_it_computes_is_right_from_then_on(played):
    crew, _, play = played
    ref = play.ref(CAUSES["E923_GPU_FAULT"]())
    crew.pending = {ref: crew_call("gang-0", "key")}
    crew._settle(ref)
    (lost,) = crew.events
    assert isinstance(lost, Lost) and lost.failure.error_class == "GPU_FAULT"


def test_a_worker_whose_node_is_gone_is_lost_with_its_node_and_one_that_died_alone_is_not(
    played, monkeypatch
):
    crew, errors, play = played
    monkeypatch.setattr("cluster.ground.lives", {"node-a"}.__contains__)
    for worker, node in (("gang-0", "node-b"), ("gang-1", "node-a")):
        crew.ground.came(worker, node)
        dead = play.ref(errors.RayActorError())
        crew.pending[dead] = crew_call(worker, "key")
        crew._settle(dead)
    told = {event.worker: event.failure and event.failure.error_class for event in crew.events}
    assert told == {"gang-0": "NODE_LOST", "gang-1": None}


def test_a_peers_error_of_the_collective_alone_says_nothing_of_the_cause(played, monkeypatch):
    crew, _, play = played
    crew.setup = replace(crew.setup, axes=Axes.of_gang(1, 1, 2))
    first, second = play.ref(refused(COLLECTIVE)), play.ref(refused(COLLECTIVE))
    crew.pending = dict.fromkeys((first, second), crew_call("gang-0", "key"))
    monkeypatch.setattr("cluster.remote.ray.wait", lambda refs, **_: (list(refs), []))
    crew._settle(first)
    crew._settle(second)
    assert list(crew.events) == [Lost("gang-0")]


def test_an_error_that_all_ranks_raise_is_the_tasks_and_costs_no_gang(played):
    crew, _, play = played
    crew.setup = replace(crew.setup, axes=Axes.of_gang(1, 1, 2))
    refs = [play.ref(refused(ValueError("no such thing"))) for _ in range(2)]
    crew.pending = dict.fromkeys(refs, crew_call("gang-0", "key"))
    for ref in refs:
        crew._settle(ref)
    (raised,) = crew.events
    assert isinstance(raised, Raised) and raised.failure.error_class == "DATA" and not crew.causes


@pytest.mark.parametrize("turn", range(3))
def test_what_one_rank_could_not_load_is_told_as_its_own_and_costs_no_gang(played, turn):
    crew, _, play = played
    crew.setup = replace(crew.setup, axes=Axes.of_gang(1, 1, 3))
    causes = [TimeoutError("the store is slow"), PeerFailed("ranks [0]"), PeerFailed("ranks [0]")]
    refs = [play.ref(refused(cause)) for cause in causes[turn:] + causes[:turn]]
    crew.pending = dict.fromkeys(refs, crew_call("gang-0", "key"))
    for ref in refs:
        crew._settle(ref)
    (raised,) = crew.events
    assert isinstance(raised, Raised) and raised.failure.error_class == "TRANSIENT" and not crew.causes


def test_a_worker_that_is_late_is_lost_once_however_many_calls_it_owes(played, monkeypatch):
    crew, _, play = played
    late = [crew_call("conduct-0", key, bound_s=0.0) for key in ("a", "b")]
    crew.pending = {play.ref(): call for call in (*late, crew_call("gang-0", "c", bound_s=60.0))}
    monkeypatch.setattr("cluster.remote.ray.wait", lambda refs, **_: ([], list(refs)))
    (lost,) = crew.wait()
    assert isinstance(lost, Lost) and lost.worker == "conduct-0" and lost.failure.code == "E911_HUNG"
    assert "cluster.step_timeout_s" in lost.failure.hint and len(crew.pending) == 1


def test_a_look_at_the_crew_waits_for_nothing_whether_calls_are_under_way_or_none(played, monkeypatch):
    crew, _, play = played
    waited = []
    monkeypatch.setattr("cluster.remote.time.sleep", waited.append)
    monkeypatch.setattr(
        "cluster.remote.ray.wait", lambda refs, timeout, **_: waited.append(timeout) or ([], list(refs))
    )
    assert crew.wait(0.0) == []
    crew.pending = {play.ref(): crew_call("gang-0", "key", bound_s=60.0)}
    assert crew.wait(0.0) == [] and waited == [0.0, 0.0]
    crew.wait()
    assert waited[2] == 1.0


def crew_call(worker, key, **more):
    from cluster.calls import Call

    return Call(worker, key, lambda _: None, **more)


def dies_at_its_start(crew, play, worker):
    """Let a worker that is being started die as one does without its GPU, as often as it is started."""
    for _ in range(HIRES):
        (ref,) = [ref for ref, call in crew.pending.items() if call.worker == worker and call.key == ""]
        error = RuntimeError("CUDA error: no device is available")
        play.answers[ref] = ActorDiedError(RayTaskError("Rank.__init__", f"Traceback\n{error!r}", error))
        crew._settle(ref)


def test_a_gang_whose_gpu_is_gone_from_a_living_node_is_parked_and_told_and_tried_later_in_another_place(
    played, monkeypatch
):
    crew, _, play = played
    crew._hire("gang-0")
    before = crew.gangs["gang-0"]
    dies_at_its_start(crew, play, "gang-0")
    (lost,) = crew.events
    assert lost.worker == "gang-0" and lost.failure.code == "E914_PARKED"
    for said in ("gang-0", "on node f00dfeed", "no device is available", f"{HIRES} times"):
        assert said in lost.failure.message
    assert not crew.pending and before.made is None, "its place is given back"
    monkeypatch.setattr("cluster.remote.ray.wait", lambda refs, **_: ([], list(refs)))
    now_s = time.monotonic()
    crew.wait()
    assert not crew.pending, "it is left alone"
    monkeypatch.setattr("cluster.hiring.time.monotonic", lambda: now_s + PARKED_S + 1)
    crew.wait()
    assert crew.gangs["gang-0"] is not before and not crew.hires.parked
    (ref,) = crew.pending
    play.answers[ref] = "another node"
    crew._settle(ref)
    assert crew.events[-1] == Hired("gang-0", "denoise", 1, "another node") and not crew.hires


def test_a_parked_gang_is_told_to_people_and_is_nothing_to_dispatch(played):
    crew, _, play = played
    crew._hire("gang-0")
    dies_at_its_start(crew, play, "gang-0")
    (lost,) = crew.events
    state = State(Limits())
    assert decide(state, lost) == (state, [])
    told = trouble(lost, state, Progress())
    assert told is not None and told.startswith("E914_PARKED gang-0 died") and "others go on" in told


def test_a_job_ends_only_where_nobody_of_a_role_is_left(played):
    crew, _, play = played
    for gang in ("gang-0", "gang-1"):
        crew._hire(gang)
    dies_at_its_start(crew, play, "gang-0")
    with pytest.raises(
        CrewError, match=r"gang-1 died 5 times before its first call on node f00dfeed: .*CUDA"
    ):
        dies_at_its_start(crew, play, "gang-1")
    crew._hire("conduct-0")
    with pytest.raises(CrewError, match="conduct-0 died 5 times before its first call: RuntimeError"):
        dies_at_its_start(crew, play, "conduct-0")


def test_a_node_that_is_about_to_go_is_told_once_and_not_asked_for_at_every_turn(played, monkeypatch):
    crew, _, _ = played
    looks = []
    monkeypatch.setattr(ground, "draining_nodes", lambda: looks.append(1) or {"node-b", "node-a"})
    crew.ground.draining, crew.next_look_s = {"node-a"}, 0.0
    crew._notice()
    crew._notice()
    assert list(crew.events) == [Draining("node-b")] and len(looks) == 1
    crew.next_look_s = 0.0
    crew._notice()
    assert list(crew.events) == [Draining("node-b")] and len(looks) == 2


def test_a_gang_whose_place_went_with_its_node_gets_another_at_once_and_an_idle_one_is_found_out(
    played, monkeypatch
):
    crew, _, _ = played
    first, idle = crew.gangs["gang-0"], crew.gangs["gang-1"]
    crew._hire("gang-0")
    monkeypatch.setattr(remote, "placeless", lambda gangs: [name for name in gangs if gangs[name].made == ()])
    monkeypatch.setattr(ground, "lives", lambda node: False)
    crew.ground.came("gang-1", "node-b")
    crew.next_look_s = 0.0
    crew._notice()
    assert first.made is None and crew.gangs["gang-0"] is not first and crew.hires == {"gang-0": 1}
    assert [call.worker for call in crew.pending.values()] == ["gang-0"], "nobody waits for the first one"
    (lost,) = crew.events
    assert (lost.worker, lost.failure.error_class) == ("gang-1", "NODE_LOST")
    crew.act(Replace("gang-1"))
    crew.next_look_s = 0.0
    crew._notice()
    assert idle.made is None and crew.gangs["gang-1"] is not idle


def test_a_gang_that_another_job_gets_goes_once_it_is_idle_and_comes_back_in_a_place_of_its_own(
    played, monkeypatch
):
    from cluster.shares import Holding
    from cluster.yielding import Part

    crew, _, play = played
    gone, founded = [], []
    crew.place, crew.next_look_s = ("here", 0), 0.0

    class Place:
        def __init__(self, name, setup, place):
            founded.append((name, place))

        def form(self):
            return [play.ref("node")]

        def disband(self):
            gone.append(self)

    part = Part.__new__(Part)
    part.setup, part.ranks, part.allowed, part.most, part.busy_s = crew.setup, 1, 1, 2, {}
    part.holding, part.over = Holding(frozenset()), True
    monkeypatch.setattr(Part, "_ask", lambda self, now_s: None)
    monkeypatch.setattr(remote, "Gang", Place)
    for gang in crew.gangs.values():
        monkeypatch.setattr(type(gang), "disband", lambda self: gone.append(self), raising=False)
    crew.pool.part, other = part, crew.gangs["gang-1"]
    call = remote.Call("gang-1", "a shot", lambda fared: fared)
    crew.pending = {play.ref(): call}

    def turn():
        crew.next_look_s = 0.0
        crew._give_up()
        crew._notice()
        events, crew.events = list(crew.events), deque()
        return events

    assert turn() == [Yielding("gang-1")]
    assert turn() == [] and not gone, "it is at work still"
    crew.pending.clear()
    (lost,) = turn()
    assert gone == [other] and lost.worker == "gang-1" and lost.failure.error_class == "PREEMPTED"
    crew.act(Replace("gang-1"))
    assert not founded and not crew.pending, "nobody is hired in its place"
    part.allowed = 2
    assert turn() == [] and founded == [("gang-1", ("here", 0))]
    assert [pending.worker for pending in crew.pending.values()] == ["gang-1"]
    assert turn() == [] and founded == [("gang-1", ("here", 0))], "it is on its way"
