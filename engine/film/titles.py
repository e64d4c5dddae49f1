"""Titles: text in any of the Indian scripts to a picture tile, low in the picture, on one line or two.

Decides where a line breaks, and the size and place of the text. Does not decide which glyphs a text has, or
whether a font has them (shaping), nor when a title is shown: whoever shows it blends the tile over frames.

Shapes: H height_px, W width_px; a_HW coverage, 0 to 1; tile_HW4 RGBA, uint8, straight alpha.
Lengths are in em (the size of the type) until a size is chosen, then in px; y points up, as in the fonts.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import uharfbuzz as hb  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engine.film.shaping import UNITS, UNSEEN, Cluster, Line, check_text, itemise, opened_font, set_line

_SIZE = 0.1  # of the picture's shorter side
_SIZE_PX = 16.0  # small pictures need type larger than their share
_LEAST = 0.5  # of that size
_LEAST_PX = 11.0  # below this conjuncts run together
_SIDE, _FOOT, _BASELINE = 0.06, 0.05, 0.14  # margins: of the width, of the height, of the height
_LEADING_EM, _GAP_EM = 1.3, 0.12  # baseline to baseline, and at least this much between ink and ink
_ONE_LINE = 0.8  # one line is better than two, down to this share of the size

_TIGHT_EM, _TIGHT_GAIN, _TIGHT = 0.045, 3.5, 0.9  # blur, how far it is pushed out, darkness
_WIDE_EM, _WIDE_GAIN, _WIDE = 0.2, 1.8, 0.6

_Layout = tuple[Line, ...]


def draw_title(text: str, lang: str, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return tile_HW4: the title in white with a soft dark edge, low in the picture, on one line or two.

    Raises ValueError when the fonts cannot draw the text, or when it does not fit at a legible size.
    """
    report = check_text(text, lang)
    if report.missing:
        raise ValueError(f"no font for {' '.join(map(repr, report.missing))} in the title {text!r} ({lang})")
    if report.dotted_circles:
        count = report.dotted_circles
        raise ValueError(f"the title {text!r} ({lang}) has {count} sign(s) with no letter to sit on; mend it")
    if not UNSEEN.sub("", text):
        raise ValueError(f"the title {text!r} has nothing to draw; leave it out")
    try:
        lines, size_px = _fit(_layouts(itemise(text, lang), lang), width_px, height_px)
    except ValueError as error:
        raise ValueError(f"the title {text!r} does not fit: {error}") from None
    return _edge(_ink(lines, size_px, width_px, height_px), size_px)


def room_em(width_px: int, height_px: int) -> tuple[float, float]:
    """Width and height of the room for a title, in em of the smallest type that it may be set in."""
    least, room_px = _type_px(width_px, height_px)[1], _room_px(width_px, height_px)
    return room_px[0] / least, room_px[1] / least


def _type_px(width_px: int, height_px: int) -> tuple[float, float]:
    """The most and the least size of the type."""
    most = max(_SIZE_PX, _SIZE * min(width_px, height_px))
    return most, max(_LEAST_PX, _LEAST * most)


def _room_px(width_px: int, height_px: int) -> tuple[float, float]:
    return width_px * (1 - 2 * _SIDE), height_px * (1 - _FOOT - _BASELINE)


def _layouts(clusters: Sequence[Cluster], lang: str) -> Iterator[_Layout]:
    """Yield the text on one line, and on two as even as its spaces allow."""
    yield (set_line(clusters, lang),)
    spaces = [at for at, cluster in enumerate(clusters) if cluster.text == " "]
    if spaces:
        words = [set_line(clusters[a + 1 : b], lang) for a, b in pairwise([-1, *spaces, len(clusters)])]
        ends = list(accumulate(word.right - word.left for word in words))
        at = min(range(len(spaces)), key=lambda at: max(ends[at], ends[-1] - ends[at]))
        yield set_line(clusters[: spaces[at]], lang), set_line(clusters[spaces[at] + 1 :], lang)


