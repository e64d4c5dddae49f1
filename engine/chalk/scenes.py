"""What a lesson shows: one frozen Scene, drawn by chance from a seed.

Decides which things may stand together (rain needs grey clouds, vapour needs water). Does not decide what
they look like (`teacher`) or what they are called (`captions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LANDS = ("sea", "hills", "mountains", "river")
LIGHTS = ("", "shining", "rising", "setting", "moon")
CLOUD_MOTIONS = ("left", "right", "appear", "still")
FORMS = ("circle", "square", "triangle")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPE_MOTIONS = ("left", "right", "up", "down", "grow", "shrink")


@dataclass(frozen=True)
class Shape:
    """A flat coloured form on a plain background, with one motion."""

    form: str
    colour: str
    motion: str


@dataclass(frozen=True)
class Scene:
    """One lesson clip: a landscape with what happens in it, or a shape alone. Empty strings mean absent."""

    land: str = "hills"
    light: str = ""
    cloud: str = ""  # "white" or "grey"
    cloud_motion: str = ""
    weather: str = ""  # "rain" or "vapour"
    plant: bool = False
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if bool(self.cloud) != bool(self.cloud_motion):
            pair = f"{self.cloud!r}, {self.cloud_motion!r}"
            raise ValueError(f"a cloud and its motion come together, not {pair}")
        if self.weather == "rain" and self.cloud != "grey":
            raise ValueError(f"rain falls from grey clouds, not from {self.cloud or 'none'}")
        if self.weather == "vapour" and self.land not in ("sea", "river"):
            raise ValueError(f"vapour rises from a sea or a river, not from {self.land}")


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene of the lessons' world: mostly the water cycle, some plants, some shapes."""
    kind = rng.random()
    if kind < 0.08:
        return Scene(shape=Shape(_pick(rng, FORMS), _pick(rng, COLOURS), _pick(rng, SHAPE_MOTIONS)))
    if kind < 0.16:
        cloud = _pick(rng, ("", "white"))
        motion = _pick(rng, ("left", "right")) if cloud else ""
        return Scene("hills", _pick(rng, ("", "shining")), cloud, motion, plant=True)
    return _landscape(rng)


def _landscape(rng: np.random.Generator) -> Scene:
    land = _pick(rng, LANDS, (0.35, 0.15, 0.25, 0.25))
    chance = rng.random()
    if chance < 0.28:
        light = _pick(rng, ("", "shining"), (0.85, 0.15))
        return Scene(land, light, "grey", _pick(rng, ("left", "right", "still")), "rain")
    weather = "vapour" if land in ("sea", "river") and chance < 0.5 else ""
    light = _pick(rng, LIGHTS, (0.2, 0.38, 0.14, 0.14, 0.14))
    cloud = _pick(rng, ("", "white", "grey"), (0.35, 0.52, 0.13))
    motion = _pick(rng, CLOUD_MOTIONS, (0.3, 0.3, 0.25, 0.15)) if cloud else ""
    return Scene(land, light, cloud, motion, weather)


def _pick(rng: np.random.Generator, options: Sequence[str], chances: Sequence[float] | None = None) -> str:
    return options[int(rng.choice(len(options), p=chances))]
