"""What titles promise: every script shaped, nothing cut, and a text that cannot be drawn is found first."""

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.film import shaping, titles
from engine.film.captions import iso_639_2
from engine.film.shaping import check_text
from engine.film.titles import draw_title

REGENERATE = "PYTHONPATH=. .venv/bin/python tests/test_engine_film_titles.py"
LINES = {
    "hi-IN": "क्षत्रिय त्रिकोण श्री ज्ञान र्क द्ध्य",
    "mr-IN": "दुसऱ्या ऱ्हस्व",
    "bn-IN": "রক্ত শ্রী স্বাস্থ্য র‍্যাম",
    "as-IN": "ৰক্ত শ্ৰেষ্ঠ",
    "ta-IN": "தமிழ் ஸ்ரீ க்ஷே மௌ",
    "te-IN": "విద్యార్థి స్త్రీ",
    "kn-IN": "ಕ್ಷೇತ್ರ ಕೃಷ್ಣ",
    "ml-IN": "മലയാളം ന്ത ക്ഷേത്രം സ്ത്രീ അവൻ",
    "gu-IN": "ક્ષત્રિય દ્વાર",
    "pa-IN": "ਸ਼੍ਰੀ ਸ੍ਵੈ",
    "or-IN": "ସ୍ତ୍ରୀ ବିଦ୍ୟାର୍ଥୀ",
    "ur-IN": "پانی کا چکر: ۲۵ ڈگری",
    "en-IN": "H₂O का मतलब Water (जल) है: 25°C, ₹100",
}
# Of 640 x 360 px: the share of inked pixels in 1/10000, and the ink's left, top, right and bottom in px.
GOLDEN: dict[str, tuple[float, int, int, int, int]] = {
    "hi-IN": (207.9, 121, 277, 518, 314),
    "mr-IN": (86.0, 236, 287, 403, 319),
    "bn-IN": (128.3, 193, 277, 446, 316),
    "as-IN": (66.8, 255, 277, 384, 310),
    "ta-IN": (209.6, 121, 279, 518, 320),
    "te-IN": (84.0, 249, 278, 390, 326),
    "kn-IN": (87.1, 251, 280, 388, 324),
    "ml-IN": (219.6, 38, 283, 601, 315),
    "gu-IN": (60.8, 249, 277, 390, 313),
    "pa-IN": (42.4, 287, 277, 352, 320),
    "or-IN": (83.6, 239, 275, 400, 315),
    "ur-IN": (103.2, 192, 245, 447, 327),
    "en-IN": (205.3, 38, 281, 601, 314),
}
SIZES = [(192, 128), (384, 256), (1280, 720), (720, 1280)]


