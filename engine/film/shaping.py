"""Shaping: text in any of the Indian scripts to glyphs on a line, or the reason why it cannot be drawn.

Decides the font of each grapheme cluster, the direction of each run, and where its glyphs and their ink are.
Does not decide how large the type is, or where a line breaks and stands (titles).
The fonts are the files beside this module, never the machine's, so that a title looks the same everywhere.

Lengths are in em (the size of the type); y points up, as in the fonts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]
import uharfbuzz as hb  # type: ignore[import-untyped]

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
ALL_FONTS = (_LATIN, _URDU, *dict.fromkeys(_INDIC.values()))
# Nastaliq has Latin letters of its own, but with serifs: in Urdu too, Latin comes first.
FONTS = {code: (font, *ALL_FONTS) for code, font in _INDIC.items()} | {"en": ALL_FONTS, "ur": ALL_FONTS}
UNITS = 1000  # to an em
_WEIGHT = 600.0  # thin strokes drown in a moving picture

_SPACES = regex.compile(r"[^\S\u00a0\u202f]+")  # no-break spaces are there to hold words together
_CLOSING = regex.compile(r" (?=[।॥\u06d4؟،.,;:!?)\]}»”\u2019…]+(?: |$))")
UNSEEN = regex.compile(r"[\p{White_Space}\p{Default_Ignorable_Code_Point}]")
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
class Cluster:
    """What a reader takes for one sign: its font (None: no font has it), ISO 15924 script and bidi level."""

    text: str
    font: str | None
    script: str
    level: int


@dataclass(frozen=True)
class Glyph:
    """One shape at its place on the baseline, in em."""

    font: str
    id: int
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """Glyphs on one baseline and the box of their ink, in em."""

    glyphs: tuple[Glyph, ...]
    left: float
    right: float
    bottom: float
    top: float


def check_text(text: str, lang: str) -> GlyphReport:
    """Report the clusters that no font has, and the dotted circles that shaping would put in.

    It finds missing scripts and damaged text; it does not prove that a conjunct was formed.
    Raises ValueError for a language without a font.
    """
    missing, circles = [], -text.count(_DOTTED_CIRCLE)  # a lesson on vowel signs may write the circle itself
    for run in _runs(itemise(text, lang)):
        if run[0].font is None:
            missing += [cluster.text for cluster in run]
            continue
        circle = opened_font(run[0].font).get_nominal_glyph(ord(_DOTTED_CIRCLE))
        string = "".join(cluster.text for cluster in run)
        for info, _ in _shape(run, lang):
            circles += info.codepoint == circle
            if info.codepoint == 0:
                missing.append(string[info.cluster])
    return GlyphReport(tuple(dict.fromkeys(missing)), max(0, circles))


@dataclass(frozen=True)
class Extent:
    """How much room some text takes at least on a line of its own, in em of its type; y points up."""

    width: float
    bottom: float
    top: float


def extent_of(text: str, lang: str) -> Extent | None:
    """What a text takes up beside others on its line; None where it cannot be drawn, or has no ink."""
    try:
        clusters = itemise(text, lang)
    except ValueError:
        return None
    if not check_text(text, lang).ok:
        return None
    line = set_line(clusters, lang)
    if line.right <= line.left:
        return None
    shaped = (position for run in _runs(clusters) for _, position in _shape(run, lang))
    advance = sum(position.x_advance for position in shaped) / UNITS
    return Extent(max(line.right, advance) - min(line.left, 0.0), line.bottom, line.top)


def itemise(text: str, lang: str) -> list[Cluster]:
    """Give every cluster the first font that has all of it; signs of no script join the one before."""
    code = lang.split("-")[0].lower()
    if code not in FONTS:
        raise ValueError(f"no font is chosen for language {lang!r}; there are {', '.join(sorted(FONTS))}")
    tidy = _CLOSING.sub("\u00a0", _SPACES.sub(" ", text).strip())  # a danda stays with its word
    texts = regex.findall(r"\X", tidy)
    scripts = [_script(cluster) for cluster in texts]
    script, font = next(filter(None, scripts), "Zyyy"), None
    clusters = []
    sides = levels(texts, "R" if code == "ur" else "L")
    for cluster, found, level in zip(texts, scripts, sides, strict=True):
        script = found or script
        signs = set(map(ord, UNSEEN.sub("", cluster)))
        if signs or font is None:  # a space is as wide as the font before it has it
            font = next((name for name in FONTS[code] if signs <= _signs(name)), None)
        clusters.append(Cluster(cluster, font, script, level))
    return clusters


@cache
def opened_font(name: str) -> Any:
    """Open a font at the weight of titles, scaled so that 1000 units are one em."""
    font = hb.Font(hb.Face(hb.Blob.from_file_path(str(_FOLDER / name))))
    font.scale = (UNITS, UNITS)
    font.set_variations({"wght": _WEIGHT})  # Nastaliq has one weight, this one, and no axis
    return font


@cache
def _signs(name: str) -> frozenset[int]:
    """The code points of a font."""
    return frozenset(opened_font(name).face.unicodes)


def _script(cluster: str) -> str | None:
    """Return the ISO 15924 script of a cluster; punctuation, digits and spaces have none."""
    buffer = hb.Buffer()
    buffer.add_str(cluster)
    buffer.guess_segment_properties()
    return buffer.script  # type: ignore[no-any-return]


def _runs(clusters: Sequence[Cluster]) -> list[list[Cluster]]:
    """Join neighbours that are shaped together."""
    return [list(run) for _, run in groupby(clusters, key=lambda c: (c.font, c.script, c.level))]


def _shape(run: Sequence[Cluster], lang: str) -> list[tuple[Any, Any]]:
    """Shape one run: glyphs and their positions, from left to right."""
    buffer = hb.Buffer()
    buffer.add_str("".join(cluster.text for cluster in run))
    buffer.direction = "rtl" if run[0].level % 2 else "ltr"
    buffer.script = run[0].script
    buffer.language = lang
    hb.shape(opened_font(str(run[0].font)), buffer)
    return list(zip(buffer.glyph_infos, buffer.glyph_positions, strict=True))


def set_line(clusters: Sequence[Cluster], lang: str) -> Line:
    """Place the glyphs of one line, and measure their ink."""
    glyphs, boxes, x = [], [], 0.0
    for run in visual_order(_runs(clusters), lambda run: run[0].level):
        font = opened_font(str(run[0].font))
        for info, position in _shape(run, lang):
            left, low = x + position.x_offset / UNITS, position.y_offset / UNITS
            glyphs.append(Glyph(str(run[0].font), info.codepoint, left, low))
            ink = font.get_glyph_extents(info.codepoint)
            if ink.width:
                left, top = left + ink.x_bearing / UNITS, low + ink.y_bearing / UNITS
                boxes.append((left, left + ink.width / UNITS, top + ink.height / UNITS, top))
            x += position.x_advance / UNITS
    lefts, rights, bottoms, tops = zip(*(boxes or [(0.0,) * 4]), strict=True)  # a joiner alone has no ink
    return Line(tuple(glyphs), min(lefts), max(rights), min(bottoms), max(tops))
