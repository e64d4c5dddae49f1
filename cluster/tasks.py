"""What there is to do, as plain data: a film is a handful of tasks that need each other's artefacts.

    prompt ─┬▶ shot ──▶ segment ──▶ master
    given ──┘              └──────▶ version (one a language)

Decides: what a film is made of from its shots' latents on, and which tasks are left when some are done. Does
not decide: how latents come about (shots), how tasks are named (identity), or how they end (outcomes).
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from cluster.identity import Picture, Task
from cluster.shots import ShotTask
from engine.changes import LEFT, Hold

VISUAL_ONLY = "und"  # the language tag of a film without a language (BCP-47: undetermined)


@dataclass(frozen=True)
class SegmentTask(Task):
    """A shot's frames as a closed-GOP file, their colours held to its beginning where they drift.

    With tiles they are decoded in tiles of space.
    """

    kind: ClassVar[str] = "segment"
    source: ShotTask
    picture: Picture
    hold: Hold = LEFT
    tiles: bool = False

    @property
    def identity(self) -> Any:
        held = [self.hold.max_drift] if self.hold != LEFT else []
        tiled = ["tiles"] if self.tiles else []
        return [self.source.key, self.source.shot.n_frames, asdict(self.picture), *held, *tiled]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.source.key,)


@dataclass(frozen=True)
class MasterTask(Task):
    """All segments of a film joined: the pictures, once for all languages."""

    kind: ClassVar[str] = "master"
    segments: tuple[SegmentTask, ...]

    @property
    def identity(self) -> Any:
        return list(self.needs)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(segment.key for segment in self.segments)


@dataclass(frozen=True)
class Narration:
    """A text spoken from the start of one shot."""

    shot_id: str
    text: str


@dataclass(frozen=True)
class VersionTask(Task):
    """A film in one language: title, voice, captions, signature."""

    kind: ClassVar[str] = "version"
    segments: tuple[SegmentTask, ...]
    lang: str
    title: str
    narrations: tuple[Narration, ...]

    @property
    def identity(self) -> Any:
        texts = [self.lang, self.title, [asdict(narration) for narration in self.narrations]]
        return [list(self.needs), texts]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(segment.key for segment in self.segments))


@dataclass(frozen=True)
class FilmTasks:
    """One row's tasks, and what it wants in the end: a master and its versions. More priority goes first.

    It begins only when the films of the rows in `depends_on` are done.
    """

    row_id: str
    master: MasterTask
    versions: tuple[VersionTask, ...]
    priority: int = 0
    depends_on: tuple[str, ...] = ()

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All tasks by key, each after what it needs."""
        found: dict[str, Task] = {}
        for segment in self.master.segments:
            found |= {source.key: source for source in segment.source.sources}
            found[segment.source.key] = segment.source
            found[segment.key] = segment
        return found | {task.key: task for task in self.wanted}

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each task among all."""
        return {key: place for place, key in enumerate(self.tasks)}

    @property
    def wanted(self) -> tuple[Task, ...]:
        """The tasks whose artefacts are the film."""
        return (self.master, *self.versions)

    def is_done(self, results: Collection[str]) -> bool:
        """Whether all that is wanted has a result."""
        return all(task.key in results for task in self.wanted)

    def unfinished(self, done: Collection[str]) -> dict[str, Task]:
        """The wanted tasks, and those that lead to a wanted one which is not done, each after what it needs.

        What only done tasks needed is left out: its artefacts may be gone for good.
        """
        kept = {task.key for task in self.wanted}
        for task in reversed(self.tasks.values()):
            if task.key in kept and task.key not in done:
                kept |= set(task.needs)
        return {key: task for key, task in self.tasks.items() if key in kept}