def ink(tile_HW4: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where letters cover more than half of a pixel."""
    return (tile_HW4[..., 0] > 127) & (tile_HW4[..., 3] > 127)


def measure(lang: str) -> tuple[float, int, int, int, int]:
    inked = ink(draw_title(LINES[lang], lang, 640, 360))
    ys, xs = np.nonzero(inked)
    share = round(1e4 * float(inked.mean()), 1)
    return share, int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def glyphs(text: str, lang: str) -> list[int]:
    return [glyph.id for glyph in shaping.set_line(shaping.itemise(text, lang), lang).glyphs]


@pytest.mark.parametrize("lang", LINES)
def test_the_test_line_of_each_language_is_drawable(lang: str) -> None:
    report = check_text(LINES[lang], lang)
    assert report.ok and report.missing == () and report.dotted_circles == 0


@pytest.mark.parametrize("lang", LINES)
def test_each_test_line_is_drawn_as_it_was_when_it_was_looked_at(lang: str) -> None:
    share, *box = measure(lang)
    told = f"{lang}: {(share, *box)}, not {GOLDEN[lang]}; look at the picture, then run {REGENERATE}"
    assert share == pytest.approx(GOLDEN[lang][0], rel=0.03), told
    assert box == pytest.approx(GOLDEN[lang][1:], abs=1), told


def test_every_language_with_titles_has_an_mp4_code() -> None:
    assert all(iso_639_2(code) for code in shaping.FONTS)
    assert {lang.split("-")[0] for lang in LINES} == set(shaping.FONTS)


@pytest.mark.parametrize("text", ["ि जल", "जल ि", "ाजल"])
def test_a_vowel_sign_without_a_letter_is_damaged_text(text: str) -> None:
    report = check_text(text, "hi-IN")
    assert report.dotted_circles == 1 and not report.ok
    with pytest.raises(ValueError, match=r"1 sign\(s\) with no letter to sit on"):
        draw_title(text, "hi-IN", 640, 360)


def test_a_dotted_circle_that_is_written_is_no_damage() -> None:
    assert check_text("मात्रा ◌ि और ◌ा", "hi-IN").ok


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("जल 汉字 जल", ("汉", "字")),
        ("འདྲ", ("འ", "དྲ")),
        ("पानी 💧 💧", ("💧",)),
        ("aि", ("aि",)),
        ("a\u3164b", ("\u3164",)),
    ],
)
def test_clusters_that_no_font_has_are_named_once(text: str, missing: tuple[str, ...]) -> None:
    assert check_text(text, "hi-IN").missing == missing
    with pytest.raises(ValueError, match="no font for") as error:
        draw_title(text, "hi-IN", 640, 360)
    assert all(repr(cluster) in str(error.value) for cluster in missing) and repr(text) in str(error.value)


def test_a_language_without_a_font_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'zh-CN'; there are as, bn, en"):
        check_text("汉", "zh-CN")


@pytest.mark.parametrize("lang", LINES)
def test_a_word_of_any_script_may_stand_in_a_title_of_any_language(lang: str) -> None:
    assert all(check_text(f"{line} water 25°C", lang).ok for line in LINES.values())


def test_a_conjunct_is_drawn_as_one_sign() -> None:
    assert len(glyphs("क्ष", "hi")) == 1
    assert len(glyphs("क्\u200cष", "hi")) > 1  # the non-joiner asks for the parts


def test_tamil_vowel_signs_stand_on_both_sides_of_their_letter() -> None:
    font = shaping.opened_font("NotoSansTamil[wght].ttf")
    assert glyphs("மௌ", "ta") == [font.get_nominal_glyph(ord(sign)) for sign in "ெம\u0bd7"]


def test_the_language_chooses_between_forms_of_one_script() -> None:
    assert glyphs("ल", "mr") != glyphs("ल", "hi")  # Marathi writes la and sha in its own way


def test_urdu_begins_at_the_right() -> None:
    line = shaping.set_line(shaping.itemise("جل A", "ur"), "ur")
    assert line.glyphs[0].font == "NotoSans[wght].ttf" and line.glyphs[-1].font.startswith("NotoNastaliq")


WORDS = st.lists(
    st.sampled_from([word for line in LINES.values() for word in line.split()]), min_size=2, max_size=12
)


@settings(max_examples=40, deadline=None)
@given(WORDS, st.sampled_from(["hi", "ta", "en"]))
def test_wrapping_loses_one_space_and_nothing_else(words: list[str], lang: str) -> None:
    one, two = titles._layouts(shaping.itemise(" ".join(words), lang), lang)
    whole, parts = (Counter((g.font, g.id) for line in lines for g in line.glyphs) for lines in (one, two))
    assert len(two) == 2 and not parts - whole
    ((font, glyph),) = (whole - parts).elements()
    assert glyph == shaping.opened_font(font).get_nominal_glyph(ord(" "))


def test_a_danda_is_not_wrapped_away_from_its_word() -> None:
    clusters = shaping.itemise("जल चक्र ।", "hi")
    assert [cluster.text for cluster in clusters].count(" ") == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", LINES)
def test_a_tile_has_the_size_asked_and_ink_only_inside_its_margins(lang: str, size: tuple[int, int]) -> None:
    width, height = size
    tile = draw_title(LINES[lang], lang, width, height)
    assert tile.shape == (height, width, 4) and tile.dtype == np.uint8
    ys, xs = np.nonzero(tile[..., 0])  # the edge is black: any other value is a letter
    assert xs.min() >= int(0.06 * width) - 1 and xs.max() <= width - int(0.06 * width)
    assert ys.min() >= int(0.05 * height) and ys.max() <= height - int(0.05 * height)
    assert not tile[: height // 3].any(), "a title stands low in the picture"


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("size", SIZES)
def test_letters_are_white_beside_dark_on_any_picture(grey: int, size: tuple[int, int]) -> None:
    tile = draw_title("जल चक्र", "hi-IN", *size).astype(float)
    shown = tile[..., 0] * tile[..., 3] / 255 + grey * (1 - tile[..., 3] / 255)
    letters = ink(tile.astype(np.uint8))
    beside = np.zeros_like(letters)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        beside |= np.roll(letters, 2 * step, axis)
    assert shown[letters].mean() - shown[beside & ~letters].mean() > 100


def test_a_longer_title_is_set_on_two_lines_before_it_is_made_small() -> None:
    one, two = (measure_height(text) for text in ("Water", "Water flows down to the sea and comes back"))
    assert 1.8 < two / one < 3


def measure_height(text: str) -> int:
    ys = np.nonzero(ink(draw_title(text, "en", 640, 360)))[0]
    return int(ys.max() - ys.min())


@pytest.mark.parametrize(
    ("text", "size"),
    [("water " * 40, (1280, 720)), ("क्ष" * 60, (640, 360)), ("जल", (12, 8)), ("जल", (0, 0))],
)
def test_a_title_that_cannot_be_legible_is_refused_with_numbers(text: str, size: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=rf"in {size[0]} x {size[1]} px its type would be \d+\.\d px.*shorten"
    ):
        draw_title(text, "hi-IN", *size)


@pytest.mark.parametrize("text", ["", "  ", "\u00a0\u200d"])
def test_a_title_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_title(text, "hi-IN", 640, 360)


def test_marks_that_are_not_seen_neither_fail_nor_change_the_picture() -> None:
    plain, marked = (draw_title(text, "hi", 384, 256) for text in ("जल चक्र", "\u200eजल\u00ad\tचक्र\u200e "))
    assert np.array_equal(plain, marked)
    assert draw_title("जल \u200e चक्र", "hi", 384, 256).any()


def test_drawing_twice_gives_the_same_bits() -> None:
    first, second = (draw_title(LINES["ur-IN"], "ur-IN", 384, 256) for _ in range(2))
    assert np.array_equal(first, second)


def test_fonts_are_the_files_that_were_vendored() -> None:
    folder = Path(titles.__file__).parent / "fonts"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {path.name for path in folder.iterdir()} == set(sums) | {"SHA256SUMS"}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    assert set(shaping.ALL_FONTS) | {"OFL.txt"} == set(sums)


def test_the_gate_needs_no_torch() -> None:
    code = "import sys, engine.film.titles; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(titles.__file__).parents[2])


if __name__ == "__main__":
    for lang in LINES:
        print(f'    "{lang}": {measure(lang)},')
