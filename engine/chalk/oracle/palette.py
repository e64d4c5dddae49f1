"""The colours of the lessons' world, as the teacher paints them.

Decides nothing: one door to the teacher's palette, so that a colour is written down once.
"""

from __future__ import annotations

from engine.chalk.figures import _DAY, _FLOOR, _NIGHT, _SOIL, COLOURS
from engine.chalk.landscape import _CLOUDS, _DIM, _SKY

DAY, NIGHT = _DAY, _NIGHT  # behind figures
GROUNDS = {"floor": _FLOOR, "soil": _SOIL}
DUSK = 0.5  # of grounds at night
FIGURES = COLOURS
SKY = _SKY  # mood to the colours of the sky's top and of its lower edge
DIM = _DIM  # brightness of the land by mood, 1 where not named
CLOUDS = _CLOUDS
CLOUDS_AT_NIGHT = 0.5
SUN, LOW_SUN, MOON = (1.0, 0.86, 0.30), (1.0, 0.50, 0.22), (0.96, 0.95, 0.84)
ROCK = (0.46, 0.50, 0.60)
