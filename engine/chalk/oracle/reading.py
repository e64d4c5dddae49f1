"""A Reading: all that the oracle sees in a clip.

Shapes: clips are uint8 f_THWC at 8 frames a second, of 17 frames or more and 64 pixels or more a side.
Decides in which order the parts are read. Does not know what was asked for: `score` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.chalk.oracle import camera, figure, motion, weather
from engine.chalk.oracle.clouds import cloud_motion, find_clouds
from engine.chalk.oracle.disc import find_disc
from engine.chalk.oracle.land import land_of
from engine.chalk.oracle.pixels import Array, to_float
from engine.chalk.oracle.view import View

LANDSCAPE = "landscape"


@dataclass(frozen=True)
class Reading:
    """What a clip shows; "" where a part is absent or cannot be made out."""

    kind: str  # one of scenes.KINDS or "landscape"
    night: bool
    colour: str = ""  # of a figure
    motion: str = ""  # of a figure
    land: str = ""
    mood: str = ""  # of the sky: "day", "rain", "rising", "setting" or "moon"
    disc: str = ""  # "sun", "moon" or "several"
    disc_motion: str = ""  # "rising", "setting" or "still"
    cloud: str = ""  # "white" or "grey"
    cloud_motion: str = ""  # as in scenes.CLOUD_MOTIONS
    weather: str = ""  # "rain" or "vapour"
    weather_motion: str = ""  # "falls" or "rises"
    camera: str = ""  # as in scenes.CAMERAS


def read(f_THWC: npt.NDArray[np.uint8]) -> Reading:
    """What the clip shows, from its pixels alone."""
    smooth = to_float(f_THWC)
    clip = figure.plain(smooth)
    if clip is None:
        return _landscape(smooth)
    kind = figure.kind_of(clip)
    return Reading(kind, clip.night, figure.colour_of(clip, kind), motion.motion_of(clip, kind))


def _landscape(f_THWC: Array) -> Reading:
    view = View(*camera.steadied(f_THWC, ""))
    moved = camera.camera_of(f_THWC, land_of(view) in ("hills", "mountains"))
    if moved in ("in", "out"):
        view = View(*camera.steadied(f_THWC, moved))
    land, disc, (cloud, mask) = land_of(view), find_disc(view), find_clouds(view)
    return Reading(
        LANDSCAPE,
        view.night,
        land=land,
        mood=view.mood,
        disc=("", "moon" if view.night else "sun", "several")[disc.count],
        disc_motion=disc.motion,
        cloud=cloud,
        cloud_motion=cloud_motion(view, mask) if cloud else "",
        weather=weather.weather_of(view, land),
        weather_motion=weather.weather_motion(view, land),
        camera=moved,
    )
