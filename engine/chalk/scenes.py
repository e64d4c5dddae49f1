"""What a lesson shows: one frozen Scene, a Landscape or a Figure, drawn by chance from a seed.

Decides which things may stand together (rain needs grey clouds, vapour needs water) and which combinations
training never sees. Does not decide what they look like (`teacher`) or what they are called (`captions`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

LANDS = ("sea", "hills", "mountains", "river")
LIGHTS = ("", "shining", "rising", "setting", "moon")
CLOUD_MOTIONS = ("left", "right", "appear", "still")
CAMERAS = ("", "left", "right", "in", "out")  # pans and zooms
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
FORMS = ("circle", "square", "triangle")
FORM_MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "appear", "fade")
MOTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FORMS, FORM_MOTIONS),
    "ball": ("bounce",),
    "pendulum": ("swing",),
    "gears": ("turn",),
    "heart": ("beat",),
    "planet": ("orbit",),
    "moon": ("wax", "wane"),
    "plant": ("grow",),
}
KINDS = tuple(MOTIONS)
SPACE = ("planet", "moon")  # always on a night sky
_HELD_OUT = 8  # one combination in this many is kept from training


@dataclass(frozen=True)
class Figure:
    """One thing in front of a plain day or night, with its colour and its motion; the moon has no colour."""

    kind: str
    colour: str
    motion: str
    night: bool = False

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS.get(self.kind, ()):
            raise ValueError(f"a {self.kind} cannot {self.motion}; there are {MOTIONS}")
        if bool(self.colour) == (self.kind == "moon") or self.colour not in ("", *COLOURS):
            raise ValueError(f"a {self.kind} cannot be {self.colour or 'without colour'}")
        if self.kind in SPACE and not self.night:
            raise ValueError(f"a {self.kind} stands in the night sky")


@dataclass(frozen=True)
class Landscape:
    """A land with what happens over it. Empty strings mean absent, and a camera that stands still."""

    land: str
    light: str = ""
    cloud: str = ""  # "white" or "grey"
    cloud_motion: str = ""
    weather: str = ""  # "rain" or "vapour"
    camera: str = ""

    def __post_init__(self) -> None:
        if bool(self.cloud) != bool(self.cloud_motion):
            pair = f"{self.cloud!r}, {self.cloud_motion!r}"
            raise ValueError(f"a cloud and its motion come together, not {pair}")
        if self.weather == "rain" and self.cloud != "grey":
            raise ValueError(f"rain falls from grey clouds, not from {self.cloud or 'none'}")
        if self.weather == "vapour" and self.land not in ("sea", "river"):
            raise ValueError(f"vapour rises from a sea or a river, not from {self.land}")
        if self.camera and self.cloud_motion in ("left", "right"):
            raise ValueError("clouds drift only before a camera that stands still")
        if self.camera in ("left", "right") and self.land not in ("hills", "mountains"):
            raise ValueError(f"a pan over a {self.land} cannot be told from its water's own motion")

    @property
    def mood(self) -> str:
        """Whose colours the sky has: "day", "rain", "rising", "setting" or "moon"."""
        if self.weather == "rain":
            return "rain"
        return "day" if self.light in ("", "shining") else self.light


Scene = Figure | Landscape


def random_scene(rng: np.random.Generator) -> Scene:
    """Any scene of the lessons' world: half landscapes, half figures."""
    return _landscape(rng) if rng.random() < 0.45 else _figure(rng)


def training_scene(rng: np.random.Generator) -> Scene:
    """A scene whose combination is not held out."""
    while held_out(scene := random_scene(rng)):
        pass
    return scene


def held_out_scene(rng: np.random.Generator) -> Scene:
    """A scene whose combination training never sees."""
    while not held_out(scene := random_scene(rng)):
        pass
    return scene


def held_out(scene: Scene) -> bool:
    """Whether this combination is kept from training: by a hash of all that it is made of.

    A scene with no choice but its motion is always trained on: nothing could stand for it.
    """
    if isinstance(scene, Figure) and scene.kind == "moon":
        return False
    name = "/".join(str(part) for part in astuple(scene))
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] % _HELD_OUT == 0


def _figure(rng: np.random.Generator) -> Figure:
    kind = _pick(rng, KINDS, (0.14, 0.14, 0.14, 0.09, 0.09, 0.09, 0.09, 0.09, 0.05, 0.08))
    night = kind in SPACE or bool(rng.random() < 0.4)
    colour = "" if kind == "moon" else _pick(rng, COLOURS)
    return Figure(kind, colour, _pick(rng, MOTIONS[kind]), night)


def _landscape(rng: np.random.Generator) -> Landscape:
    land = _pick(rng, LANDS, (0.34, 0.2, 0.22, 0.24))
    pans = (0.0, 0.0) if land in ("sea", "river") else (0.13, 0.13)
    camera = _pick(rng, CAMERAS, (0.88 - sum(pans), *pans, 0.06, 0.06))
    motions = ("appear", "still") if camera else CLOUD_MOTIONS
    chance = rng.random()
    if chance < 0.28:
        light = _pick(rng, ("", "shining"), (0.85, 0.15))
        drift = "still" if camera else _pick(rng, ("left", "right", "still"))
        return Landscape(land, light, "grey", drift, "rain", camera)
    weather = "vapour" if land in ("sea", "river") and chance < 0.5 else ""
    light = _pick(rng, LIGHTS, (0.2, 0.32, 0.16, 0.16, 0.16))
    cloud = _pick(rng, ("", "white", "grey"), (0.4, 0.4, 0.2))
    motion = _pick(rng, motions) if cloud else ""
    return Landscape(land, light, cloud, motion, weather, camera)


def _pick(rng: np.random.Generator, options: Sequence[str], chances: Sequence[float] | None = None) -> str:
    return options[int(rng.choice(len(options), p=chances))]
