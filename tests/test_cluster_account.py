"""Claims about GPU-seconds: all that gangs spent is kept or wasted, by one film or by the job alone."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.account import Account, advance, closed, settled
from cluster.classes import CLASSES
from cluster.dispatch import Limits
from cluster.events import (
    Admitted,
    Done,
    Fared,
    FilmDone,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Turned,
    Window,
)
from cluster.outcomes import Failure, Outcome
from cluster.tally import CAUSES, US
from engine.parallel.axes import Axes
from tests.night import Night, film, shot_task, workers

PAIR = Axes.of_gang(1, 1, 2)  # two ranks
TAPE = st.binary(max_size=400)
quietly = settings(deadline=None, max_examples=50)


def seconds_of(window):
    """What a window takes, whoever predicts it and whenever."""
    return 1.0 + window.part + 0.25 * window.step + 0.125 * (int(window.shot[:2], 16) % 7)


def open_us(account):
    """Used by shots that have not ended."""
    return sum(paid.us for paid in account.shots.values())


class Kept(Night):
    """A night with its books, and what must be in them, counted from what was asked and answered."""

    def __init__(self, *films, staff=None, tape=b"", troubles=0, late=True):
        super().__init__(list(films), staff or workers(gangs=3), Limits(max_films=3), tape, troubles)
        self.account, self.seconds, self.tallies, self.losing_late = Account(ranks=2), 0.0, {}, not late
        self.under_way, self.spent, self.entered, self.made = {}, Counter(), {}, set()

    def lose(self, worker, failure=None):
        super().lose(worker, failure)
        if self.losing_late:
            self.late = []

    def tell(self, event):
        self.seconds += 1.0
        if isinstance(event, Predicted):
            event = replace(event, fared=Fared(seconds_of(event.window), "cpu", PAIR))
        self.book(event)
        self.account = advance(self.account, self.seconds, event)
        n = len(self.log)
        super().tell(event)
        for action in self.log[n:]:
            self.book(action)
            if isinstance(action, FilmDone):
                self.account, tally = settled(self.account, action)
                self.tallies.setdefault(action.film.row_id, []).append(tally)
            else:
                self.account = advance(self.account, self.seconds, action)
        self.check_account()
        self.seen(event, self.log[n:])

    def seen(self, event, actions):
        """For others who watch."""

    def finish(self, worker, task):
        if task.kind == "shot" and task.key not in self.store:
            facts = {"gpu_s": self.entered_us(task.key) / US} if task.key in self.entered else {}
            self.store[task.key] = Outcome(task.key, task.kind, {}, facts)
        super().finish(worker, task)

    def book(self, what):
        """Who is at which window, and what the latest answer to it took."""
        match what:
            case Predict(gang, _, window):
                self.under_way[window] = gang, self.seconds
            case Predicted(gang, window) if self.under_way.get(window, ("",))[0] == gang:
                del self.under_way[window]
                self.spent["answered"] += 2 * round(US * seconds_of(window))
                self.entered.setdefault(window.shot, {})[window.step, window.part] = seconds_of(window)
            case Raised(_, worker, _, window) if self.under_way.get(window, ("",))[0] == worker:
                self.spent["lost"] += 2 * round(US * (self.seconds - self.under_way.pop(window)[1]))
            case Lost(worker):
                for window in [w for w, (gang, _) in self.under_way.items() if gang == worker]:
                    self.spent["lost"] += 2 * round(US * (self.seconds - self.under_way.pop(window)[1]))
            case Done(key) if key in self.entered and key not in self.made:
                self.made.add(key)

    def check_account(self):
        account = self.account
        assert account.used_us == sum(self.spent.values()), "used is what gangs were asked for, and no more"
        assert account.used_us == account.job.used_us + open_us(account)
        assert min([open_us(account), account.job.kept_us, account.job.saved_us]) >= 0
        assert all(us > 0 for us in account.job.wasted.values())
        assert set(account.job.wasted) <= {*CLASSES, *CAUSES}
        films = sum(tally.used_us for tally in account.films.values())
        ended = sum(tallies[-1].used_us for row, tallies in self.tallies.items() if row not in account.films)
        assert films + ended <= account.job.used_us, "no second is two films'"

    def entered_us(self, shot):
        return sum(2 * round(US * seconds) for seconds in self.entered[shot].values())


def three():
    one, two, long = shot_task("one", 2), shot_task("two", 1), shot_task("long", 3)
    return film("a", one, two), film("b", two, long), film("c", one, langs=("hi-IN",))


@quietly
@given(TAPE, st.integers(0, 12))
def test_used_is_kept_and_wasted_and_open_at_every_moment_whatever_happens(tape, troubles):
    night = Kept(*three(), tape=tape, troubles=troubles).run()
    account = closed(night.account, night.seconds)
    assert account.used_us == account.job.used_us and open_us(account) == 0
    assert not (account.users or account.payers or account.shots), "a job that has ended remembers no shot"


@quietly
@given(TAPE, st.integers(0, 6))
def test_what_went_into_the_latents_is_kept_and_nothing_else(tape, troubles):
    night = Kept(*three(), tape=tape, troubles=troubles, late=False).run()
    assert night.account.job.kept_us == sum(map(night.entered_us, night.made))


@quietly
@given(TAPE, st.integers(1, 5))
def test_an_undisturbed_job_takes_the_same_in_any_order_and_by_any_number_of_gangs(tape, gangs):
    night = Kept(*three(), staff=workers(gangs=gangs), tape=tape).run()
    shots = {segment.source for made in three() for segment in made.master.segments}
    assert night.account.job.kept_us == sum(night.entered_us(shot.key) for shot in shots)
    assert all(len(night.entered[s.key]) == s.course.n_predictions for s in shots)
    assert night.account.job.wasted_us == 0 and night.account.used_us == night.account.job.kept_us
    films = [tally for tallies in night.tallies.values() for tally in tallies]
    assert sum(tally.used_us for tally in films) == night.account.used_us


def test_a_lost_gang_wastes_what_it_was_at_and_an_error_its_class():
    task = shot_task("one", 1)
    night = Kept(film("a", task), staff=workers(gangs=1)).begin()
    night.run(stop=lambda: bool(night.under_way))
    night.seconds += 10
    night.lose("denoise-0")
    assert dict(night.account.job.wasted) == {"LOST": 2 * 11 * US}, "one second a tell"
    night.run(stop=lambda: bool(night.under_way))
    call = next(call for call in night.calls if isinstance(call, Predict))
    night.raise_at(call, name="GPU_FAULT")
    assert night.account.job.wasted["GPU_FAULT"] == 2 * US
    night.run()
    assert night.tallies["a"][-1].wasted == night.account.job.wasted


def test_steps_behind_a_lost_conductors_checkpoint_are_done_again_and_the_others_kept():
    task = shot_task("one", 2)
    night = Kept(film("a", task), tape=bytes(400))
    night.begin()
    night.run(stop=lambda: bool(night.entered))
    night.checkpoints[task.key] = 1  # as the conductor leaves it behind step 0
    night.run(stop=lambda: len(night.entered.get(task.key, ())) == 3)  # one of step 1
    of_step_1 = sum(2 * round(US * s) for (step, _), s in night.entered[task.key].items() if step == 1)
    night.lose("conduct-0")
    night.late = []
    night.run()
    assert night.account.job.wasted.get("LOST", 0) >= of_step_1 > 0
    assert night.account.job.kept_us == night.entered_us(task.key)


def found(task, gpu_s, reused=True):
    return Outcome(task.key, task.kind, {}, {"gpu_s": gpu_s}, reused=reused)


def end(account, made, results):
    account = advance(account, 0.0, Admitted(made, results))
    return settled(account, FilmDone(made, results))


def test_a_film_that_was_there_saves_what_its_master_took():
    made = film("a", shot_task("one"), shot_task("two"))
    results = {made.master.key: found(made.master, 12.5)}
    account, tally = end(Account(), made, results)
    assert tally.saved_us == account.job.saved_us == 12.5 * US and tally.used_us == 0


def test_an_edited_film_saves_the_shots_that_are_left_each_once():
    one, two = shot_task("one"), shot_task("two")
    made = film("a", one, one, two)
    segments = {segment.key: found(segment, 4.0) for segment in made.master.segments[:1]}
    results = segments | {two.key: Outcome(two.key, "shot", {}, {"gpu_s": 9.0})}
    account = advance(Account(), 0.0, Admitted(made, {}))
    account = advance(account, 0.0, Open("conduct-0", two, 1))
    account = advance(account, 0.0, Turned(two.key, 1, 0))
    account = advance(account, 1.0, Done(two.key, "conduct-0", results[two.key]))
    results[made.master.key] = Outcome(made.master.key, "master", {})
    _, tally = settled(account, FilmDone(made, results))
    assert tally.saved_us == 4 * US, "the first run opened it at its beginning, so nothing of it was there"


def test_of_a_shot_that_two_films_share_one_pays_and_the_other_saves():
    shared = shot_task("one", 2)
    night = Kept(film("a", shared), film("b", shared, shot_task("two"), crf=21))
    night.run()
    (a,), (b,) = night.tallies["a"], night.tallies["b"]
    assert a.kept_us == night.entered_us(shared.key) and a.saved_us == 0
    assert b.kept_us == night.entered_us(shot_task("two").key)
    assert b.saved_us == a.kept_us == night.account.job.saved_us


def test_a_shot_that_goes_on_from_an_earlier_runs_checkpoint_saves_the_steps_before_it():
    task = shot_task("one", 1)
    made = film("a", task)
    account = advance(Account(), 0.0, Admitted(made, {}))
    account = advance(account, 0.0, Open("conduct-0", task, 1))
    account = advance(account, 0.0, Turned(task.key, 1, 1))
    account = advance(account, 0.0, Done(task.key, "conduct-0", found(task, 6.0, reused=False)))
    assert account.job.saved_us == account.films["a"].saved_us == 6 * US


def test_a_film_that_is_made_once_more_does_not_save_what_it_paid_for_itself():
    one, two = shot_task("one"), shot_task("two")
    made, broke = film("a", one, two), Failure("E900_RENDER", "broke", "", "BUG")
    account = advance(Account(), 0.0, Admitted(made, {}))
    account = advance(account, 0.0, Open("conduct-0", one, 1))
    account = advance(account, 0.0, Predict("gang-0", one, Window(one.key, 1, 0, 0)))
    answer = Predicted("gang-0", Window(one.key, 1, 0, 0), Fared(2.5, "cpu", PAIR))
    account = advance(account, 9.0, answer)
    account = advance(account, 9.0, Done(one.key, "conduct-0", found(one, 5.0, reused=False)))
    failed, _ = settled(account, FilmDone(made, {task.key: broke for task in made.wanted}))
    results = {one.key: found(one, 5.0), two.key: Outcome(two.key, "shot", {})}
    results |= {task.key: Outcome(task.key, task.kind, {}) for task in (*made.master.segments, made.master)}
    _, tally = end(failed, made, results)
    assert tally.saved_us == 0 and tally.kept_us == 5 * US


@pytest.mark.parametrize(("code", "cause"), [("E930_CANCELLED", "ENDED"), ("E900_RENDER", "BUG")])
def test_a_shot_that_comes_to_nothing_is_wasted_of_what_ended_its_film(code, cause):
    task = shot_task("one", 1)
    made = film("a", task)
    night = Kept(made, tape=bytes(400))
    night.begin()
    night.run(stop=lambda: open_us(night.account) > 0)
    failure = Failure(code, "it ended", "", "BUG")
    account, tally = settled(night.account, FilmDone(made, {task.key: failure, made.master.key: failure}))
    assert tally.wasted == account.job.wasted and open_us(account) == 0
    assert dict(tally.wasted) == {cause: open_us(night.account)}


def test_hired_seconds_run_from_a_gangs_coming_to_its_end():
    account = advance(Account(ranks=4), 10.0, Hired("gang-0", "denoise"))
    account = advance(account, 12.0, Hired("decode-0", "decode"))
    assert account.hired_until_us(15.0) == 4 * 5 * US
    account = advance(account, 20.0, Lost("gang-0"))
    assert closed(account, 99.0).hired_us == 4 * 10 * US
