"""Claims about models: none is loaded for one window, none waits for ever, and hardly a gang waits."""

from collections import Counter, deque
from dataclasses import replace
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from cluster.affinity import STINT, pairing
from cluster.dispatch import Canvas, Limits, State, Worker, decide
from cluster.events import (
    Admitted,
    Advance,
    Done,
    Fared,
    FilmDone,
    Open,
    Predict,
    Predicted,
    Ranked,
    Run,
    Turned,
    Window,
    Yielding,
)
from cluster.line import Line
from cluster.outcomes import Outcome
from cluster.state import Blame
from engine.parallel.axes import ALONE
from tests.night import Night, film, first, night_of, shot_task, workers

KINDS = ("m", "another", "a third")


def loads(night):
    """How often each gang had to load weights."""
    had, count = {}, 0
    for call in [action for action in night.log if isinstance(action, Predict)]:
        count += had.get(call.gang) != call.task.model
        had[call.gang] = call.task.model
    return count


def predicting(call):
    return isinstance(call, Predict)


def two_models(n_films, gangs, **limits):
    """Films of both models by turns, all of whose shots may be open at once."""
    made = [film(str(k), shot_task(f"s{k}", 3, model=KINDS[k % 2])) for k in range(n_films)]
    limits = {"max_films": n_films, "max_canvases": n_films} | limits
    return night_of(*made, staff=workers(gangs=gangs, canvases=n_films, decoders=n_films), **limits)


def test_a_gang_keeps_its_model_while_windows_of_it_are_ready():
    one, other = shot_task("one", 3), shot_task("other", 3, model="another")
    night = night_of(film("1", one), film("2", other))
    night.run(stop=lambda: len(night.state.queue) == 5)
    call = first(night, predicting)
    for _ in range(2):
        night.answer(first(night, predicting))
        assert first(night, predicting).task == call.task, "of its own"
    night.answer(first(night, predicting))
    assert first(night, predicting).task != call.task, "none of its own is ready, and no gang waits"
    night.run().check_end(["1", "2"])


def test_it_keeps_it_though_a_film_of_another_model_comes_first_until_its_stint_is_over():
    night = two_models(2 * STINT, gangs=1)
    night.run(stop=lambda: len(night.state.queue) >= 6 * STINT - 3)
    (mine, before), predicted = night.state.loaded["denoise-0"], 0
    others = [row for row, f in night.state.films.items() if f.made.master.segments[0].source.model != mine]
    night.tell(Ranked(frozenset(others), 50))
    while (call := first(night, predicting)).task.model == mine:
        night.answer(call)
        predicted += 1
    assert before - 1 + predicted == STINT


def test_of_two_models_by_turns_a_gang_loads_each_once_or_twice_and_not_one_for_every_film():
    night = two_models(8, gangs=2).run()
    assert 3 <= loads(night) <= 6


def test_a_fresh_gang_takes_the_first_in_line_rather_than_one_that_would_have_to_load_anew():
    night = two_models(2, gangs=1)
    night.run(stop=lambda: len(night.state.queue) == 5)
    (busy,) = [call for call in night.calls if isinstance(call, Predict)]
    for hired in workers(gangs=2):
        if hired.worker == "denoise-1":
            night.staff[hired.worker] = hired
            night.hires.append(hired)
            night.hire()
    calls = [call for call in night.calls if isinstance(call, Predict)]
    assert len(calls) == 2 and calls[0] == busy


@pytest.mark.parametrize("models", [1, 2])
def test_a_long_shot_that_avoids_a_host_hides_no_other_from_the_gangs_there(models):
    tasks = [shot_task(f"s{k}", model=f"m{k % models}") for k in range(4)]
    canvases = Map({task.key: Canvas(task, "conduct-0", 1, (0, k, 0)) for k, task in enumerate(tasks)})
    parts = [13, 13, 1, 1]
    line = [
        ((0, k, 0), Window(task.key, 1, 0, part)) for k, task in enumerate(tasks) for part in range(parts[k])
    ]
    avoided = frozenset(task.key for task in tasks[:2])
    state = State(
        Limits(),
        canvases=canvases,
        windows=Line(line),
        models=Map({task.model: 1 for task in tasks}),
        workers=Map({"here": Worker("denoise", 1, host="a"), "there": Worker("denoise", 1, 1, host="b")}),
        blamed=Map({"a": (Blame("here", avoided),)}),
    )
    place, gang = pairing(state, [(0, "here")])
    assert (state.windows[place][1].shot, gang) == (tasks[2].key, "here")


def test_with_one_model_the_first_in_line_goes_first_as_ever():
    one, other = shot_task("one", 3), shot_task("other", 3)
    night = night_of(film("1", one), film("2", other)).run()
    shots = [action.task.shot.shot_id for action in night.log if isinstance(action, Predict)]
    assert shots == ["one"] * 3 + ["other"] + ["one"] * 3 + ["other"] * 5


def test_a_gang_that_was_lost_has_no_model():
    night = two_models(2, gangs=1)
    night.run(stop=lambda: night.state.loaded)
    night.lose("denoise-0")
    assert not night.state.loaded


LOADING_S, TURN_S = 10.0, 0.05


