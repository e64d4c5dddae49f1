"""How far a job is, folded from what happens: films, window predictions, workers. Pure, in constant memory.

A shot's place is the furthest that any opening of its canvas came, so what a lost worker makes the crew do
again is not counted twice. A shot that films share is counted with the first of them, as long as no more than
RECENT other shots lie between; further apart it is counted again, and never beyond the whole.

Decides: how much there is, how much of it is behind, and when it may end. Does not decide what a person sees
of it, or when.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice

from cluster.dispatch import GANG
from cluster.events import Admitted, Done, Event, FilmDone, Hired, Lost, Predicted, Turned
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks
from engine.phases import Course
from engine.timeline import PromptSpan, Shot

RECENT = 4096  # shots remembered as counted
Seen = Mapping[str, None]  # keys of shots, the latest last


@dataclass(frozen=True)
class Work:
    """What a job has to render, if nothing of it was done before; shots and windows are distinct ones."""

    films: int = 0
    shots: int = 0
    windows: int = 0  # parts of one step of every phase
    window_steps: int = 0  # window predictions in all
    n_steps: tuple[int, ...] = ()  # predicted of a shot's phase, each number that occurs, ascending


@dataclass(frozen=True)
class Place:
    """How far one shot is: `at` of its course's predictions, and the step that it stands before."""

    course: Course
    at: int = 0
    opening: int = 0
    step: int = -1
    n_predicted: int = 0  # of this step

    @property
    def end(self) -> int:
        """All predictions of the shot."""
        return self.course.n_predictions


@dataclass(frozen=True)
class Progress:
    """How far a job is. `places` holds the shots under way, `behind` the predictions of all others."""

    films: int = 0
    windows: int = 0  # window predictions in all
    films_done: int = 0
    films_failed: int = 0
    films_reused: int = 0  # of the done ones: those of which nothing had to be made
    shots_done: int = 0  # in this run
    predicted: int = 0  # window predictions of this run, repeated ones too: the pace
    behind: int = 0
    lost: int = 0
    workers: Mapping[str, str] = field(default_factory=dict)  # worker -> role
    places: Mapping[str, Place] = field(default_factory=dict)
    seen: Seen = field(default_factory=dict)

    @property
    def windows_done(self) -> int:
        """Window predictions that need not be made any more: made, found in the store, or given up."""
        return min(self.windows, self.behind + sum(place.at for place in self.places.values()))

    def alive(self, role: str) -> int:
        """Workers of a role."""
        return sum(other == role for other in self.workers.values())

    @property
    def over(self) -> bool:
        """Whether every film has ended."""
        return self.films_done + self.films_failed >= self.films


def advance(progress: Progress, event: Event | FilmDone) -> Progress:
    """The progress after an event; one that changes nothing that is counted gives the same progress."""
    match event:
        case Admitted():
            return _admit(progress, event)
        case Hired(worker, role):
            return replace(progress, workers={**progress.workers, worker: role})
        case Lost(worker) if worker in progress.workers:
            left = {name: role for name, role in progress.workers.items() if name != worker}
            return replace(progress, workers=left, lost=progress.lost + 1)
        case Turned(shot) if shot in progress.places:
            return _with_place(progress, shot, _turned(progress.places[shot], event))
        case Predicted():
            return _predicted(progress, event)
        case Done(key) if key in progress.places:
            done = replace(progress, shots_done=progress.shots_done + 1)
            return _settled(done, [key])
        case FilmDone():
            return _film_done(progress, event)
    return progress


def eta_s(progress: Progress, elapsed_s: float) -> float | None:
    """Seconds until all windows are predicted, at this run's pace; None before the first and after the last.

    What is then left of the last films (decoding, voice, signing) has no pace of its own.
    """
    left = progress.windows - progress.windows_done
    if progress.over:
        return 0.0
    if left <= 0 or progress.predicted == 0 or elapsed_s <= 0:
        return None
    return left * elapsed_s / progress.predicted


