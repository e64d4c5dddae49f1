"""Rain and vapour: a fine texture before the sky, and which way it goes.

Shapes: g_TRW is the brightness of some rows over time. Decides whether something falls or rises. Does not
decide what the clouds above are: `clouds` does.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.chalk.oracle.pixels import Array
from engine.chalk.oracle.view import View

_RAIN, _VAPOUR = 0.004, 0.0023  # texture: mean difference of brightness from 9 pixels beside
_MOVING = 0.003  # root mean square of brightness that changes
_ONE_WAY = 0.25  # of what moves up and down, the part that moves one way more than the other


def weather_of(view: View, land: str) -> str:
    """ "rain", "vapour" or ""."""
    # what is fine in the upper sky too is noise
    noise = float(np.median(np.abs(_besides(_rows(view, 1, 0.3 * view.horizon)))))
    fineness = _fineness(_curtain(view, land)) - noise
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
        else (0.68 * view.horizon, view.horizon - 2)
    )
    return _rows(view, start, stop)


def _rows(view: View, start: float, stop: float) -> Array:
    """Brightness (T, rows, W) of these rows where they are always known.

    Smoothed over three rows and three frames, which takes noise away and leaves drops and wisps.
    """
    columns = np.flatnonzero(view.known[:, view.height // 2].all(axis=0))
    g_TRW = view.f_THWC[:, int(start) : int(stop), columns[0] : columns[-1] + 1].mean(axis=-1)
    return np.stack([cv2.blur(g_TR, (3, 3)) for g_TR in g_TRW.transpose(2, 0, 1)], axis=2)


def _fineness(g_TRW: Array) -> float:
    """Mean difference of a pixel from those beside it."""
    return float(np.abs(_besides(g_TRW)).mean())


def _besides(g_TRW: Array) -> Array:
    """Every pixel less the mean of the nine in a row about it."""
    return np.stack([g_RW - cv2.blur(g_RW, (9, 1)) for g_RW in g_TRW])


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
    return (down - up) / max(both, 1e-9), float(np.sqrt(both / g_TRW.size / energy.size))
