"""Claims about the loop: while it draws films that are done, it attends to the crew, the clock and people."""

from collections import deque
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster.loop
from cluster.dispatch import Limits
from cluster.events import Done, Hired, Lost, Open, Replace, Run, Ticked
from cluster.loop import LOOK_S, render
from cluster.orders import CANCELLED
from cluster.outcomes import Failure, Outcome
from tests.night import film, shot_task, workers
from tests.test_jobs_control import Desk

SLOW_S = 0.01  # to see that a film is done


class Clocked:
    """A crew that has done everything at once, and tells it one by one; it notes when it is looked at."""

    def __init__(self, now):
        self.now, self.events, self.asked, self.looks, self.closed = now, deque(workers()), [], [], False

    def act(self, action):
        self.asked.append(action)
        match action:
            case Run(worker, task) | Open(worker, task):
                self.events.append(Done(task.key, worker, Outcome(task.key, task.kind, {})))
            case Replace(worker):
                self.events.append(Hired(worker, "denoise"))

    def wait(self, most_s=1.0):
        self.looks.append((self.now.s, most_s))
        if not self.events:
            self.now.s += most_s
        return [self.events.popleft()] if self.events else []

    def close(self):
        self.closed = True


class Night:
    """A job of films in the order of `todo`, a word of letters, in which to see one film takes a while.

    t is to do, d is done; w waits for the first film, and when it is drawn once more others have done it.
    """

    def __init__(self, patch, todo, took_s=(), published_s=()):
        self.now, self.drawn, self.ended, self.ticks = SimpleNamespace(s=0.0), [], [], []
        self.took_s, self.published_s, self.seen = deque(took_s), deque(published_s), set()
        self.todo, self.crew, self.hired_at = todo, Clocked(self.now), None
        patch.setattr(cluster.loop, "time", SimpleNamespace(monotonic=lambda: self.now.s))
        patch.setattr(cluster.loop, "known", self.known)

    def films(self):
        for row in range(len(self.todo)):
            self.drawn.append((self.now.s, row))
            on = ["0"] if self.todo[row] == "w" else []
            yield film(str(row), shot_task(f"s{row}"), depends_on=on)

    def known(self, store, made):
        self.now.s += self.took_s.popleft() if self.took_s else SLOW_S
        letter, again = self.todo[int(made.row_id)], made.row_id in self.seen
        self.seen.add(made.row_id)
        done = letter == "d" or (letter == "w" and again)
        return {task.key: Outcome(task.key, task.kind, {}) for task in made.wanted} if done else {}

    def hire(self):
        assert self.hired_at is None
        self.hired_at = len(self.drawn)
        return self.crew

    def watch(self, event, state):
        if isinstance(event, Ticked):
            self.ticks.append(event.now_s)

    def run(self, desk=None, **more):
        """The rows as they ended."""
        limits = Limits(**more)
        awaited = {"0": None} if "w" in self.todo else {}
        for done in render(self.films(), self.hire, None, limits, self.watch, desk, awaited=awaited):
            self.now.s += self.published_s.popleft() if self.published_s else 0.0
            self.ended.append(done)
        return [each.film.row_id for each in self.ended]


def test_a_film_to_do_is_done_while_hundreds_behind_it_are_found_to_be(monkeypatch):
    night = Night(monkeypatch, "t" + "d" * 500)
    rows = night.run()
    assert sorted(rows, key=int) == [str(k) for k in range(501)] and night.hired_at <= 2
    assert rows.index("0") < 100, "each answer of its workers waited for no more than a few other films"


def test_the_crew_and_the_clock_are_looked_at_while_films_are_drawn_and_never_waited_for(monkeypatch):
    night = Night(monkeypatch, "t" + "d" * 500)
    night.run()
    looked = [at for at, most_s in night.crew.looks if at <= night.drawn[-1][0]]
    assert len(looked) >= 500 * SLOW_S / (LOOK_S + SLOW_S) - 2
    assert all(most_s == 0.0 for _, most_s in night.crew.looks[: len(looked)])
    assert len(night.ticks) == len(night.crew.looks) and night.ticks == sorted(night.ticks)


