"""Claims about progress: what is counted is what is left, however often workers die and films share shots."""

from dataclasses import replace
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.events import Admitted, Done, FilmDone, Hired, Lost, Predicted, Turned, Window
from cluster.identity import Model, Picture, Sampling
from cluster.outcomes import Failure, Outcome
from cluster.progress import RECENT, Progress, Work, advance, eta_s, line
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from jobs.census import work_of_size
from jobs.size import forecast

N_STEPS, N_PARTS = 3, 2
FAILURE = Failure("E900_RENDER", "it broke")


def shot_task(name, n_frames=25, n_steps=N_STEPS):
    shot = Shot(name, n_frames, (PromptSpan("a prompt"),), "", seed=1)
    layout = Layout(size=5, overlap=2, lead_in=1)
    return ShotTask(Model("/m", "float32", "m"), shot, Sampling(n_steps, 6.0), layout, 16, 16, 8)


def film(row_id, *shots, langs=("hi-IN",)):
    segments = tuple(SegmentTask(shot, Picture(32, 32, Fraction(8), 20, "fast")) for shot in shots)
    versions = tuple(VersionTask(segments, lang, row_id, ()) for lang in langs)
    return FilmTasks(row_id, MasterTask(segments), versions)


def outcome(task, reused=False):
    return Outcome(task.key, task.kind, {}, seconds=1.0, reused=reused)


def ended(made, result=outcome):
    return FilmDone(made, {key: result(task) for key, task in made.tasks.items()})


def work_of(films):
    return work_of_size(forecast(films, None))


def shot_events(task, opening=1, first=0, last=N_STEPS):
    """A canvas opened before step `first` and predicted up to step `last`."""
    for step in range(first, last):
        yield Turned(task.key, opening, step)
        for part in range(N_PARTS):
            yield Predicted("gang-0", Window(task.key, opening, step, part))


def after(progress, *events):
    return reduce(advance, events, progress)


A, B = shot_task("a"), shot_task("b")
TOTAL = 2 * N_PARTS * N_STEPS
START = Progress(films=1, windows=TOTAL)


def test_work_is_counted_in_distinct_shots():
    assert A.course.n_windows == N_PARTS
    films = [film("one", A, B, A), film("two", A, shot_task("c", 17, n_steps=5))]
    assert work_of(films) == Work(2, 3, 2 * N_PARTS + 1, TOTAL + 5, (3, 5))
    assert work_of(films).window_steps == TOTAL + 5
    assert work_of([]).window_steps == 0


def test_a_window_counts_once_for_every_prompt_that_shows_in_it():
    spans = (PromptSpan("sun"), PromptSpan("rain", start=12, blend=8))
    two = replace(A, shot=replace(A.shot, prompts=spans))
    assert work_of([film("one", two)]).window_steps == two.course.n_windows * N_STEPS > N_PARTS * N_STEPS


def test_every_prediction_moves_the_count_by_one():
    progress = after(START, Admitted(film("one", A, B)))
    counts = []
    for event in shot_events(A):
        progress = advance(progress, event)
        counts += [progress.windows_done] if isinstance(event, Predicted) else []
    assert counts == list(range(1, N_PARTS * N_STEPS + 1))
    assert after(progress, Done(A.key, "conduct-0", outcome(A))).shots_done == 1


def test_a_film_done_before_is_behind_at_once_and_has_no_pace():
    made = film("one", A, B)
    known = {task.key: outcome(task, reused=True) for task in made.wanted}
    progress = after(START, Admitted(made, known))
    assert (progress.windows_done, progress.predicted, eta_s(progress, 5.0)) == (TOTAL, 0, None)
    progress = advance(progress, FilmDone(made, known))
    assert (progress.films_done, progress.films_reused, progress.over) == (1, 1, True)


def test_a_shot_that_goes_on_from_a_checkpoint_begins_there():
    progress = after(START, Admitted(film("one", A, B)), Turned(A.key, 1, 2))
    assert (progress.windows_done, progress.predicted) == (2 * N_PARTS, 0)


