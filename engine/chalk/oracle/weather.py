"""Rain and vapour: a fine texture before the sky, and which way it goes.

Shapes: g_TRW is the brightness of some rows over time. Decides whether something falls or rises. Does not
decide what the clouds above are: `landscape` does.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.chalk.oracle.landscape import View
from engine.chalk.oracle.pixels import Array

_RAIN, _VAPOUR = 0.009, 0.005  # texture: mean difference of brightness from 9 pixels around
_MOVING = 0.0025  # brightness that changes, per pixel
_ONE_WAY = 0.3  # of what moves up and down, the part that moves one way more than the other


def weather_of(view: View, land: str) -> str:
    """ "rain", "vapour" or ""."""
    fineness = _fineness(_curtain(view, land))
    if view.mood == "rain":
        return "rain" if fineness > _RAIN else ""
    return "vapour" if fineness > _VAPOUR and land != "mountains" else ""


def weather_motion(view: View, land: str) -> str:
    """ "falls", "rises" or ""."""
    one_way, moving = _fall(_curtain(view, land))
    if moving < _MOVING or abs(one_way) < _ONE_WAY:
        return ""
    return "falls" if one_way > 0 else "rises"


def _curtain(view: View, land: str) -> Array:
    """Brightness where only rain or vapour is fine: before the sky, or the plain below mountains."""
    start, stop = (
        (view.horizon + 5, view.horizon + 15)
        if land == "mountains"
        else (0.65 * view.horizon, view.horizon - 2)
    )
    columns = np.flatnonzero(view.known[:, view.height // 2].all(axis=0))
    return np.asarray(view.f_THWC[:, int(start) : int(stop), columns[0] : columns[-1] + 1].mean(axis=-1))


def _fineness(g_TRW: Array) -> float:
    """Mean difference of a pixel from those beside it."""
    return float(np.mean([np.abs(g_RW - cv2.blur(g_RW, (9, 1))).mean() for g_RW in g_TRW]))


def _fall(g_TRW: Array) -> tuple[float, float]:
    """Of what moves, how much more goes down than up (-1 to 1), and how much moves at all.

    A pattern that goes down has its energy where frequencies in time and in height have opposite signs.
    """
    moving = g_TRW - g_TRW.mean(axis=0)
    windowed = moving * np.hanning(len(g_TRW))[:, None, None]
    energy = (np.abs(np.fft.rfft2(windowed, axes=(1, 0))) ** 2)[1:].sum(axis=2)
    heights = np.fft.fftfreq(g_TRW.shape[1])
    up, down = float(energy[:, heights > 0].sum()), float(energy[:, heights < 0].sum())
    both = up + down
    return (down - up) / max(both, 1e-9), float(np.sqrt(both / g_TRW.size) / len(g_TRW))