class Clock:
    """A night of calls that take their time: a window a second, and LOADING_S more with weights to load."""

    def __init__(self, films, staff, **limits):
        self.state, self.queue, self.count, self.now_s = State(Limits(**limits)), [], 0, 0.0
        self.had, self.loads, self.predicted, films = {}, 0, 0, deque(films)
        for hired in staff:
            self.tell(hired)
        while films or self.queue:
            while films and self.state.room > 0:
                self.tell(Admitted(films.popleft(), {}))
            self.now_s, _, event = heappop(self.queue)
            self.tell(event)
        assert not self.state.films

    def tell(self, event):
        self.state, actions = decide(self.state, event)
        for action in [action for action in actions if not isinstance(action, FilmDone)]:
            self.count += 1
            seconds, answer = self.begun(action)
            heappush(self.queue, (self.now_s + seconds, self.count, answer))

    def begun(self, action):
        """How long a call takes, and what comes of it."""
        match action:
            case Predict(gang, task, window):
                load = self.had.get(gang) != task.model
                self.had[gang], self.loads, self.predicted = task.model, self.loads + load, self.predicted + 1
                seconds = 1.0 + LOADING_S * load
                return seconds, Predicted(gang, window, Fared(seconds, "cpu", ALONE))
            case Open(_, task, opening):
                return TURN_S, Turned(task.key, opening, 0)
            case Advance(_, task, opening, step) if step + 1 < task.course.n_steps:
                return TURN_S, Turned(task.key, opening, step + 1)
            case Advance(worker, task) | Run(worker, task):
                return TURN_S, Done(task.key, worker, Outcome(task.key, task.kind, {}))


@pytest.mark.parametrize(
    ("n_films", "gangs", "canvases", "kinds", "loads", "share"),
    [
        (2, 2, 4, 2, 4, 0.65),
        (8, 2, 4, 2, 5, 0.85),
        (16, 4, 4, 2, 20, 0.8),
        (32, 4, 8, 2, 10, 0.9),
        (32, 8, 16, 3, 30, 0.75),
    ],
)
def test_weights_are_loaded_a_few_times_a_gang_and_not_at_every_step(
    monkeypatch, n_films, gangs, canvases, kinds, loads, share
):
    """Where loading takes as long as ten windows. Gangs that took whatever was ready loaded 80, 32, 213, 108
    and 266 times, and predicted in 0.13, 0.60, 0.30, 0.62 and 0.41 of their time."""
    monkeypatch.setattr("tests.night.N_STEPS", 20)
    made = [film(str(k), shot_task(f"20 steps {k}", 3, model=KINDS[k % kinds])) for k in range(n_films)]
    night = Clock(made, workers(gangs=gangs, canvases=canvases), max_canvases=canvases)
    assert night.predicted == n_films * 3 * 20
    at_work = night.predicted / night.now_s / gangs
    assert night.loads <= loads and at_work > share, (night.loads, at_work)


def test_a_gang_waits_for_its_own_next_step_while_another_is_at_work_with_the_model_of_what_is_ready():
    night = two_models(2, gangs=2)
    night.run(stop=lambda: {model.folder for model in night.state.having} == {"/m", "/another"})
    mine = next(gang for gang, (model, _) in night.state.loaded.items() if model.folder == "/m")
    night.run(stop=lambda: night.state.idle.get("denoise"), skip=predicts_another)
    assert [name for _, name in night.state.idle["denoise"]] == [mine] and night.state.queue
    night.run(stop=lambda: len(night.state.models) == 1, skip=predicts_another)
    assert not night.state.idle.get("denoise"), "of its own there is nothing to come, and so it helps"


def test_a_window_goes_to_whoever_has_its_model_however_many_gangs_wait_before_it():
    night = two_models(2, gangs=0)
    night.run(stop=lambda: len(night.state.queue) == 6)
    state, many = night.state, [f"gang-{number:02}" for number in range(40)]
    own, other = sorted(state.models, key=lambda model: model.folder != "/m")
    loaded = Map(dict.fromkeys(many, (own, 1)) | {"the last": (other, 1)})
    state = replace(
        state,
        windows=Line([entry for entry in state.windows if state.canvases[entry[1].shot].task.model == other]),
        loaded=loaded,
        having=Map({own: len(many), other: 1}),
        workers=Map({name: Worker("denoise", 1) for name in loaded}),
    )
    assert pairing(state, [(0, name) for name in [*many, "the last"]]) == (0, "the last")
    assert pairing(state, [(0, name) for name in many]) is None, "that one is at work"


def predicts_another(call):
    return isinstance(call, Predict) and call.task.model.folder == "/another"


def test_whoever_is_to_be_given_up_has_no_model_for_which_a_window_would_wait():
    night = two_models(2, gangs=2)
    night.run(stop=lambda: len(night.state.having) == 2)
    for name in list(night.state.loaded):
        night.tell(Yielding(name))
    assert not night.state.loaded and not night.state.having


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.binary(min_size=300, max_size=300),
)
def test_however_models_are_mixed_no_ready_window_waits_but_for_a_gang_at_work_and_all_films_end(
    models, gangs, canvases, tape
):
    made = [film(str(k), shot_task(f"s{k}", 2, model=model)) for k, model in enumerate(models)]
    limits = Limits(max_films=len(made), max_canvases=canvases)
    night = Night(made, workers(gangs=gangs), limits, tape)

    def stop():
        state = night.state
        model_of = {key: canvas.task.model for key, canvas in state.canvases.items()}
        at_work = {state.loaded[gang][0] for gang in state.predicting.values()}
        for _, gang in state.idle.get("denoise", ()) if state.queue else ():
            assert state.loaded[gang][0] in set(model_of.values()), "nothing of its own is to come"
            assert {model_of[window.shot] for window in state.queue} <= at_work
        assert set(state.models) == set(model_of.values())
        assert state.having == Map(Counter(model for model, _ in state.loaded.values()))
        return False

    night.run(stop=stop)
    night.check_end([each.row_id for each in made])
