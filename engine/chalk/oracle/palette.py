"""The colours of the lessons' world, as the teacher paints them.

Decides nothing: one door to the teacher's palette, so that a colour is written down once.
"""

from __future__ import annotations

from engine.chalk.figures import COLOURS as FIGURES
from engine.chalk.figures import DAY, DUSK, FLOOR, NIGHT, SOIL
from engine.chalk.landscape import CLOUDS, DIM, LOW_SUN, MOON, ROCK, SKY, SUN, shade
from engine.chalk.landscape import DUSK as CLOUDS_AT_NIGHT

GROUNDS = {"floor": FLOOR, "soil": SOIL}
__all__ = [
    "CLOUDS", "CLOUDS_AT_NIGHT", "DAY", "DIM", "DUSK", "FIGURES", "GROUNDS",
    "LOW_SUN", "MOON", "NIGHT", "ROCK", "SKY", "SUN", "shade",
]  # fmt: skip
