"""Claims about models: a gang loads none for one window, none waits for ever, and no gang waits either."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.affinity import STINT
from cluster.dispatch import Limits
from cluster.events import Predict, Ranked
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.binary(min_size=300, max_size=300),
)
def test_however_models_are_mixed_no_ready_window_waits_beside_an_idle_gang_and_all_films_end(
    models, gangs, canvases, tape
):
    made = [film(str(k), shot_task(f"s{k}", 2, model=model)) for k, model in enumerate(models)]
    limits = Limits(max_films=len(made), max_canvases=canvases)
    night = Night(made, workers(gangs=gangs), limits, tape)

    def stop():
        assert not (night.state.queue and night.state.idle.get("denoise"))
        in_use = {canvas.task.model for canvas in night.state.canvases.values()}
        assert set(night.state.models) == in_use
        return False

    night.run(stop=stop)
    night.check_end([each.row_id for each in made])