def test_a_crew_is_looked_at_no_more_often_than_it_is_due_however_quick_films_are(monkeypatch):
    night = Night(monkeypatch, "t" + "d" * 500, took_s=[1e-4] * 501)
    night.crew.events.clear()  # so that the film to do is not done, and nobody is waited for
    films = render(night.films(), night.hire, None, Limits(), night.watch)
    assert len([next(films) for _ in range(500)]) == 500
    assert len(night.crew.looks) <= 501e-4 / LOOK_S + 1


def test_a_gang_that_is_lost_meanwhile_is_replaced_before_the_last_film_is_drawn(monkeypatch):
    night = Night(monkeypatch, "t" + "d" * 200)
    night.crew.events.append(Lost("denoise-0"))
    asked_at = []
    films = render(night.films(), night.hire, None, Limits(), night.watch)
    for _ in films:
        if not asked_at and Replace("denoise-0") in night.crew.asked:
            asked_at.append(len(night.drawn))
    assert asked_at and asked_at[0] < 100


def test_no_crew_is_hired_for_films_that_are_done(monkeypatch):
    night = Night(monkeypatch, "d" * 20)
    assert night.run() == [str(k) for k in range(20)] and night.hired_at is None and night.ticks == []


def test_a_crew_is_let_go_however_the_job_ends(monkeypatch):
    night = Night(monkeypatch, "td")
    films = render(night.films(), night.hire, None, Limits(), night.watch)
    next(films)
    films.close()
    assert night.crew.closed
    calm = Night(monkeypatch, "t")
    assert calm.run() == ["0"] and calm.crew.closed


def test_films_that_waited_for_one_that_is_done_are_seen_one_by_one_with_looks_between_them(monkeypatch):
    night = Night(monkeypatch, "t" + "w" * 40 + "tttt")
    rows = night.run(max_films=2)
    assert sorted(rows, key=int) == [str(k) for k in range(45)]
    looks = [at for at, _ in night.crew.looks]
    assert most_between(looks) <= LOOK_S + 2 * SLOW_S


def test_a_cancel_that_comes_while_done_films_are_drawn_ends_the_film_to_do_before_they_are(monkeypatch):
    night = Night(monkeypatch, "t" + "d" * 100)
    night.crew.events.clear()
    night.run(Desk([], [], [{"order": "cancel"}]))
    assert [each.film.row_id for each in night.ended[:3]].count("0") == 1
    (failed,) = [each for each in night.ended if each.film.row_id == "0"]
    assert {r.code for r in failed.results.values() if isinstance(r, Failure)} == {CANCELLED}


def most_between(times):
    return max((after - before for before, after in pairwise(times)), default=0.0)


SECONDS = st.lists(st.floats(0.0, 0.2), max_size=60)


@settings(deadline=None)
@given(st.text("td", min_size=1, max_size=60), SECONDS, SECONDS, st.integers(1, 8))
def test_from_a_film_to_do_on_there_are_never_more_than_two_films_between_two_looks(
    todo, took_s, published_s, max_films
):
    with pytest.MonkeyPatch.context() as patch:
        night = Night(patch, todo, took_s, published_s)
        rows = night.run(max_films=max_films)
    assert sorted(rows, key=int) == [str(k) for k in range(len(todo))]
    assert (night.hired_at is not None) == ("t" in todo)
    needed = [at for at, row in night.drawn if "t" in todo[: row + 1]]
    if needed:
        looks = [at for at, _ in night.crew.looks if at <= needed[-1]]
        film_s = max([SLOW_S, *took_s]) + max([0.0, *published_s])
        assert most_between([needed[0], *looks, needed[-1]]) <= LOOK_S + 2 * film_s + 1e-9
