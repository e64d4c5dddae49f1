"""Kinds of shots: what a shot is but for its texts, its name and its seed, planned once for all of a kind.

Decides: what of a shot tells its kind from others. Does not decide: which shots go by one key before they are
planned (jobs.census), or what a shot's tasks are (jobs.plan).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from cluster.sketch import Load, load_of
from cluster.tasks import SegmentTask
from jobs.plan import segment_task
from jobs.stock import Stock


@dataclass(frozen=True)
class Kind:
    """All that a shot is, but for its texts, its name and its seed; the numbers stand for what is equal."""

    load: Load
    stitched: tuple[str, str]
    n_windows: int
    n_predictions: int
    seconds: Fraction
    latents: int
    embedding: int
    picture: int


class Kinds:
    """The kinds of shots that were met, by an index."""

    def __init__(self, stocked: Mapping[str, Stock], batch: int) -> None:
        self.stocked, self.batch = stocked, batch
        self.profiles, self.cameras, self.list = list(stocked), {"": 0}, list[Kind]()
        self._known, self._numbers, self._places = dict[Any, int](), dict[Any, int](), dict[Kind, int]()
        self._columns: dict[str, Any] = {}

    def of(self, key: Any, row: Mapping[str, Any], shot: Mapping[str, Any]) -> int:
        """The index of the kind that goes by `key`, made of one of its shots if it is new."""
        if key not in self._known:
            self._known[key] = self.of_one(row, shot)
        return self._known[key]

    def of_one(self, row: Mapping[str, Any], shot: Mapping[str, Any]) -> int:
        """The index of the kind of one shot."""
        one = self.stocked[row["profile"]]
        kind = self._kind(segment_task(row, shot, one, self.batch), one.profile.quality.max_drift)
        place = self._places.setdefault(kind, len(self.list))
        if place == len(self.list):
            self.list.append(kind)
            self._columns = {}
        return place

    def _kind(self, task: SegmentTask, max_drift: float) -> Kind:
        source = task.source
        bare = tuple(replace(span, prompt="") for span in source.shot.prompts)
        blank = replace(
            source, shot=replace(source.shot, shot_id="", prompts=bare, negative_prompt="", seed=0)
        )
        # Whether it is held its prompts and its camera say, which equal latents have in common.
        held = max_drift if len(source.layout.windows(source.n_canvas)) > 1 else 0.0
        return Kind(
            load_of(source, task.tiles),
            (source.stitch.mode, source.stitch.why),
            source.course.n_windows,
            source.course.n_predictions,
            source.shot.n_frames / task.picture.fps,
            self._number(blank.key),
            self._number((*source.model.identity, source.max_text_tokens)),
            self._number((source.shot.n_frames, task.picture, held)),
        )

    def _number(self, thing: Any) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def column(self, name: str) -> Any:
        """A number of every kind, numpy."""
        if name not in self._columns:
            self._columns[name] = np.array([getattr(kind, name) for kind in self.list])
        return self._columns[name]
