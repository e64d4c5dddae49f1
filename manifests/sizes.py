"""Sizes of a film that a profile can draw, and the nearest of them to one that it cannot. In pixels."""

import math
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Sizes:
    """Both sides are multiples of one number.

    `most_px` bounds the area, `widest` the longer side as a multiple of the shorter; 0 bounds nothing.
    """

    multiple_px: int
    max_width_px: int
    max_height_px: int
    most_px: int = 0
    widest: float = 0.0

    def has(self, width_px: int, height_px: int) -> bool:
        """Whether this is one of them."""
        whole = all(side > 0 and side % self.multiple_px == 0 for side in (width_px, height_px))
        inside = width_px <= self.max_width_px and height_px <= self.max_height_px
        return (
            whole
            and inside
            and not self.is_large(width_px, height_px)
            and not self.is_wide(width_px, height_px)
        )

    def is_large(self, width_px: int, height_px: int) -> bool:
        """Whether the area is above what the model was trained to draw."""
        return 0 < self.most_px < width_px * height_px

    def is_wide(self, width_px: int, height_px: int) -> bool:
        """Whether the longer side is too long for the shorter."""
        return 0 < self.widest * min(width_px, height_px) < max(width_px, height_px)

    def nearest(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size that is asked for, made narrower and smaller as far as must be, in whole multiples."""
        wide, high = float(max(width_px, 1)), float(max(height_px, 1))
        if self.widest:
            wide, high = min(wide, high * self.widest), min(high, wide * self.widest)
        fit = min(1.0, self.max_width_px / wide, self.max_height_px / high)
        if self.most_px:
            fit = min(fit, math.sqrt(self.most_px / (wide * high)))
        while True:
            allowed = [size for size in self._around(wide * fit, high * fit) if self.has(*size)]
            if allowed:
                return min(allowed, key=lambda size: math.dist(size, (wide * fit, high * fit)))
            if wide * fit < self.multiple_px and high * fit < self.multiple_px:
                return self.multiple_px, self.multiple_px  # of a profile that can draw nothing at all
            fit *= 0.98

    def _around(self, wide: float, high: float) -> list[tuple[int, int]]:
        """The four sizes of whole multiples around one."""
        step = self.multiple_px
        widths, heights = (
            (step * max(1, math.floor(x / step)), step * math.ceil(x / step)) for x in (wide, high)
        )
        return list(product(widths, heights))


def shown(size: tuple[int, int]) -> str:
    """A size for people."""
    return f"{size[0]} x {size[1]} px"
