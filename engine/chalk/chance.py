"""What chance decides about a drawing: places and phases, unless the scene is composed.

Decides how a composed scene stands and moves: its things have places of their own, its motions begin with
the clip, and what swings, turns, flows or drifts comes round a whole number of times in `LOOP` seconds.
Windows of a long shot whose stride is that long then begin at the same point of such a motion. Does not
decide what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOOP = 4.5  # seconds: 36 frames at 8 a second, 9 latent frames, the stride of 13 that overlap by 4


@dataclass(frozen=True)
class Chance:
    """Draws from rng, as many numbers from a composed scene as from any other."""

    rng: np.random.Generator
    composed: bool = False

    def place(self, low: float, high: float, at: float = 0.5) -> float:
        """A place from low to high: in a composed scene the share `at` of the way."""
        drawn = self.anywhere(low, high)
        return low + at * (high - low) if self.composed else drawn

    def phase(self, low: float, high: float) -> float:
        """Where a motion stands at the first frame: in a composed scene at low, its beginning."""
        return self.place(low, high, at=0.0)

    def anywhere(self, low: float, high: float) -> float:
        """What stays open even in a composed scene."""
        return float(self.rng.uniform(low, high))

    def period(self, seconds: float) -> float:
        """The period of a motion: in a composed scene the nearest that divides LOOP."""
        return LOOP / max(1, round(LOOP / seconds)) if self.composed else seconds