def test_what_is_done_again_after_a_loss_is_not_counted_twice():
    progress = after(START, Admitted(film("one", A, B)), *shot_events(A, last=2))
    again = after(progress, Turned(A.key, 2, 0), Predicted("gang-1", Window(A.key, 2, 0, 1)))
    assert again.windows_done == progress.windows_done == 2 * N_PARTS
    late = after(again, Predicted("gang-0", Window(A.key, 1, 1, 0)), Predicted("g", Window(A.key, 2, 0, 1)))
    assert late.windows_done == progress.windows_done


def test_a_failed_film_leaves_nothing_ahead():
    made = film("one", A, B)
    progress = after(START, Admitted(made), *shot_events(A, last=1), ended(made, lambda task: FAILURE))
    assert (progress.films_failed, progress.windows_done, eta_s(progress, 9.0)) == (1, TOTAL, 0.0)


def test_a_film_that_fails_in_one_language_has_failed():
    made = film("one", A, langs=("hi-IN", "ta-IN"))
    results = {task.key: outcome(task) for task in made.tasks.values()} | {made.versions[1].key: FAILURE}
    progress = advance(START, FilmDone(made, results))
    assert (progress.films_done, progress.films_failed) == (0, 1)


def test_an_opening_that_all_films_share_is_counted_once():
    films = [film(f"film-{i}", A, shot_task(f"shot-{i}")) for i in range(5)]
    total = work_of(films).window_steps
    assert total == 6 * N_PARTS * N_STEPS
    progress = Progress(films=5, windows=total)
    for made in films:
        progress = after(progress, Admitted(made), ended(made))
    assert progress.windows_done == total


def test_memory_is_bounded_however_many_shots_pass():
    small = replace(START, seen=dict.fromkeys(map(str, range(RECENT))))
    progress = after(small, Admitted(film("one", A, B)))
    assert len(progress.seen) == RECENT and {A.key, B.key} <= progress.seen.keys()
    assert not after(progress, ended(film("one", A, B))).places


def test_a_shot_that_is_counted_again_is_never_beyond_the_whole():
    progress = replace(START, behind=TOTAL - 1)
    assert after(progress, Admitted(film("one", A, B)), *shot_events(A)).windows_done == TOTAL


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, N_STEPS), st.integers(0, N_PARTS - 1))))
def test_progress_never_goes_back_and_never_beyond_the_end(tape):
    progress = after(START, Admitted(film("one", A, B)))
    for opening, step, part in tape:
        turned = after(progress, Turned(A.key, opening, min(step, N_STEPS - 1)))
        later = after(turned, Predicted("gang-0", Window(A.key, opening, step, part)))
        assert progress.windows_done <= later.windows_done <= N_PARTS * N_STEPS
        progress = later


def test_workers_are_counted_by_role_and_a_loss_once():
    hired = [Hired("gang-0", "denoise"), Hired("gang-1", "denoise"), Hired("finish-0", "finish")]
    progress = after(START, *hired, Lost("gang-1"), Lost("gang-1"))
    assert (progress.alive("denoise"), progress.alive("finish"), progress.lost) == (1, 1, 1)
    assert after(progress, Hired("gang-1", "denoise")).alive("denoise") == 2


def test_the_end_is_known_once_there_is_a_pace():
    progress = after(START, Admitted(film("one", A, B)))
    assert eta_s(progress, 60.0) is None
    progress = after(progress, *shot_events(A, last=1))
    assert eta_s(progress, 10.0) == pytest.approx((TOTAL - N_PARTS) * 10.0 / N_PARTS)


def test_the_line_says_films_windows_gangs_losses_and_times():
    progress = Progress(
        films=12, windows=7391, films_done=2, films_failed=1, predicted=412, behind=412, lost=1
    )
    progress = after(progress, Hired("gang-0", "denoise"), Hired("gang-1", "denoise"))
    assert line(progress, 412.0) == (
        "films 3/12, 1 failed  windows 412/7,391 (5%)  gangs 2  lost 1  elapsed 0:06:52  eta 1:56:19"
    )
    assert line(Progress(), 0.0) == "films 0/0  windows 0/0  gangs 0  elapsed 0:00:00  eta 0:00:00"
