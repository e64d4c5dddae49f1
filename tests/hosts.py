"""A crew whose workers are processes on hosts by name, without Ray: cheap to start, and there to be struck.

The workers are the very classes that Ray's actors hold, each in a process of its own. They are forked from a
nursery, which was forked from the driver while that had no threads and everything imported. A worker that
was frozen, or whose link is cut, counts as hung after HUNG_S, and a gang that sleeps at its work after
ASLEEP_S; no other does, however long it takes, or a busy machine would lose some.
"""

import contextlib
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as first_of
from typing import Any

from cluster.conductor import Conductor
from cluster.crew import Setup, judge
from cluster.events import (
    Action,
    Advance,
    Done,
    Drop,
    Event,
    Fared,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Raised,
    Replace,
    Run,
    Turned,
    Window,
)
from cluster.finisher import Finisher
from cluster.outcomes import Failure
from cluster.rank import Rank
from cluster.shots import ShotTask
from cluster.stages import Decoder, Encoder
from cluster.tasks import SegmentTask

STAFF = {
    "gang-0": "host-0",
    "decode-0": "host-0",
    "gang-1": "host-1",
    "conduct-0": "host-1",
    "conduct-1": "host-2",
    "encode-0": "host-2",
    "finish-0": "host-2",
}
SEATS = 64  # workers that may be hired in all
HUNG_S = 1.5
ASLEEP_S = 3.0
WAIT_S = 0.2
HUNG = Failure("E911_HUNG", "no answer, so it counts as hung", "", "TIMEOUT")


def made(worker: str, setup: Setup) -> Any:
    """The object that does a worker's work."""
    told, role = (setup.store_url, "cpu", setup.threads), worker.partition("-")[0]
    if role == "conduct":
        return Conductor(
            setup.store_url, setup.checkpoint_every, setup.threads, setup.cache, setup.checkpoint_s
        )
    if role == "finish":
        return Finisher(setup.store_url, setup.identity_folder, setup.threads)
    kind: Any = {"gang": Rank, "encode": Encoder, "decode": Decoder}[role]
    return kind(*told, check_memory=setup.check_memory, cache=setup.cache)


class Nursery:
    """Starts workers for one driver; its process group is that of all of them."""

    def __init__(self) -> None:
        pairs = [Pipe() for _ in range(SEATS)]
        self.orders, orders = Pipe()
        self.pid = os.fork()
        if not self.pid:
            self.orders.close()
            for ours, _ in pairs:
                ours.close()
            _serve(orders, [theirs for _, theirs in pairs])
        orders.close()
        for _, theirs in pairs:
            theirs.close()
        self.lines = deque(ours for ours, _ in pairs)

    def start(self, worker: str, setup: Setup) -> tuple[int, Connection]:
        """The process id of a new worker, and the line to it."""
        self.orders.send((worker, SEATS - len(self.lines), setup))
        pid: int = self.orders.recv()
        return pid, self.lines.popleft()


def _serve(orders: Connection, ends: list[Connection]) -> None:
    """Fork what is ordered until the driver is gone."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            worker, seat, setup = orders.recv()
            pid = os.fork()
            if not pid:
                orders.close()
                for other in ends[:seat] + ends[seat + 1 :]:
                    other.close()
                _live(worker, ends[seat], setup)
            ends[seat].close()
            orders.send(pid)
    os._exit(0)


def _live(worker: str, line: Connection, setup: Setup) -> None:
    """A worker's life: calls in, answers out, until the driver is gone."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it has children of its own, such as the voice
        stage = made(worker, setup)
        line.send((0, True, None))
        while True:
            number, method, given, poison = line.recv()
            work = partial(poison, stage) if poison else getattr(stage, method)
            line.send((number, *_answer(work, given)))
    except (EOFError, ConnectionError):
        code = 0
    finally:
        os._exit(code)


