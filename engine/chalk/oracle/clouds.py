"""Clouds: of which tone, and whether they drift, form or stay.

Shapes: a mask is (T, H, W). Decides where clouds are. Does not decide what falls from them: `weather` does.
"""

from __future__ import annotations

import numpy as np

from engine.chalk.oracle import palette
from engine.chalk.oracle.camera import drift
from engine.chalk.oracle.pixels import Colour, Mask, distance, opened
from engine.chalk.oracle.view import View

_LOWEST = 0.37  # of the height: peaks and vapour are below
_LEAST_PX = 30
_FORMS = 0.35  # of its final size, at first, below which a cloud forms


def cloud_colour(view: View, tone: str) -> Colour:
    """The colour of white or of grey clouds by day or by night."""
    return palette.shade(palette.CLOUDS[tone], palette.CLOUDS_AT_NIGHT if view.night else 1.0)


def find_clouds(view: View) -> tuple[str, Mask]:
    """The tone of which there is most, "white" or "grey", and where it is; "" where there is no cloud."""
    found = {tone: _of_tone(view, tone) for tone in palette.CLOUDS}
    area = {tone: float(np.percentile(mask.sum(axis=(1, 2)), 95)) for tone, mask in found.items()}
    most = max(area, key=lambda tone: area[tone])
    return most if area[most] > _LEAST_PX else "", found[most]


def _of_tone(view: View, tone: str) -> Mask:
    """Pixels nearer to this tone of cloud than to the sky, in the rows of clouds."""
    from_cloud = distance(view.f_THWC, cloud_colour(view, tone))
    near = (from_cloud < (0.15 if view.night else 0.2)) & (from_cloud < view.from_sky) & view.known
    near[:, int(view.height * _LOWEST) :] = False
    return opened(near, 5 if view.night else 4)  # the moon's glow is like a thin cloud


def cloud_motion(view: View, mask: Mask) -> str:
    """ "left", "right", "appear" or "still"."""
    shift = drift(mask[:, : int(view.height * 0.4), :, None].astype(np.float32))
    if abs(shift) >= 3:
        return "right" if shift > 0 else "left"
    return "appear" if _share_at_first(mask, view.known) < _FORMS else "still"


def _share_at_first(mask: Mask, known: Mask) -> float:
    """How much of the last frame's clouds the first frames show, where both can be seen."""
    n = min(8, len(mask) // 4)
    both = known[:n] & known[-1]
    last = float((mask[-1] & both).sum())
    return float((mask[:n] & both).sum()) / last if last > 20 * n else 1.0
