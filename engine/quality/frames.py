"""One span of pictures as numbers, of which every metric is made. Memory: two pictures, ten numbers a frame.

T frames of the span. Index t of a series stands for the change from frame t - 1 to t, or for frame t itself;
NaN where there is none. Once a second, and at the centre of every window, a few small things are kept beside.

Shapes: f_HWC picture, uint8 RGB.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.film.encode import Picture
from engine.quality.flow import Flow, between, fastest, flow_between, luma_of, warp_error
from engine.quality.identity import Anchor, Likeness
from engine.quality.video import working_size

Series = NDArray[np.float64]
NAMES = (
    "difference",  # mean |f_t - f_(t-1)|, levels of 255, at the film's own size
    "second_difference",  # mean |f_t - 2 f_(t-1) + f_(t-2)|, levels
    "warp_error",  # what motion does not explain of the change, levels
    "flow_x",  # mean flow from t to t - 1, pixels at the working size
    "flow_y",
    "fastest",  # mean speed of the fastest 5% of pixels, pixels a frame at a shorter side of 256
    "interpolation",  # odd t: mean |f_t - what t - 1 and t + 1 let expect|, levels
    "luma",  # mean, levels
    "contrast",  # standard deviation of luma, levels
    "sharpness",  # variance of luma's Laplacian
)


@dataclass(frozen=True)
class Sample:
    """A frame's colour: means of CIE L*, a*, b* and of HSV saturation (0 to 1)."""

    index: int
    lab: tuple[float, float, float]
    saturation: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A span's series by name, each (T,); its colour samples and its anchors in order."""

    series: dict[str, Series]
    samples: tuple[Sample, ...]
    anchors: tuple[Anchor, ...]

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.series["luma"])

    @property
    def jerk(self) -> Series:
        """|v_t - 2 v_(t-1) + v_(t-2)| of the mean flow v (T,), pixels a frame cubed."""
        v = np.stack([self.series["flow_x"], self.series["flow_y"]])
        out = np.full(self.n_frames, np.nan)
        out[2:] = np.hypot(*(v[:, 2:] - 2 * v[:, 1:-1] + v[:, :-2]))
        return out


def measure_frames(
    pictures: Iterable[Picture], sample_at: Collection[int], anchor_at: Collection[int]
) -> Measured:
    """Pull a span's pictures one by one, and keep numbers only."""
    gauge = Gauge()
    samples: list[Sample] = []
    likeness = Likeness()
    for index, picture in enumerate(pictures):
        small = working_size(picture)
        gauge.add(picture, small)
        if index in sample_at:
            samples.append(colour_sample(index, small))
        likeness.see(index, small, keep=index in anchor_at)
    return Measured(gauge.series(), tuple(samples), tuple(likeness.anchors))


class Gauge:
    """The series of a span, filled picture by picture."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.full: Picture | None = None
        self.past: list[Picture] = []  # at the working size, the last two

    def add(self, picture: Picture, small: Picture) -> None:
        """The next picture, at the film's size and at the working size."""
        luma = luma_of(small)
        found = {
            "luma": float(luma.mean()),
            "contrast": float(luma.std()),
            "sharpness": float(cv2.Laplacian(luma, cv2.CV_64F).var()),
        }
        if self.full is not None:
            found["difference"] = float(cv2.absdiff(picture, self.full).mean())
            found |= _of_flow(self.past[-1], small)
        if len(self.past) == 2:
            found |= self._of_three(small)
        for name in NAMES:
            self.values[name].append(found.get(name, np.nan))
        self.full, self.past = picture, [*self.past[-1:], small]

    def _of_three(self, small: Picture) -> dict[str, float]:
        """What needs the two pictures before; the interpolation error belongs to the one before."""
        first, middle = self.past
        bend = first.astype(np.int16) - 2 * middle.astype(np.int16) + small
        if len(self.values["luma"]) % 2 == 0:
            self.values["interpolation"][-1] = float(np.abs(between(first, small) - middle).mean())
        return {"second_difference": float(np.abs(bend).mean())}

    def series(self) -> dict[str, Series]:
        """All that was measured, by name."""
        return {name: np.asarray(self.values[name], dtype=np.float64) for name in NAMES}


def _of_flow(before: Picture, now: Picture) -> dict[str, float]:
    flow: Flow = flow_between(luma_of(now), luma_of(before))
    x, y = flow.mean(axis=(0, 1), dtype=np.float64)
    return {
        "flow_x": float(x),
        "flow_y": float(y),
        "fastest": fastest(flow),
        "warp_error": warp_error(before, now, flow),
    }


def colour_sample(index: int, f_HWC: Picture) -> Sample:
    """Mean colour of a picture."""
    unit = f_HWC.astype(np.float32) / 255
    lightness, a, b = cv2.cvtColor(unit, cv2.COLOR_RGB2LAB).mean(axis=(0, 1), dtype=np.float64)
    saturation = cv2.cvtColor(unit, cv2.COLOR_RGB2HSV)[..., 1].mean(dtype=np.float64)
    return Sample(index, (float(lightness), float(a), float(b)), float(saturation))
