"""A crew without workers: films made by whoever a test says answers, raises and dies, in any order.

`Night` keeps its own books of what was asked and answered, and checks every action of dispatch against them.
"""

import math
from collections import Counter, deque
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial

import pytest

from cluster import upstream
from cluster.classes import CLASSES
from cluster.dispatch import ROLES, Limits, State, decide
from cluster.events import (
    Admitted,
    Advance,
    Budgeted,
    Done,
    Draining,
    Draw,
    Drop,
    Ended,
    Fared,
    FilmDone,
    Held,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Ranked,
    Replace,
    Reprieved,
    Resumed,
    Run,
    Ticked,
    Turned,
    Yielding,
)
from cluster.identity import Model, Picture, Sampling
from cluster.outcomes import Failure, Outcome
from cluster.shots import ShotTask
from cluster.state import Film
from cluster.tasks import FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.parallel.axes import ALONE
from engine.phases import Stitch
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout

N_STEPS = 2
FRAMES = {1: 17, 2: 25, 3: 33, 13: 161}  # by the number of windows


@cache
def shot_task(name, n_windows=1, prompt="a prompt", mode="blend", model="m"):
    shot = Shot(name, FRAMES[n_windows], (PromptSpan(prompt),), "a negative prompt", seed=1)
    layout = Layout(size=5, overlap=2, lead_in=1)
    stitch = Stitch(mode, first_step=int(mode == "skeleton"))  # else a clip is redrawn
    weights, sampling = Model(f"/{model}", "float32", model), Sampling(N_STEPS, 6.0)
    return ShotTask(weights, shot, sampling, layout, 16, 16, 8, stitch=stitch)


@cache
def segment_task(shot, crf=20):
    return SegmentTask(shot, Picture(32, 32, Fraction(8), crf, "fast"))


def film(row_id, *shots, langs=(), crf=20, title="a title", priority=0, depends_on=()):
    segments = tuple(segment_task(shot, crf) for shot in shots)
    versions = tuple(VersionTask(segments, lang, title, ()) for lang in langs)
    return FilmTasks(row_id, MasterTask(segments), versions, priority, tuple(depends_on))


def workers(gangs=1, conductors=1, canvases=8, encoders=1, decoders=1, finishers=1):
    counts = {"denoise": gangs, "encode": encoders, "decode": decoders, "finish": finishers}
    simple = [Hired(f"{role}-{k}", role, 1, f"host-{k}") for role, n in counts.items() for k in range(n)]
    return [*simple, *(Hired(f"conduct-{k}", "conduct", canvases, f"host-{k}") for k in range(conductors))]


RAN_OUT = Failure("E922_HOST_OOM", "memory ran out", "give a node fewer workers", "HOST_OOM")
DEATHS = (None, *(Failure(f"E9_{name}", "lost", "", name) for name in sorted(CLASSES)))
GIVEN = Failure("E913_PREEMPTED", "given up", "", "PREEMPTED")


