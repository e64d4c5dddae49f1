"""Storms: faults drawn from a seed, and drivers that go through them.

    python tests/storm.py --serve      lines of JSON, see `serve`

A storm strikes one driver with its seven workers on three hosts (tests.hosts), at moments counted in events
of the crew: processes killed, frozen or dozing, a host lost or cut off, and weather (tests.weather). Then the
same command, in calm weather and one process, must go on from what is left.

Decides: what may happen, and when. Does not decide: what must be true afterwards (tests.test_cluster_storm).
"""

import gc
import json
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.hosts import STAFF, Hosts, Nursery
from tests.poison import poison_of
from tests.weather import TROUBLES, Weather, brew

IMPORTED = ("jobs.cli", "jobs.drive", "jobs.run", "jobs.show", "cluster.local", "engine.families.cogvideox")
EVENTS = 150  # about as many as a batch has
DAY_S = 86_400.0
LEAPS_S = (-10 * DAY_S, -3600.0, 90.0, 3600.0, 10 * DAY_S)
CUT_S, LASTING_S, LONG_CUT_S = (0.3, 4.0), 2.8, 30.0
WEIGHTS = {"kill": 5, "freeze": 2, "doze": 2, "host": 2, "cut": 3, "store": 5, "full": 2, "clock": 2}
OF_DRIVER = {"kill the driver": 4, "freeze the driver": 2}
# Where poison is worked at: hosts enough for one to be blocked, each role on two of them.
FARM = {f"{role}-{number}": f"host-{number}" for number in range(2) for role in ("gang", "decode", "conduct")}
FARM |= {"gang-2": "host-2", "decode-2": "host-2", "encode-0": "host-3", "encode-1": "host-4"}
FARM |= {"finish-0": "host-3", "finish-1": "host-4"}
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "doze": signal.SIGSTOP}


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th event, to whom, and for how long or, to a store, how often."""

    at: int
    kind: str
    whom: str = ""
    much: float = 0.0


def draw(seed: int, whole: bool = False) -> list[Fault]:
    """One to four faults; of the driver itself one at most, since nothing happens to it after that.

    Of the whole form a cut link in three is cut for LONG_CUT_S; otherwise the two forms are alike.
    """
    dice = random.Random(seed)
    kinds = dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=dice.randint(1, 4))
    if dice.random() < 0.6:
        kinds[-1] = dice.choices(list(OF_DRIVER), list(OF_DRIVER.values()))[0]
    moments = sorted(dice.randrange(EVENTS) for _ in kinds)
    faults = [_fault(dice, at, kind) for at, kind in zip(moments, kinds, strict=True)]
    return [lasting(fault) if whole else fault for fault in faults]


def lasting(fault: Fault) -> Fault:
    """A cut of the longer third as one of LONG_CUT_S."""
    return replace(fault, much=LONG_CUT_S) if fault.kind == "cut" and fault.much > LASTING_S else fault


def _fault(dice: random.Random, at: int, kind: str) -> Fault:
    match kind:
        case "kill" | "freeze":
            return Fault(at, kind, dice.choice(list(STAFF)))
        case "doze":
            return Fault(at, kind, dice.choice(list(STAFF)), round(dice.uniform(0.2, 2.5), 1))
        case "host":
            return Fault(at, kind, dice.choice(sorted(set(STAFF.values()))))
        case "cut":
            return Fault(at, kind, dice.choice(sorted(set(STAFF.values()))), round(dice.uniform(*CUT_S), 1))
        case "store":
            return Fault(at, kind, dice.choice(TROUBLES), dice.choice((1, 2, 4, 12)))
        case "full":
            return Fault(at, kind, much=round(dice.uniform(0.1, 3.0), 1))
        case "clock":
            return Fault(at, kind, much=dice.choice(LEAPS_S))
        case _:
            return Fault(at, kind, much=round(dice.uniform(0.5, 2.0), 1))


@dataclass
class Storm:
    """Strikes a crew with each fault when its moment has come."""

    faults: list[Fault]
    weather: Weather
    done: list[Fault] = field(default_factory=list)

    def strike(self, crew: Hosts, n_events: int) -> None:
        """Called whenever the crew looks for news."""
        for fault in [fault for fault in self.faults if fault.at <= n_events]:
            self.faults.remove(fault)
            print(f"storm: event {n_events}: {fault}", flush=True)
            self.hit(crew, fault)

    def hit(self, crew: Hosts, fault: Fault) -> None:
        """Do what a fault says."""
        now = time.monotonic()
        match fault.kind:
            case "kill" | "freeze" | "doze" | "host":
                for post in [p for p in crew.posts.values() if fault.whom in (p.worker, p.host)]:
                    os.kill(post.pid, SIGNALS.get(fault.kind, signal.SIGKILL))
                    post.mute_s = now if fault.kind in ("freeze", "doze") else None
                    if fault.kind == "doze":
                        later(fault.much, lambda pid=post.pid: os.kill(pid, signal.SIGCONT))
            case "cut":
                crew.cut[fault.whom] = now + fault.much
                for post in [post for post in crew.posts.values() if post.host == fault.whom]:
                    post.mute_s = now
            case "store":
                self.weather.trouble(fault.whom, int(fault.much))
            case "full":
                self.weather.fill(True)
                later(fault.much, lambda: self.weather.fill(False))
            case "clock":
                self.weather.leap(fault.much)
            case "kill the driver":
                os.kill(os.getpid(), signal.SIGKILL)
            case "freeze the driver":  # whoever waits for it sees it, and wakes it
                os.kill(os.getpid(), signal.SIGSTOP)


def later(seconds: float, call: Callable[[], Any]) -> None:
    """Do it then, unless the process has ended."""

    def quietly() -> None:
        with suppress(ProcessLookupError):
            call()

    timer = Timer(seconds, quietly)
    timer.daemon = True
    timer.start()


def serve() -> None:
    """Carry out what each line of stdin says, and answer with a line.

    ["start", arguments, log, faults, node] gives the process ids of a driver and its nursery: in a storm of
    its own; calm, in a single process and without a nursery with faults null; or with "poison" among its
    rows. `node` is the name that it has of its machine, "" for the true one.
    ["wait", pid, seconds] gives what became of it: its exit status, "stopped", or "late".
    """
    for name in IMPORTED:
        import_module(name)
    drivers: Any = import_module("manifests.drivers")
    drivers.EVERY_S, drivers.PATIENCE_S = 0.2, 1.0
    gc.freeze()  # so that no child searches, and copies, what all share
    for line in sys.stdin:
        match json.loads(line):
            case ["start", arguments, log, faults, node]:
                answer: Any = start(arguments, log, faults, node)
            case ["wait", pid, seconds]:
                answer = wait(pid, seconds)
        print(json.dumps(answer), flush=True)


def start(arguments: list[str], log: str, faults: list[dict[str, Any]] | None, node: str) -> list[int]:
    """The process ids of a driver, and of the nursery of its workers if it has one."""
    weather = Weather()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        _drive(arguments, log, faults, node, weather, write)
    os.close(write)
    told = os.read(read, 20)
    os.close(read)
    return [pid, int(told or 0)]


def _drive(arguments: Any, log: str, faults: Any, node: str, weather: Weather, tell: int) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code, crews = 1, list[Hosts]()  # 1 is of an error that is none of the command line's
    try:
        if node:
            import_module("platform").node = lambda: node  # type: ignore[attr-defined]
        if faults is not None:
            brew(weather)
            nursery = Nursery()
            os.write(tell, str(nursery.pid).encode())
            local: Any = import_module("cluster.local")

            def hire(setup: Any) -> Hosts:
                crews.append(_crew(setup, nursery, faults, weather))
                return crews[-1]

            local.LocalCrew = hire
        os.close(tell)
        seen = _seen_states()
        code = int(import_module("jobs.cli").main(arguments))
        for crew in crews:
            names = ("predicted", "failed", "predicted_s", "failed_s")
            books = {name: getattr(crew, name) for name in names} | {"blocked": sorted(seen[-1].blocked)}
            books["blamed"] = {host: [*map(repr, blames)] for host, blames in seen[-1].blamed.items()}
            print("BOOKS", json.dumps(books))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _crew(setup: Any, nursery: Nursery, faults: Any, weather: Weather) -> Hosts:
    if faults == "poison":
        return Hosts(setup, nursery, staff=FARM, poison=poison_of)
    storm = Storm([Fault(**fault) for fault in faults], weather)
    return Hosts(setup, nursery, strike=storm.strike)


def _seen_states() -> deque[Any]:
    """What dispatch knew last."""
    loop: Any = import_module("cluster.loop")
    seen, decide = deque[Any](maxlen=1), loop.decide

    def told(state: Any, event: Any) -> Any:
        step = decide(state, event)
        seen.append(step[0])
        return step

    loop.decide = told
    return seen


def wait(pid: int, seconds: float) -> int | str:
    """A driver's exit status, negative for a signal; "stopped" if it stopped itself; "late" if neither."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if ended and os.WIFSTOPPED(status):
            return "stopped"
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return "late"


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        for number in map(int, sys.argv[1:]):
            print(number, json.dumps([asdict(fault) for fault in draw(number)]))
