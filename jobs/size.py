"""The size of a job, film by film: how much there is of each thing, and how much of it is still to do.

Decides: what counts as there already: a task that has a marker, and what only such tasks need; and that what
films share counts once. Does not decide: what a task is (cluster.tasks), or why one changed (jobs.changes).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a command loads, it loads when it is called
    from cluster.identity import Task
    from cluster.outcomes import Outcome
    from cluster.sketch import Load
    from cluster.tasks import FilmTasks
    from manifests.store import Store

EDITED = 20  # films of which the plan says what an edit changes
WORDS = {
    "films": "films",
    "film_s": "seconds of film",
    "versions": "language versions",
    "shots": "shots",
    "windows": "windows",
    "window_steps": "window steps",
    "prompts": "distinct prompts",
}


@dataclass
class Size:
    """How much there is of each of WORDS: in all, and still to do."""

    total: "Counter[str]" = field(default_factory=Counter)
    to_do: "Counter[str]" = field(default_factory=Counter)
    loads: "Counter[Load]" = field(default_factory=Counter)  # shots to do, by what their cost depends on
    longest: "Counter[Load]" = field(default_factory=Counter)  # those of the film with most to do
    stitched: "Counter[tuple[str, str]]" = field(default_factory=Counter)  # shots by mode and reason
    given: int = 0  # films with a shot that is given a file
    edited: dict[str, dict[str, str]] = field(default_factory=dict)  # row -> shots to render, and why


def forecast(films: Iterable["FilmTasks"], store: "Store | None") -> Size:
    """The size of a job; what films share is counted once. Holds a number a distinct task, no film."""
    from cluster.loop import known

    size = Size()
    counted: set[int] = set()
    begun: set[int] = set()
    for film in films:
        done = known(store, film) if store else {}
        left = {key for key in film.unfinished(done) if key not in done}
        own = _film(film)
        size.given += any(segment.source.given for segment in film.master.segments)
        size.total.update(own)
        size.to_do.update(own if left else {})
        if store and left and len(size.edited) < EDITED:
            size.edited |= _edited(store, film, done)
        tiled = {segment.source.key for segment in film.master.segments if segment.tiles}
        for key, task in film.tasks.items():
            if _first(key, counted):
                size.total.update(_task(task))
                size.stitched.update(_stitched(task))
            if key in left and _first(key, begun):
                size.to_do.update(_task(task))
                size.loads.update(_loads([task], tiled))
        loads = _loads((task for key, task in film.tasks.items() if key in left), tiled)
        size.longest = max(size.longest, loads, key=_window_steps)
    return size


def _edited(store: "Store", film: "FilmTasks", done: "Mapping[str, Outcome]") -> dict[str, dict[str, str]]:
    """A film that was made before: its shots to render, and why; nothing of a new film."""
    from jobs.changes import changes, note_key

    if store.read(note_key(film.row_id)) is None:
        return {}
    return {film.row_id: shots} if (shots := changes(store, film, done)) else {}


def _loads(tasks: Iterable["Task"], tiled: set[str]) -> "Counter[Load]":
    """The shots among some tasks, by what their cost depends on; of those `tiled` pixels are in tiles."""
    from cluster.shots import ShotTask
    from cluster.sketch import load_of

    return Counter(load_of(task, task.key in tiled) for task in tasks if isinstance(task, ShotTask))


def _window_steps(loads: "Counter[Load]") -> int:
    return sum(n * load.course.n_predictions for load, n in loads.items())


def _first(key: str, seen: set[int]) -> bool:
    """Whether a key is new; kept as a number, which is half as large."""
    number = int(key, 16)
    if number in seen:
        return False
    seen.add(number)
    return True


def _film(film: "FilmTasks") -> Mapping[str, Any]:
    segments = film.master.segments
    return {"films": 1, "film_s": sum(s.source.shot.n_frames / s.picture.fps for s in segments)}


def _task(task: "Task") -> Mapping[str, int]:
    """What one task weighs."""
    from cluster.shots import PromptTask, ShotTask
    from cluster.tasks import VersionTask

    match task:
        case PromptTask():
            return {"prompts": 1}
        case ShotTask():
            course = task.course
            return {"shots": 1, "windows": course.n_windows, "window_steps": course.n_predictions}
        case VersionTask():
            return {"versions": 1}
        case _:
            return {}


def _stitched(task: "Task") -> Iterator[tuple[str, str]]:
    """A shot's mode of stitching, and why."""
    from cluster.shots import ShotTask

    if isinstance(task, ShotTask):
        yield task.stitch.mode, task.stitch.why