def line(progress: Progress, elapsed_s: float) -> str:
    """All of it in one line."""
    done, total = progress.windows_done, progress.windows
    share = f" ({100 * done // total}%)" if total else ""
    films = f"films {progress.films_done + progress.films_failed}/{progress.films}"
    notes = [(progress.films_failed, "failed"), (progress.films_reused, "reused")]
    films += "".join(f", {n} {word}" for n, word in notes if n)
    eta = eta_s(progress, elapsed_s)
    parts = [films, f"windows {done:,}/{total:,}{share}", f"gangs {progress.alive(GANG)}"]
    parts += [f"lost {progress.lost}"] if progress.lost else []
    parts += [f"elapsed {clock(elapsed_s)}", f"eta {'-' if eta is None else clock(eta)}"]
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _fresh(seen: Seen, film: FilmTasks) -> tuple[list[ShotTask], Seen]:
    """The film's distinct shots that were not counted of late, and what is remembered after them."""
    shots = {segment.source.key: segment.source for segment in film.master.segments}
    kept = {key: None for key in seen if key not in shots} | dict.fromkeys(shots)
    recent = dict(islice(kept.items(), max(0, len(kept) - RECENT), None))
    return [shot for key, shot in shots.items() if key not in seen], recent


def _place(task: ShotTask) -> Place:
    """The beginning of a shot. Shots of one length are cut alike, so a big manifest needs few weights."""
    spans = tuple(PromptSpan("", span.start, span.blend) for span in task.shot.prompts)
    bare = replace(task, shot=Shot("", task.shot.n_frames, spans, "", 0))
    return Place(_course(bare))


@lru_cache(maxsize=256)
def _course(task: ShotTask) -> Course:
    return task.course


def _admit(progress: Progress, event: Admitted) -> Progress:
    """Take up a film's shots; those that need no rendering are behind at once."""
    fresh, seen = _fresh(progress.seen, event.film)
    wanted = event.film.unfinished(event.results).keys() - event.results.keys()
    places = {shot.key: _place(shot) for shot in fresh}
    progress = replace(progress, seen=seen, places={**progress.places, **places})
    return _settled(progress, [key for key in places if key not in wanted])


def _turned(place: Place, event: Turned) -> Place:
    at = max(place.at, place.course.before(event.step))
    return replace(place, at=at, opening=event.opening, step=event.step, n_predicted=0)


def _predicted(progress: Progress, event: Predicted) -> Progress:
    window = event.window
    place = progress.places.get(window.shot)
    if place is None or (window.opening, window.step) != (place.opening, place.step):
        # too late to matter: its canvas was opened again
        return replace(progress, predicted=progress.predicted + 1)
    course, step = place.course, place.step
    n_more = len(course.predictions_of(step, window.part))
    progress = replace(progress, predicted=progress.predicted + n_more)
    # a lost gang may answer beside its successor
    n = min(place.n_predicted + n_more, course.before(step + 1) - course.before(step))
    at = max(place.at, course.before(step) + n)
    return _with_place(progress, window.shot, replace(place, n_predicted=n, at=at))


def _film_done(progress: Progress, event: FilmDone) -> Progress:
    """Count the film, done only in all its languages; nothing of its shots is ahead any more."""
    results = [event.results[version.key] for version in event.film.versions]
    made = [result for result in results if isinstance(result, Outcome)]
    done = len(made) == len(results)
    progress = replace(
        progress,
        films_done=progress.films_done + done,
        films_failed=progress.films_failed + (not done),
        films_reused=progress.films_reused + (done and all(result.reused for result in made)),
    )
    return _settled(progress, [key for key in event.film.tasks if key in progress.places])


def _with_place(progress: Progress, shot: str, place: Place) -> Progress:
    return replace(progress, places={**progress.places, shot: place})


def _settled(progress: Progress, shots: Iterable[str]) -> Progress:
    """These shots are over, however they ended."""
    gone = set(shots)
    behind = progress.behind + sum(progress.places[key].end for key in gone)
    places = {key: place for key, place in progress.places.items() if key not in gone}
    return replace(progress, behind=behind, places=places)