class Night:
    """Films made by workers that answer, raise and die as the bytes of `tape` say; without it all is calm."""

    def __init__(self, films, staff, limits, tape=b"", troubles=0):
        films = list(films)
        named = {film.row_id for film in films}
        waited = {row for film in films for row in film.depends_on}
        awaited = {row: None if row in named else upstream.ABSENT for row in waited}
        self.limits, self.state, self.log = limits, upstream.first(State(limits), awaited), []
        self.films, self.hires, self.staff = deque(films), deque(staff), {h.worker: h for h in staff}
        self.tape, self.troubles = deque(tape), troubles
        self.store, self.checkpoints = {}, {}  # what outlives any worker
        self.living, self.calls, self.late = {}, [], []  # `late`: calls of workers given up for lost
        self.canvases, self.steps = {}, {}  # shot -> its Open; opening -> step it stands before
        self.predicted, self.advanced = {}, set()  # (opening, step) -> parts
        self.known, self.ended = set(), {}  # keys with an outcome that dispatch was told of; row -> FilmDone
        self.strikes, self.died = {}, Counter()  # task -> Counter of classes; piece, class -> lost workers
        self.alone = set()  # piece, class: at which a worker was lost that was at nothing else
        self.clock, self.not_before, self.paused = 0.0, {}, 0.0
        self.spent_gpu_s = 0.0  # by gangs that answered
        self.window_s = 60.0  # that a window takes, where there is a deadline
        self.held, self.cut = set(), set()  # reasons; rows that were ended
        self.told = []  # every event
        self.refused = {}  # tasks that are known to be impossible when their film is admitted

    def pick(self, n):
        return (self.tape.popleft() if self.tape else 0) % n

    def trouble(self, unlikely=6):
        struck = self.troubles > 0 and self.pick(unlikely) == unlikely - 1
        self.troubles -= struck
        return struck

    # What happens.

    def run(self, stop=lambda: False, skip=lambda call: False):
        """Let things happen until nothing can, or until `stop()`; calls to `skip` are never answered."""
        for _ in range(20_000):
            options = [partial(self.answer, call) for call in [*self.calls, *self.late] if not skip(call)]
            options += [self.hire] * bool(self.hires) + [self.admit] * (bool(self.films) and self.room)
            late = self.state.waiting or self.state.blocked or self.clock < self.state.paused_until_s
            options += [self.pass_time] * bool(late) + [self.resume] * bool(self.held)
            options += [partial(self.leave, worker) for worker in self.leaving()]
            if not options or stop():
                return self
            if self.living and self.trouble():
                worker = sorted(self.living)[self.pick(len(self.living))]
                self.lose(worker, DEATHS[self.pick(len(DEATHS))] if self.pick(2) else None)
            elif self.trouble(unlikely=20):
                self.order()
            else:
                options[self.pick(len(options))]()
        pytest.fail("dispatch goes round in circles")

    def pass_time(self):
        self.clock += 1000.0
        self.tell(Ticked(self.clock))

    def order(self):
        """A person says something, or a host or a gang is about to go."""
        coming = [made.row_id for made in self.films]
        rows = sorted([*self.state.films, *self.state.later, *coming])
        orders = [self.hold, self.drain, self.give_up, self.allow]
        orders += [partial(order, row) for row in rows for order in (self.end, self.rank)]
        orders += [partial(self.reprieve, row) for row in sorted(self.cut & set(coming))]
        orders[self.pick(len(orders))]()

    def end(self, row):
        self.cut.add(row)
        self.tell(Ended(frozenset({row}), Failure("E930_CANCELLED", "by a person")))

    def reprieve(self, row):
        self.cut.remove(row)
        self.tell(Reprieved(frozenset({row})))

    def rank(self, row):
        self.tell(Ranked(frozenset({row}), self.pick(9) - 4))

    def hold(self):
        self.held.add("a person")
        self.tell(Held("a person"))

    def allow(self):
        """Less money than there was, or more."""
        self.tell(Budgeted(self.state.spent_gpu_s + self.pick(20), soft=bool(self.pick(2))))

    def drain(self):
        """A host is about to go; whoever comes in the place of one who worked there comes to another."""
        hosts = sorted({hired.host for hired in self.living.values()} - self.state.draining)
        if hosts:
            self.tell(Draining(hosts[self.pick(len(hosts))]))

    def give_up(self):
        """A gang is to go once it is idle."""
        gangs = sorted(name for name, hired in self.living.items() if hired.role == "denoise")
        if gangs:
            self.tell(Yielding(gangs[self.pick(len(gangs))]))

    def leaving(self):
        """Workers that may go at any moment now."""
        idle = self.living.keys() - {worker_of(call) for call in self.calls}
        going = {name for name, hired in self.living.items() if hired.host in self.state.draining}
        return sorted(going | (self.state.yielding & idle))

    def leave(self, worker):
        self.lose(worker, GIVEN)

    def resume(self):
        reason = self.held.pop()
        self.tell(Resumed(reason))

    @property
    def room(self):
        return len(self.state.films) < self.limits.max_films

    def begin(self):
        """Hire everybody and admit every film."""
        while self.hires:
            self.hire()
        while self.films:
            self.admit()
        return self

    def admit(self):
        self.take(self.films.popleft())

    def take(self, made):
        if self.tape and self.pick(2):  # workers have put their markers, and their answers are on the way
            for call in [call for call in self.calls if isinstance(call, Run)]:
                self.store.setdefault(call.task.key, Outcome(call.task.key, call.task.kind, {}))
        left = {key: self.refused[key] for key in made.tasks if key in self.refused}
        self.tell(Admitted(made, {**self.found(made), **left}))

    def found(self, made):
        """What the store has of a film: wanted artefacts first, and below them only where one is wanting."""
        found, waiting = {}, [task.key for task in made.wanted]
        for key in waiting:
            if key in self.store:
                found[key] = self.store[key]
            else:
                waiting += made.tasks[key].needs
        return found

    def hire(self):
        hired = self.hires[self.pick(len(self.hires))]
        self.hires.remove(hired)
        if hired.host in self.state.draining:
            hired = replace(hired, host=f"{hired.host}, then another")
            self.staff[hired.worker] = hired
        self.living[hired.worker] = hired
        self.late = [call for call in self.late if worker_of(call) != hired.worker]  # its process has ended
        self.tell(hired)

    def lose(self, worker, failure=None):
        """A worker dies, perhaps of what is known; what it was at is lost, or answered late."""
        mine = [call for call in self.calls if worker_of(call) == worker]
        held = [opened for opened in self.canvases.values() if opened.conductor == worker]
        pieces = [*map(piece_of, mine), *map(self.piece_of_canvas, held)]
        pieces = [piece for piece in pieces if piece is not None]
        name = failure.error_class if failure else ""
        for piece in [piece for piece in pieces if self.wants(piece[0])]:
            self.died[piece, name] += 1
            if len(pieces) == 1:
                self.alone.add((piece, name))
                if failure and CLASSES[name].charged and name != "TIMEOUT":
                    self.count(piece[0], name, waits=False)
        del self.living[worker]
        self.calls = [call for call in self.calls if call not in mine]
        self.late += [call for call in mine if self.pick(2)]
        self.canvases = {key: o for key, o in self.canvases.items() if o.conductor != worker}
        self.tell(Lost(worker, failure))

    def lose_at(self, shot, step):
        """Lose a shot's conductor when its canvas stands before `step`."""
        self.run(
            stop=lambda: (
                shot.key in self.canvases and self.piece_of_canvas(self.canvases[shot.key])[1] == step
            )
        )
        self.lose(self.canvases[shot.key].conductor)

    def piece_of_canvas(self, opened):
        return opened.task.key, self.steps.get(opened.opening, -1), -1

    def answer(self, call):
        """A worker comes back from a call. A conductor answers for one shot in the order of the calls."""
        if isinstance(call, (Open, Advance)):
            same = [c for c in [*self.calls, *self.late] if isinstance(c, (Open, Advance))]
            call = next(c for c in same if (c.conductor, c.task) == (call.conductor, call.task))
        late = call in self.late
        (self.late if late else self.calls).remove(call)
        if self.trouble():
            self.raise_at(call, late, sorted(CLASSES)[self.pick(len(CLASSES))])
            return
        match call:
            case Run(worker, task):
                self.finish(worker, task)
            case Predict(gang, _, window):
                if not late:
                    self.predicted.setdefault((window.opening, window.step), set()).add(window.part)
                self.tell(Predicted(gang, window, Fared(1.0, "cpu", ALONE)))
                self.spent_gpu_s += 1.0
                if self.limits.deadline_s < math.inf:
                    self.clock += self.window_s
                if min(self.limits.deadline_s, self.limits.soft_gpu_s, self.limits.budget_gpu_s) < math.inf:
                    self.tell(Ticked(self.clock, self.spent_gpu_s))
            case Open(conductor, task, opening) if task.key in self.store:
                self.finish(conductor, task)
            case Open(conductor, task, opening):
                self.turn(task, opening, self.checkpoints.get(task.key, 0))
            case Advance(conductor, task, opening, step) if step + 1 == task.course.n_steps:
                self.finish(conductor, task)
            case Advance(conductor, task, opening, step):
                if self.pick(2):
                    self.checkpoints[task.key] = step + 1
                self.turn(task, opening, step + 1)

    def finish(self, worker, task):
        outcome = self.store.setdefault(task.key, Outcome(task.key, task.kind, {}))
        if task.key in self.canvases and self.canvases[task.key].conductor == worker:
            del self.canvases[task.key]
        self.tell(Done(task.key, worker, outcome))

    def turn(self, task, opening, step):
        self.steps[opening] = step
        self.tell(Turned(task.key, opening, step))

    def raise_at(self, call, late=False, name="BUG", code="E900_RENDER"):
        """A call raises. It counts against its task unless nobody waits for it any more."""
        if call in self.calls:
            self.calls.remove(call)
        window = call.window if isinstance(call, Predict) else None
        key, opened = call.task.key, self.canvases.get(call.task.key)
        stale = not isinstance(call, Run) and opened is None
        stale |= window is not None and opened is not None and opened.opening != window.opening
        if not late and not stale and self.wants(key):
            self.count(key, name)
        self.tell(Raised(key, worker_of(call), Failure(code, "raised", "", name), window))

    def count(self, key, name, waits=True):
        """One more error, and how long at least nothing is tried again for it."""
        n = self.strikes.setdefault(key, Counter())
        n[name] += 1
        shortest = min(CLASSES[name].wait_s * 2 ** (n[name] - 1), CLASSES[name].longest_s) / 2
        shortest *= self.limits.patience
        if not waits:
            return
        self.not_before[key] = self.clock + shortest
        if CLASSES[name].shared and not self.tired(key):
            self.paused = self.clock + shortest
        if CLASSES[name].ends_job and self.tired(key):
            self.cut |= {*self.state.films, *(made.row_id for made in self.films)}

    def tired(self, key):
        """Whether a task has failed often enough to be given up."""
        n = self.strikes.get(key, Counter())
        charged = sum(n[name] for name in n if CLASSES[name].charged)
        return charged >= self.limits.max_tries or any(n[name] >= CLASSES[name].limit for name in n)

    def wants(self, key):
        return key not in self.known and any(key in film.made.tasks for film in self.state.films.values())

    def is_done(self, row):
        """Whether a film has ended well."""
        return row in self.ended and all(
            isinstance(self.ended[row].results[task.key], Outcome) for task in self.ended[row].film.wanted
        )

    # What must hold.

    def tell(self, event):
        self.told.append(event)
        match event:
            case Done(key, _, _) if self.wants(key):
                self.known.add(key)
        before = self.state
        self.state, actions = decide(self.state, event)
        if isinstance(event, Admitted) and event.film.row_id not in self.state.later:  # drawn again then
            self.known |= event.results.keys() - self.refused.keys()
        self.check_dropped(before, actions)
        for action in actions:
            self.check(action)
            self.log.append(action)
        needed = {key for film in self.state.films.values() for key in film.made.tasks}
        self.known &= needed
        self.strikes = {key: n for key, n in self.strikes.items() if key in needed}
        self.not_before = {key: t for key, t in self.not_before.items() if self.wants(key)}
        self.died = Counter({at: n for at, n in self.died.items() if at[0][0] in needed})
        self.alone &= self.died.keys()
        self.check_books()
        for made in [action.film for action in actions if isinstance(action, Draw)]:
            self.take(made)

    def check(self, action):
        if isinstance(action, (Run, Open, Predict)):
            assert not self.held and self.clock >= self.paused, "nothing is to be begun"
        match action:
            case Run(worker, task):
                self.check_can_take(worker, ROLES[task.kind])
                self.check_may_begin(task)
                self.calls.append(action)
            case Open(conductor, task, opening):
                self.check_can_take(conductor, "conduct")
                self.check_may_begin(task)
                assert all(opening > opened.opening for opened in self.log if isinstance(opened, Open))
                assert len(self.canvases) + len(self.undecoded()) < self.limits.max_canvases
                self.canvases[task.key] = action
                self.calls.append(action)
            case Predict(gang, task, window):
                self.check_can_take(gang, "denoise")
                opened = self.canvases[window.shot]
                assert (opened.task, opened.opening) == (task, window.opening), "a stale opening"
                assert self.steps[window.opening] == window.step, "not the step that the canvas stands before"
                assert window.part not in self.predicted.get((window.opening, window.step), ()), "done before"
                assert window not in [c.window for c in self.calls if isinstance(c, Predict)], "twice at once"
                self.calls.append(action)
            case Advance(conductor, task, opening, step):
                opened = self.canvases[task.key]
                assert (opened.conductor, opened.opening) == (conductor, opening), "a stale opening"
                assert self.steps[opening] == step, "steps go up by one from where the conductor began"
                assert self.predicted[opening, step] == set(task.course.parts_at(step)), "a part is missing"
                assert (opening, step) not in self.advanced, "advanced twice"
                self.advanced.add((opening, step))
                self.calls.append(action)
            case Drop(conductor, shot, opening, save):
                assert conductor in self.living
                assert self.canvases.pop(shot).opening == opening
                if save:
                    self.checkpoints[shot] = self.steps.get(opening, self.checkpoints.get(shot, 0))
            case Draw(made):
                assert made.row_id not in self.state.films and made.row_id not in self.ended
            case Replace(worker):
                if worker in self.living:
                    self.check_relieved(worker)
                assert self.staff[worker] not in self.hires
                self.hires.append(self.staff[worker])
            case FilmDone(made, results):
                assert made.row_id not in self.ended, "a film ends once"
                self.ended[made.row_id] = action
                if made.row_id not in self.cut:
                    for task in made.wanted:
                        self.check_result(made, task, results[task.key])

    def check_dropped(self, before, actions):
        """No film that was begun is dropped, and none stays that is not and stands behind a dropped one."""
        for made in [
            action.film for action in actions if isinstance(action, FilmDone) and is_dropped(action)
        ]:
            priority = before.urgent.get(made.row_id, made.priority)
            film = before.films.get(made.row_id, Film(made, before.admissions, priority))
            assert not film.begun
            assert all(f.begun or f.standing < film.standing for f in self.state.films.values())
            known = self.state.cut is not None or self.state.pace.best_per_s is not None
            assert known and min(self.limits.deadline_s, self.state.limits.soft_gpu_s) < math.inf

    def check_can_take(self, worker, role):
        """A worker lives, does such work, and has a hand free for a call, or a conductor for a canvas."""
        assert self.living[worker].role == role
        canvases = [opened for opened in self.canvases.values() if opened.conductor == worker]
        calls = [call for call in self.calls if worker_of(call) == worker and role != "conduct"]
        assert len(canvases) + len(calls) < self.living[worker].capacity, f"{worker} has its hands full"
        assert self.living[worker].host not in self.state.draining, "it is about to go"
        assert worker not in self.state.yielding, "it is about to be given up"

    def check_relieved(self, worker):
        """It is replaced while it lives, as its host is about to go and it has nothing to do."""
        hired = self.living.pop(worker)
        assert hired.role != "denoise" and hired.host in self.state.draining
        assert worker not in [opened.conductor for opened in self.canvases.values()]
        mine = [call for call in self.calls if worker_of(call) == worker]
        assert all(isinstance(call, (Open, Advance)) for call in mine), "of canvases that are closed"
        self.calls = [call for call in self.calls if call not in mine]

    def check_may_begin(self, task):
        """Somebody wants it, it can be done, it was not done, and nobody is at it."""
        films = [f for f in self.state.films.values() if task.key in f.made.unfinished(self.known)]
        assert films, "nobody needs it"
        assert any(all(map(self.is_done, f.made.depends_on)) for f in films), "a film that should wait"
        assert task.key not in self.known, "done before"
        assert self.known.issuperset(task.needs)
        assert task.key not in self.canvases
        assert task.key not in [call.task.key for call in self.calls if isinstance(call, Run)]
        assert self.clock >= self.not_before.get(task.key, 0.0), "its wait is not over"

    def check_result(self, made, task, result):
        """A task has an outcome, or it needs one that raised for good or lost too many workers."""
        if isinstance(result, Outcome):
            assert task.key in self.known and result.key == task.key
            return
        if result.error_class == "DROPPED":
            return  # as checked when it was
        if result.error_class == "UPSTREAM":
            assert not all(map(self.is_done, made.depends_on)), "all that it depends on are done"
            return
        keys, waiting = set(), [task.key]
        for key in waiting:
            keys.add(key)
            waiting += made.tasks[key].needs
        tired = {key for key in keys if self.tired(key)}
        if result.code == "E940_BUDGET":
            assert self.state.spent_gpu_s >= self.state.limits.budget_gpu_s
            return
        if self.state.ruin is not None:
            assert CLASSES[self.state.ruin.error_class].ends_job
            return
        deadly = {piece[0] for (piece, name), n in self.died.items() if self.deadly(piece, name, n)}
        assert keys & (tired | deadly | self.refused.keys()), f"{task.kind} failed without a cause: {result}"

    def deadly(self, piece, name, n):
        """Whether so many lost workers fail a task: the last of them was at nothing else."""
        most = CLASSES[name].limit if name else self.limits.max_losses
        return n >= most and (piece, name) in self.alone

    def undecoded(self):
        segments = [s for film in self.state.films.values() for s in film.made.master.segments]
        return {s.source.key for s in segments if s.source.key in self.known and s.key not in self.known}

    def check_books(self):
        """Dispatch believes of every living worker what is so: none is forgotten, none is overworked."""
        runs = {call.task.key: call.worker for call in self.calls if isinstance(call, Run)}
        conducted = {key: opened.conductor for key, opened in self.canvases.items()}
        assert dict(self.state.running) == runs | conducted
        predicting = {call.window: call.gang for call in self.calls if isinstance(call, Predict)}
        assert dict(self.state.predicting) == predicting
        openings = {key: canvas.opening for key, canvas in self.state.canvases.items()}
        assert openings == {key: opened.opening for key, opened in self.canvases.items()}
        assert set(self.state.workers) == set(self.living)
        films = self.state.films
        for key, users in self.state.users.items():
            if key not in self.state.results:
                assert self.state.ranks[key] == min(films[row].rank(key) for row in users), "out of line"

    def check_end(self, rows):
        """Every film has ended and the state is as on the first day."""
        assert self.ended.keys() == set(rows)
        kept = ("workers", "idle", "openings", "admissions", "ended", "failed", "now_s", "paused_until_s")
        kept += ("blamed", "blocked", "draining", "holds", "endings", "urgent", "closing", "ruin")
        kept += ("awaited", "fates", "cut", "pace", "spent_gpu_s", "loaded", "having", "loading")
        kept += ("yielding", "limits")
        fresh = State(self.state.limits)
        assert replace(self.state, **{name: getattr(fresh, name) for name in kept}) == fresh
        assert self.state.ended == len(self.ended)


def is_dropped(end):
    """Whether a film that has ended was dropped."""
    return any(getattr(result, "error_class", "") == "DROPPED" for result in end.results.values())


def worker_of(call):
    match call:
        case Run(worker, _) | Open(worker, _, _) | Predict(worker, _, _) | Advance(worker, _, _, _):
            return worker


def piece_of(call):
    match call:
        case Run(_, task):
            return task.key, -1, -1
        case Predict(_, _, window):
            return window.shot, window.step, window.part


def night_of(*films, staff=None, **limits):
    return Night(films, staff or workers(), Limits(**limits)).begin()


def results_of(night, row_id):
    return night.ended[row_id].results


def predicted_shots(night):
    return [action.task.shot.shot_id for action in night.log if isinstance(action, Predict)]


def is_call(kind, of):
    """Whether a call is of such a kind, for such a task, shot or role."""
    return lambda call: isinstance(call, kind) and of in (call.task.kind, getattr(call.task, "lang", None))


def is_predicting(shot):
    return lambda call: isinstance(call, Predict) and call.task == shot


def first(night, test):
    return next((call for call in night.calls if test(call)), None)