def _answer(method: Callable[..., Any], given: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, method(*given)
    except Exception as error:
        return False, judge(error)


@dataclass(frozen=True, eq=False)
class Call:
    """A call under way, and the event of its answer."""

    key: str
    event: Callable[[Any], Event]
    window: Window | None = None
    shot: str = ""
    began_s: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Post:
    """A worker at its place; `mute_s` is since when it cannot answer, as it was frozen or cut off."""

    worker: str
    host: str
    pid: int
    line: Connection
    calls: dict[int, Call] = field(default_factory=dict)
    mute_s: float | None = None
    worked: tuple[int, float] = (-1, 0.0)  # ticks of work, and when it was first seen to have so many


class Hosts:
    """The crew. `strike` is called with it whenever it looks for news, and may do to it what it likes."""

    def __init__(
        self,
        setup: Setup,
        nursery: Nursery,
        strike: Callable[["Hosts", int], None] = lambda crew, n_events: None,
        staff: Mapping[str, str] = STAFF,
        poison: Callable[[str, str], Any] = lambda shot, method: None,
    ) -> None:
        self.setup, self.nursery, self.strike, self.staff, self.poison = setup, nursery, strike, staff, poison
        self.predicted, self.failed = Counter[str](), Counter[str]()  # parts of steps, by shot
        self.predicted_s, self.failed_s = Counter[str](), Counter[str]()
        self.posts: dict[str, Post] = {}
        self.cut: dict[str, float] = {}  # host -> when its link is mended
        self.strays: list[Post] = []  # given up for hung and not to be reached: they may do their work yet
        self.requests: dict[Window, Any] = {}
        self.predictions: dict[Window, Any] = {}
        self.n_calls = self.n_events = 0
        for worker in staff:
            self._hire(worker)

    def act(self, action: Action) -> None:
        """Send a call, or forget what is forgotten."""
        match action:
            case Run(worker, task):
                shot = task.source.shot.shot_id if isinstance(task, SegmentTask) else ""
                self._call(worker, Call(task.key, partial(Done, task.key, worker), shot=shot), "run", task)
            case Open(worker, shot, opening):
                self._turn(worker, shot, opening, "open", shot, opening)
            case Advance(worker, shot, opening, step):
                windows = [Window(shot.key, opening, step, part) for part in shot.course.parts_at(step)]
                predictions = [self.predictions.pop(window) for window in windows]
                self._turn(worker, shot, opening, "advance", shot.key, opening, *predictions)
            case Predict(gang, shot, window):
                answer = partial(self._predicted, gang, window, shot.shot.shot_id)
                call = Call(shot.key, answer, window, shot.shot.shot_id)
                self._call(gang, call, "predict", self.requests[window])
            case Drop(worker, key, opening, save):
                self._call(worker, None, "drop", key, opening, save)
            case Replace(worker):
                self._hire(worker)

    def wait(self, most_s: float = WAIT_S) -> list[Event]:
        """What has happened, a moment later at most."""
        self.strike(self, self.n_events)
        now = time.monotonic()
        self.cut = {host: until for host, until in self.cut.items() if until > now}
        lines = {post.line: post for post in self.posts.values() if post.host not in self.cut}
        ready = [lines[line] for line in first_of(list(lines), min(WAIT_S, most_s))]  # type: ignore[index]
        events = [event for post in ready for event in self._news(post)]
        events += [event for post in list(self.posts.values()) for event in self._silence(post, now)]
        self.n_events += len(events)
        return events

    def close(self) -> None:
        """Let all go."""
        for post in [*self.posts.values(), *self.strays]:
            _end(post.pid)
        self.nursery.orders.close()

    def _hire(self, worker: str) -> None:
        pid, line = self.nursery.start(worker, self.setup)
        self.posts[worker] = post = Post(worker, self.staff[worker], pid, line)
        role = {"gang": "denoise"}.get(worker.partition("-")[0], worker.partition("-")[0])
        capacity = self.setup.canvases_per_conductor if role == "conduct" else 1
        post.calls[0] = Call("", lambda _: Hired(worker, role, capacity, post.host))

    def _call(self, worker: str, call: Call | None, method: str, *given: Any) -> None:
        post = self.posts.get(worker)
        if post is None:  # lost, and dispatch is about to be told
            return
        self.n_calls += 1
        if call is not None:
            post.calls[self.n_calls] = call
        poison = self.poison(call.shot, method) if call else None
        with contextlib.suppress(ConnectionError):  # dead: its line says so when it is read
            post.line.send((self.n_calls, method, given, poison))

    def _turn(self, worker: str, shot: ShotTask, opening: int, method: str, *given: Any) -> None:
        def answer(answer: Any) -> Event:
            turn, *requests = answer
            if turn.outcome is not None:
                return Done(shot.key, worker, turn.outcome)
            for part, request in zip(shot.course.parts_at(turn.step), requests, strict=False):
                self.requests[Window(shot.key, opening, turn.step, part)] = request
            return Turned(shot.key, opening, turn.step)

        self._call(worker, Call(shot.key, answer), method, *given)

    def _predicted(self, gang: str, window: Window, shot: str, answer: tuple[Fared, Any]) -> Event:
        fared, self.predictions[window] = answer
        self.predicted[shot] += 1
        self.predicted_s[shot] += fared.seconds
        self.requests.pop(window, None)
        return Predicted(gang, window, fared)

    def _news(self, post: Post) -> Iterator[Event]:
        """One answer of a worker, or its end."""
        try:
            number, well, value = post.line.recv()
        except (EOFError, ConnectionError):
            yield from self._lost(post, None)
            return
        call = post.calls.pop(number, None)
        if call is None:
            return
        if well:
            yield call.event(value)
            return
        if value.error_class == "GPU_FAULT":  # as on Ray: nothing that it computes is right from then on
            post.calls[number] = call
            yield from self._lost(post, value)
        else:
            self._note_loss(call)
            yield Raised(call.key, post.worker, value, call.window)

    def _note_loss(self, call: Call) -> None:
        if call.window is not None:
            self.failed[call.shot] += 1
            self.failed_s[call.shot] += time.monotonic() - call.began_s

    def _silence(self, post: Post, now: float) -> Iterator[Event]:
        """A worker that was struck mute, or sleeps at its work, and by now for too long."""
        state, ticks = _work(post.pid)
        if state in "Tt" and post.mute_s is None:
            post.mute_s = now  # struck before, and stopped only when it would have run again
        if post.mute_s is None:
            if post.worker.startswith("gang-") and post.calls and 0 not in post.calls:
                if state != "S" or ticks != post.worked[0]:
                    post.worked = ticks, now
                elif now - post.worked[1] > ASLEEP_S:
                    yield from self._lost(post, HUNG)
            return
        if post.host not in self.cut and state not in "TtZX":
            post.mute_s = None
        elif post.calls and now - post.mute_s > HUNG_S:
            yield from self._lost(post, HUNG)

    def _lost(self, post: Post, failure: Failure | None) -> Iterator[Event]:
        """A worker is lost; one behind a cut link lives on, and may finish what it is at."""
        post.mute_s = None
        for call in post.calls.values():
            self._note_loss(call)
        if post.host in self.cut:
            self.strays.append(post)
        else:
            _end(post.pid)
        if 0 in post.calls:  # it never came to work, so dispatch does not know it
            self._hire(post.worker)
        else:
            del self.posts[post.worker]  # dispatch will have it replaced
            yield Lost(post.worker, failure)


def _work(pid: int) -> tuple[str, int]:
    """The state of a process, X where there is none, and how many ticks it has worked."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[11]) + int(fields[12])


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
