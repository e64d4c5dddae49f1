"""Titles: text in any of the Indian scripts to a picture tile, or the reason why it cannot be drawn.

Decides the font of each grapheme cluster, the direction of each run, where a line breaks, and the size and
place of the text. Does not decide when a title is shown; whoever shows it blends the tile over each frame.
The fonts are the files beside this module, never the machine's, so that a title looks the same everywhere.

Shapes: H height_px, W width_px; a_HW coverage, 0 to 1; tile_HW4 RGBA, uint8, straight alpha.
Lengths are in em (the size of the type) until a size is chosen, then in px; y points up, as in the fonts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex  # type: ignore[import-untyped]
import uharfbuzz as hb  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engine.film.bidi import levels, visual_order

_FOLDER = Path(__file__).parent / "fonts"
_LATIN = "NotoSans[wght].ttf"
_URDU = "NotoNastaliqUrdu_600SemiBold.ttf"
_INDIC = {
    "as": "NotoSansBengali[wght].ttf",
    "bn": "NotoSansBengali[wght].ttf",
    "gu": "NotoSansGujarati[wght].ttf",
    "hi": "NotoSansDevanagari[wght].ttf",
    "kn": "NotoSansKannada[wght].ttf",
    "ml": "NotoSansMalayalam[wght].ttf",
    "mr": "NotoSansDevanagari[wght].ttf",
    "or": "NotoSansOriya[wght].ttf",
    "pa": "NotoSansGurmukhi[wght].ttf",
    "ta": "NotoSansTamil[wght].ttf",
    "te": "NotoSansTelugu[wght].ttf",
}
_ALL = (_LATIN, _URDU, *dict.fromkeys(_INDIC.values()))
# Nastaliq has Latin letters of its own, but with serifs: in Urdu too, Latin comes first.
_FONTS = {code: (font, *_ALL) for code, font in _INDIC.items()} | {"en": _ALL, "ur": _ALL}
_UNITS = 1000  # to an em
_WEIGHT = 600.0  # thin strokes drown in a moving picture

_SIZE = 0.1  # of the picture's shorter side
_SIZE_PX = 16.0  # small pictures need type larger than their share
_LEAST = 0.5  # of that size
_LEAST_PX = 11.0  # below this conjuncts run together
_SIDE, _FOOT, _BASELINE = 0.06, 0.05, 0.14  # margins: of the width, of the height, of the height
_LEADING_EM, _GAP_EM = 1.3, 0.12  # baseline to baseline, and at least this much between ink and ink
_ONE_LINE = 0.8  # one line is better than two, down to this share of the size

_TIGHT_EM, _TIGHT_GAIN, _TIGHT = 0.045, 3.5, 0.9  # blur, how far it is pushed out, darkness
_WIDE_EM, _WIDE_GAIN, _WIDE = 0.2, 1.8, 0.6

_SPACES = regex.compile(r"[^\S\u00a0\u202f]+")  # no-break spaces are there to hold words together
_CLOSING = regex.compile(r" (?=[।॥\u06d4؟،.,;:!?)\]}»”\u2019…]+(?: |$))")
_UNSEEN = regex.compile(r"[\p{White_Space}\p{Default_Ignorable_Code_Point}]")
_DOTTED_CIRCLE = "\u25cc"


@dataclass(frozen=True)
class GlyphReport:
    """What stands in the way of drawing a text; a dotted circle is a vowel sign with nothing to sit on."""

    missing: tuple[str, ...]
    dotted_circles: int

    @property
    def ok(self) -> bool:
        """Whether the text can be drawn as written."""
        return not self.missing and not self.dotted_circles


@dataclass(frozen=True)
class _Cluster:
    """What a reader takes for one sign: its font (None: no font has it), ISO 15924 script and bidi level."""

    text: str
    font: str | None
    script: str
    level: int


@dataclass(frozen=True)
class _Glyph:
    """One shape at its place on the baseline, in em."""

    font: str
    id: int
    x: float
    y: float


@dataclass(frozen=True)
class _Line:
    """Glyphs on one baseline and the box of their ink, in em."""

    glyphs: tuple[_Glyph, ...]
    left: float
    right: float
    bottom: float
    top: float


_Layout = tuple[_Line, ...]


def check_text(text: str, lang: str) -> GlyphReport:
    """Report the clusters that no font has, and the dotted circles that shaping would put in.

    It finds missing scripts and damaged text; it does not prove that a conjunct was formed.
    Raises ValueError for a language without a font.
    """
    missing, circles = [], -text.count(_DOTTED_CIRCLE)  # a lesson on vowel signs may write the circle itself
    for run in _runs(_itemise(text, lang)):
        if run[0].font is None:
            missing += [cluster.text for cluster in run]
            continue
        circle = _font(run[0].font).get_nominal_glyph(ord(_DOTTED_CIRCLE))
        string = "".join(cluster.text for cluster in run)
        for info, _ in _shape(run, lang):
            circles += info.codepoint == circle
            if info.codepoint == 0:
                missing.append(string[info.cluster])
    return GlyphReport(tuple(dict.fromkeys(missing)), max(0, circles))


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
    if not _UNSEEN.sub("", text):
        raise ValueError(f"the title {text!r} has nothing to draw; leave it out")
    try:
        lines, size_px = _fit(_layouts(_itemise(text, lang), lang), width_px, height_px)
    except ValueError as error:
        raise ValueError(f"the title {text!r} does not fit: {error}") from None
    return _edge(_ink(lines, size_px, width_px, height_px), size_px)


@dataclass(frozen=True)
class Extent:
    """How much room some text takes at least on a line of its own, in em of its type; y points up."""

    width: float
    bottom: float
    top: float


def extent_of(text: str, lang: str) -> Extent | None:
    """What a text takes up beside others on its line; None where it cannot be drawn, or has no ink."""
    try:
        clusters = _itemise(text, lang)
    except ValueError:
        return None
    if not check_text(text, lang).ok:
        return None
    line = _set_line(clusters, lang)
    if line.right <= line.left:
        return None
    shaped = (position for run in _runs(clusters) for _, position in _shape(run, lang))
    advance = sum(position.x_advance for position in shaped) / _UNITS
    return Extent(max(line.right, advance) - min(line.left, 0.0), line.bottom, line.top)


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


def _itemise(text: str, lang: str) -> list[_Cluster]:
    """Give every cluster the first font that has all of it; signs of no script join the one before."""
    code = lang.split("-")[0].lower()
    if code not in _FONTS:
        raise ValueError(f"no font is chosen for language {lang!r}; there are {', '.join(sorted(_FONTS))}")
    tidy = _CLOSING.sub("\u00a0", _SPACES.sub(" ", text).strip())  # a danda stays with its word
    texts = regex.findall(r"\X", tidy)
    scripts = [_script(cluster) for cluster in texts]
    script, font = next(filter(None, scripts), "Zyyy"), None
    clusters = []
    sides = levels(texts, "R" if code == "ur" else "L")
    for cluster, found, level in zip(texts, scripts, sides, strict=True):
        script = found or script
        signs = set(map(ord, _UNSEEN.sub("", cluster)))
        if signs or font is None:  # a space is as wide as the font before it has it
            font = next((name for name in _FONTS[code] if signs <= _signs(name)), None)
        clusters.append(_Cluster(cluster, font, script, level))
    return clusters


@cache
def _font(name: str) -> Any:
    """Open a font at the weight of titles, scaled so that 1000 units are one em."""
    font = hb.Font(hb.Face(hb.Blob.from_file_path(str(_FOLDER / name))))
    font.scale = (_UNITS, _UNITS)
    font.set_variations({"wght": _WEIGHT})  # Nastaliq has one weight, this one, and no axis
    return font


@cache
def _signs(name: str) -> frozenset[int]:
    """The code points of a font."""
    return frozenset(_font(name).face.unicodes)


def _script(cluster: str) -> str | None:
    """Return the ISO 15924 script of a cluster; punctuation, digits and spaces have none."""
    buffer = hb.Buffer()
    buffer.add_str(cluster)
    buffer.guess_segment_properties()
    return buffer.script  # type: ignore[no-any-return]


def _runs(clusters: Sequence[_Cluster]) -> list[list[_Cluster]]:
    """Join neighbours that are shaped together."""
    return [list(run) for _, run in groupby(clusters, key=lambda c: (c.font, c.script, c.level))]


def _shape(run: Sequence[_Cluster], lang: str) -> list[tuple[Any, Any]]:
    """Shape one run: glyphs and their positions, from left to right."""
    buffer = hb.Buffer()
    buffer.add_str("".join(cluster.text for cluster in run))
    buffer.direction = "rtl" if run[0].level % 2 else "ltr"
    buffer.script = run[0].script
    buffer.language = lang
    hb.shape(_font(str(run[0].font)), buffer)
    return list(zip(buffer.glyph_infos, buffer.glyph_positions, strict=True))


def _set_line(clusters: Sequence[_Cluster], lang: str) -> _Line:
    """Place the glyphs of one line, and measure their ink."""
    glyphs, boxes, x = [], [], 0.0
    for run in visual_order(_runs(clusters), lambda run: run[0].level):
        font = _font(str(run[0].font))
        for info, position in _shape(run, lang):
            left, low = x + position.x_offset / _UNITS, position.y_offset / _UNITS
            glyphs.append(_Glyph(str(run[0].font), info.codepoint, left, low))
            ink = font.get_glyph_extents(info.codepoint)
            if ink.width:
                left, top = left + ink.x_bearing / _UNITS, low + ink.y_bearing / _UNITS
                boxes.append((left, left + ink.width / _UNITS, top + ink.height / _UNITS, top))
            x += position.x_advance / _UNITS
    lefts, rights, bottoms, tops = zip(*(boxes or [(0.0,) * 4]), strict=True)  # a joiner alone has no ink
    return _Line(tuple(glyphs), min(lefts), max(rights), min(bottoms), max(tops))


def _layouts(clusters: Sequence[_Cluster], lang: str) -> Iterator[_Layout]:
    """Yield the text on one line, and on two as even as its spaces allow."""
    yield (_set_line(clusters, lang),)
    spaces = [at for at, cluster in enumerate(clusters) if cluster.text == " "]
    if spaces:
        words = [_set_line(clusters[a + 1 : b], lang) for a, b in pairwise([-1, *spaces, len(clusters)])]
        ends = list(accumulate(word.right - word.left for word in words))
        at = min(range(len(spaces)), key=lambda at: max(ends[at], ends[-1] - ends[at]))
        yield _set_line(clusters[: spaces[at]], lang), _set_line(clusters[spaces[at] + 1 :], lang)


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


def _rises(lines: Sequence[_Line]) -> list[float]:
    """How far each baseline is above the last one, in em: tall scripts push their lines apart."""
    steps = [max(_LEADING_EM, low.top - high.bottom + _GAP_EM) for high, low in pairwise(lines)]
    return [sum(steps[at:]) for at in range(len(lines))]


def _ink(lines: Sequence[_Line], size_px: float, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Return a_HW: how much of each pixel the letters cover."""
    raster, scale = hb.RasterDraw(), size_px / _UNITS
    raster.extents = hb.RasterExtents(0, 0, width_px, height_px, 0)
    last = max(_BASELINE * height_px, _FOOT * height_px - lines[-1].bottom * size_px)
    for line, rise in zip(lines, _rises(lines), strict=True):
        left, y = width_px / 2 - (line.left + line.right) / 2 * size_px, last + rise * size_px
        for glyph in line.glyphs:
            raster.transform = (scale, 0, 0, scale, left + glyph.x * size_px, y + glyph.y * size_px)
            raster.draw_glyph(_font(glyph.font), glyph.id)
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
