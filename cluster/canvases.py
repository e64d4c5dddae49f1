"""Where the windows of open canvases lie on a Ray cluster: references alone, no longer than they are wanted.

Of a shot's canvases the newest opening counts; what an older one still answers changes nothing here.
Decides: what is kept of a canvas, and until when. Does not decide: when one is opened or given up
(dispatch), or what is asked of whom (remote).
"""

from collections.abc import Iterable
from typing import Any

from cluster.events import Window
from cluster.shots import ShotTask

Ref = Any  # as in actors


class Canvases:
    """Who conducts which shot, the requests of its step, and the predictions that have come back."""

    def __init__(self) -> None:
        self.conductors: dict[str, str] = {}  # shot -> conductor
        self.openings: dict[str, int] = {}  # shot -> the newest opening of its canvas
        self.requests: dict[Window, Ref] = {}
        self.predictions: dict[Window, tuple[Ref, float]] = {}  # and the GPU-seconds that they took

    def open(self, shot: str, conductor: str, opening: int) -> None:
        """A shot's newest canvas is there."""
        self.conductors[shot], self.openings[shot] = conductor, opening

    def turn(self, shot: ShotTask, opening: int, step: int, requests: Iterable[Ref]) -> None:
        """A canvas is at a step; of its slots those behind the step's parts hold nothing."""
        if self.openings.get(shot.key) != opening:  # a newer canvas has its own requests out
            return
        self._forget(shot.key)
        for part, request in zip(shot.course.parts_at(step), requests, strict=False):
            self.requests[Window(shot.key, opening, step, part)] = request

    def predicted(self, window: Window, prediction: Ref, gpu_s: float) -> None:
        """A window's prediction is there, unless its canvas was given up meanwhile."""
        if self.requests.pop(window, None) is not None:
            self.predictions[window] = prediction, gpu_s

    def taken(self, shot: ShotTask, opening: int, step: int) -> tuple[list[Ref], float]:
        """Let a step's predictions go: those of its parts in order, and the GPU-seconds that all took."""
        windows = [Window(shot.key, opening, step, part) for part in shot.course.parts_at(step)]
        predictions, took = zip(*(self.predictions.pop(window) for window in windows), strict=True)
        return list(predictions), sum(took)

    def close(self, shot: str, opening: int) -> None:
        """A canvas is done or given up; nothing if a newer one has taken its place."""
        if self.openings.get(shot) == opening:
            self._close(shot)

    def close_all(self, conductor: str) -> None:
        """Whoever conducted these canvases is gone."""
        for shot in [shot for shot, one in self.conductors.items() if one == conductor]:
            self._close(shot)

    def _close(self, shot: str) -> None:
        self._forget(shot)
        del self.conductors[shot], self.openings[shot]

    def _forget(self, shot: str) -> None:
        """Let a shot's windows go: a new step or a new canvas takes their place."""
        self.requests = {window: ref for window, ref in self.requests.items() if window.shot != shot}
        self.predictions = {window: ref for window, ref in self.predictions.items() if window.shot != shot}
