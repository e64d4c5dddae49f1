"""What happens to the workers and what is asked of them: the words between dispatch and a crew."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.identity import Task
from cluster.outcomes import Failure, Outcome
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks
from engine.parallel.axes import Axes


@dataclass(frozen=True, order=True)
class Window:
    """One part of one step of an open shot: a window, or in batches several that share a forward.

    `opening` tells a reopened canvas from the lost one.
    """

    shot: str
    opening: int
    step: int
    part: int


# Events.


@dataclass(frozen=True)
class Admitted:
    """A film is to be made; `results` are the tasks of it that were done before, or cannot be done."""

    film: FilmTasks
    results: Mapping[str, Outcome | Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Hired:
    """A worker is ready for calls, at most `capacity` at once."""

    worker: str
    role: str
    capacity: int = 1
    host: str = ""


@dataclass(frozen=True)
class Turned:
    """A conductor stands before `step` and has laid out its requests."""

    shot: str
    opening: int
    step: int


@dataclass(frozen=True)
class Fared:
    """How a forward went on a rank: its seconds, the device by its name, and its gang's axes."""

    seconds: float
    device: str
    axes: Axes

    @property
    def gpu_s(self) -> float:
        """GPU-seconds of all the gang's ranks."""
        return self.seconds * self.axes.ranks


@dataclass(frozen=True)
class Predicted:
    """A gang has predicted a part of a step."""

    gang: str
    window: Window
    fared: Fared | None = None  # None where the answer itself is lost


@dataclass(frozen=True)
class Done:
    """A task has its marker."""

    key: str
    worker: str
    outcome: Outcome


@dataclass(frozen=True)
class Raised:
    """A call raised, the worker lives."""

    key: str
    worker: str
    failure: Failure
    window: Window | None = None


@dataclass(frozen=True)
class Lost:
    """A worker is gone, with whatever it was doing; `failure` says of what, where that is known."""

    worker: str
    failure: Failure | None = None


@dataclass(frozen=True)
class Ticked:
    """Time has passed: it is now so many seconds after some moment, the same for all.

    `spent_gpu_s` is what the job's gangs took until now, in all its runs, of calls of any end: the books say.
    """

    now_s: float
    spent_gpu_s: float = 0.0


@dataclass(frozen=True)
class Held:
    """No work is to be given out, for a reason; what is under way goes on."""

    reason: str


@dataclass(frozen=True)
class Resumed:
    """The reason has passed."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """These films are to end as they are, None for all and those to come; what is not done fails so."""

    rows: frozenset[str] | None
    failure: Failure


@dataclass(frozen=True)
class Reprieved:
    """These films are not to end as they were ordered to: they are made after all."""

    rows: frozenset[str]


@dataclass(frozen=True)
class Ranked:
    """These films are now so urgent; more goes first."""

    rows: frozenset[str]
    priority: int


@dataclass(frozen=True)
class Draining:
    """A host is about to go: what can be moved is moved, and nothing new is begun there."""

    host: str


@dataclass(frozen=True)
class Yielding:
    """A gang is to be given up once it is idle: it gets nothing new to do."""

    worker: str


@dataclass(frozen=True)
class Budgeted:
    """The job may take so many GPU-seconds in all its runs, or begin no film after those."""

    gpu_s: float
    soft: bool = False


Order = Held | Resumed | Ended | Reprieved | Ranked | Budgeted
Event = Admitted | Hired | Turned | Predicted | Done | Raised | Lost | Ticked | Draining | Yielding | Order

# Actions.


@dataclass(frozen=True)
class Run:
    """Do a whole task."""

    worker: str
    task: Task


@dataclass(frozen=True)
class Open:
    """Put a shot on a canvas, from its last checkpoint if there is one."""

    conductor: str
    task: ShotTask
    opening: int


@dataclass(frozen=True)
class Predict:
    """Predict one part of a step of an open canvas."""

    gang: str
    task: ShotTask
    window: Window


@dataclass(frozen=True)
class Advance:
    """Hand a step's predictions to the conductor."""

    conductor: str
    task: ShotTask
    opening: int
    step: int


@dataclass(frozen=True)
class Drop:
    """Forget an open canvas: its shot has failed, or goes on elsewhere, from here if it is saved."""

    conductor: str
    shot: str
    opening: int
    save: bool = False


@dataclass(frozen=True)
class Replace:
    """Start a worker in the lost one's place."""

    worker: str


@dataclass(frozen=True)
class FilmDone:
    """Nothing of a film is left to do: every wanted task has an outcome or a failure."""

    film: FilmTasks
    results: Mapping[str, Outcome | Failure]


@dataclass(frozen=True)
class Draw:
    """A film need not wait for others any more: it is to be admitted, with what is done of it by now."""

    film: FilmTasks


Action = Run | Open | Predict | Advance | Drop | Replace | FilmDone | Draw