def _fit(layouts: Iterable[_Layout], width_px: int, height_px: int) -> tuple[_Layout, float]:
    """Choose one line or two, and the size of the type in px; raises ValueError if it would be too small."""
    (most, least), room_px = _type_px(width_px, height_px), _room_px(width_px, height_px)
    sizes = []
    for lines in layouts:
        width = max(line.right - line.left for line in lines)
        height = _rises(lines)[0] + lines[0].top - lines[-1].bottom
        sizes.append((min(most, room_px[0] / width, room_px[1] / height), lines))
    size, lines = sizes[0] if sizes[0][0] >= _ONE_LINE * most else max(sizes, key=lambda pair: pair[0])
    if size < least:
        fault = f"in {width_px} x {height_px} px its type would be {size:.1f} px"
        raise ValueError(f"{fault}, and under {least:.1f} px it is not legible; shorten it or render larger")
    return lines, size


def _rises(lines: Sequence[Line]) -> list[float]:
    """How far each baseline is above the last one, in em: tall scripts push their lines apart."""
    steps = [max(_LEADING_EM, low.top - high.bottom + _GAP_EM) for high, low in pairwise(lines)]
    return [sum(steps[at:]) for at in range(len(lines))]


def _ink(lines: Sequence[Line], size_px: float, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Return a_HW: how much of each pixel the letters cover."""
    raster, scale = hb.RasterDraw(), size_px / UNITS
    raster.extents = hb.RasterExtents(0, 0, width_px, height_px, 0)
    last = max(_BASELINE * height_px, _FOOT * height_px - lines[-1].bottom * size_px)
    for line, rise in zip(lines, _rises(lines), strict=True):
        left, y = width_px / 2 - (line.left + line.right) / 2 * size_px, last + rise * size_px
        for glyph in line.glyphs:
            raster.transform = (scale, 0, 0, scale, left + glyph.x * size_px, y + glyph.y * size_px)
            raster.draw_glyph(opened_font(glyph.font), glyph.id)
    image = raster.render()
    rows = np.frombuffer(image.buffer, np.uint8).reshape(height_px, image.extents.stride)  # rows are padded
    return rows[::-1, :width_px].astype(np.float32) / np.float32(255)


def _edge(a_HW: NDArray[np.float32], size_px: float) -> NDArray[np.uint8]:
    """Return tile_HW4: white where the letters are, over a tight dark edge and a wide faint one."""
    tile_HW4 = np.zeros((*a_HW.shape, 4), np.uint8)
    tight_px, wide_px = round(_TIGHT_EM * size_px), round(_WIDE_EM * size_px)
    inked = np.flatnonzero(a_HW.any(axis=1))
    rows = slice(max(0, inked[0] - 2 * wide_px), inked[-1] + 2 * wide_px + 1)  # the rest stays clear
    a_HW = a_HW[rows]
    tight_HW = np.minimum(1, _TIGHT_GAIN * _blur(a_HW, tight_px))
    wide_HW = np.minimum(1, _WIDE_GAIN * _blur(a_HW, wide_px))
    alpha_HW = 1 - (1 - a_HW) * (1 - _TIGHT * tight_HW) * (1 - _WIDE * wide_HW)
    tile_HW4[rows, :, :3] = np.rint(255 * a_HW / np.maximum(alpha_HW, 1e-6))[..., None]
    tile_HW4[rows, :, 3] = np.rint(255 * alpha_HW)
    return tile_HW4


def _blur(a_HW: NDArray[np.float32], radius_px: int) -> NDArray[np.float32]:
    """Average twice over a square around each pixel: by running sums, so that a wide blur costs no more."""
    side = 2 * max(1, radius_px) + 1
    for axis in (0, 1, 0, 1):
        around = [(side // 2 + 1, side // 2) if axis == k else (0, 0) for k in (0, 1)]
        sums = np.cumsum(np.pad(a_HW, around), axis, dtype=np.float64)
        length = a_HW.shape[axis]
        mean = (sums.take(range(side, side + length), axis) - sums.take(range(length), axis)) / side
        a_HW = mean.astype(np.float32)
    return a_HW
