"""Whether a clip shows what its scene asks for, on four axes and by attribute.

Decides what counts: object (the thing, or a land with all that is over it and nothing that was not asked
for), colour, motion, and backdrop (the sky). An axis is None where the scene asks for nothing on it. Does not
decide how a clip is read: `reading` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.chalk.oracle.reading import LANDSCAPE, Reading
from engine.chalk.scenes import Figure, Landscape, Scene

AXES = ("object", "colour", "motion", "backdrop")
_DISC_MOTION = {"shining": "still", "moon": "still", "rising": "rising", "setting": "setting"}
_WEATHER_MOTION = {"rain": "falls", "vapour": "rises"}


@dataclass(frozen=True)
class Score:
    """What was asked for and seen: by axis, and by attribute of an axis as "motion.clouds"."""

    object: bool | None
    colour: bool | None
    motion: bool | None
    backdrop: bool | None
    parts: Mapping[str, bool]

    @property
    def all(self) -> bool:
        """Whether all that was asked for was seen."""
        return all(self.parts.values())


def score(reading: Reading, scene: Scene) -> Score:
    """The reading held against what the scene asks for."""
    parts = _figure(reading, scene) if isinstance(scene, Figure) else _landscape(reading, scene)
    found = {axis: [right for name, right in parts.items() if name.split(".")[0] == axis] for axis in AXES}
    return Score(**{axis: all(rights) if rights else None for axis, rights in found.items()}, parts=parts)


def _figure(reading: Reading, figure: Figure) -> dict[str, bool]:
    parts = {
        "object.figure": reading.kind == figure.kind,
        "motion.figure": reading.motion == figure.motion,
        "backdrop.night": reading.night == figure.night and reading.kind != LANDSCAPE,
    }
    if figure.colour:
        parts["colour.figure"] = reading.colour == figure.colour
    return parts


def _landscape(reading: Reading, scene: Landscape) -> dict[str, bool]:
    """Parts of a landscape; that a thing stays still counts only where something else moves."""
    parts = {
        "object.land": reading.land == scene.land,
        "object.light": reading.disc == _disc(scene),
        "object.clouds": bool(reading.cloud) == bool(scene.cloud),
        "object.weather": reading.weather == scene.weather,
        "backdrop.sky": reading.mood == scene.mood,
    }
    if scene.cloud:
        parts["colour.clouds"] = reading.cloud == scene.cloud
    return parts | (_moving(reading, scene) if _moves(scene) else {})


def _moving(reading: Reading, scene: Landscape) -> dict[str, bool]:
    parts = {"motion.camera": reading.kind == LANDSCAPE and reading.camera == scene.camera}
    if scene.light:
        parts["motion.light"] = reading.disc_motion == _DISC_MOTION[scene.light]
    if scene.cloud:
        parts["motion.clouds"] = reading.cloud_motion == scene.cloud_motion
    if scene.weather:
        parts["motion.weather"] = reading.weather_motion == _WEATHER_MOTION[scene.weather]
    return parts


def _moves(scene: Landscape) -> bool:
    """Whether the scene names anything that moves."""
    rises = scene.light in ("rising", "setting")
    return bool(rises or scene.cloud_motion in ("left", "right", "appear") or scene.weather or scene.camera)


def _disc(scene: Landscape) -> str:
    return "moon" if scene.light == "moon" else "sun" if scene.light else ""
