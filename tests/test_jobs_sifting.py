"""What is surely sound by whole columns is sound one by one, and nothing that is wrong is passed over."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.film import voice
from engine.film.shaping import ALL_FONTS, opened_font
from engine.film.titles import draw_title
from jobs import checks, sifting
from jobs.pace import _PACE, surely_fit, surely_fits
from jobs.spec import load_spec
from jobs.stock import stock
from manifests.links import link_findings
from manifests.schema import SCHEMA
from manifests.source import Manifest, read_source
from tests.test_jobs_checks import SENTENCES

WORDS = sorted({(word, lang) for lang, text in SENTENCES.items() for word in text.split()})
MARKED = [" ", "  ", "\n", ", ", "। ", ".", "?", "\u00a0", "7", "\u200d", "-", "\u2002"]


def pieces(lang: str) -> st.SearchStrategy[str]:
    """Texts of letters, signs and words of a language, and of what does not belong there."""
    letters = [chr(c) for c in range(0x20, 0x1000) if sifting_set(lang, chr(c))]
    words = [word for word, of in WORDS if of == lang]
    return st.lists(st.sampled_from([*letters, *words, *words, *MARKED, "x", "अ"]), max_size=8).map("".join)


def sifting_set(lang: str, sign: str) -> bool:
    import re

    return re.match(f"[{_PACE[lang][1]}]", sign) is not None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_narration_that_fits_by_columns_fits_by_itself(data):
    lang = data.draw(st.sampled_from(sorted(_PACE)))
    texts = data.draw(st.lists(pieces(lang), min_size=1, max_size=8))
    lengths = data.draw(st.lists(st.floats(0.1, 12), min_size=len(texts), max_size=len(texts)))
    found = surely_fit(pa.array([*texts, None], pa.string()), f"{lang}-IN", np.array([*lengths, 9.0]))
    for text, most, fits in zip(texts, lengths, found, strict=False):
        assert not fits or surely_fits(text, f"{lang}-IN", most)
    assert not found[-1]


def test_sentences_are_known_to_fit_by_columns_too():
    for lang, text in SENTENCES.items():
        alone, many = surely_fits(text, lang, 30.0), surely_fit(pa.array([text]), lang, np.array([30.0]))
        assert alone and many.tolist() == [True], lang


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_title_that_fits_by_its_words_can_be_drawn(data):
    lang = data.draw(st.sampled_from([*sorted(_PACE), "ur"]))
    title = data.draw(pieces(lang if lang in _PACE else "ur"))
    size = data.draw(st.sampled_from([(64, 64), (128, 128), (384, 256), (128, 640)]))
    rooms = np.array([sifting.room_em(*size)])
    if not sifting._too_wide(pa.array([title]), f"{lang}-IN", rooms)[0]:
        assert checks._title_fault.__wrapped__(title, f"{lang}-IN", size) is None


def test_titles_of_ordinary_words_are_known_to_fit():
    rooms = np.array([sifting.room_em(384, 256)])
    for lang, text in SENTENCES.items():
        title = " ".join(text.split()[:2])
        assert not sifting._too_wide(pa.array([f"{title} 17"]), f"{lang}-IN", rooms)[0], lang
        draw_title(f"{title} 17", f"{lang}-IN", 384, 256)


def test_every_typeface_has_ten_digits_of_one_width():
    for name in ALL_FONTS:
        glyphs = [opened_font(name).get_nominal_glyph(ord(digit)) for digit in "0123456789"]
        widths = {opened_font(name).get_glyph_h_advance(glyph) for glyph in glyphs if glyph}
        assert None in glyphs or 0 in glyphs or len(widths) == 1, name


def faulty(row_id: str, **changes: Any) -> dict[str, Any]:
    shots = [
        {"shot_id": "a", "prompt": "rain", "duration_s": 5.0},
        {"shot_id": "b", "prompt": "sun", "duration_s": 4.0},
    ]
    language = {"lang": "hi-IN", "title": "जल", "segments": [{"shot_id": "a", "text": "नदी बहती है।"}]}
    return {"row_id": row_id, "profile": "chalk", "shots": shots, "languages": [language]} | changes


def spoken(text: str, title: str | None = None, lang: str = "hi-IN") -> list[dict[str, Any]]:
    return [{"lang": lang, "title": title, "segments": [{"shot_id": "b", "text": text}]}]


FAULTY = [
    faulty("sound"),
    faulty("silent", languages=[]),
    faulty("long-title", title="a very long title " * 9),
    faulty("lent-title", title="a very long title " * 9, languages=spoken("नदी")),
    faulty("no-glyph", languages=spoken("नदी", "\U00013000")),
    faulty("lone-sign", languages=spoken("नदी", "ि जल")),
    faulty("blank-title", languages=spoken("नदी", " \u200d ")),
    faulty("too-long", languages=spoken("शब्द " * 400)),
    faulty("digits", languages=spoken("१२३ 456", "पाठ 99")),
    faulty(
        "camera",
        shots=[{"shot_id": "b", "prompt": "p", "duration_s": 4.0, "camera": "sideways"}],
        languages=[],
    ),
    faulty("file", shots=[{"shot_id": "b", "prompt": "p", "duration_s": 4.0, "first_frame_uri": "n.png"}]),
    faulty("small", width_px=128, height_px=128, title="पानी की लंबी यात्रा और बादल", languages=spoken("नदी")),
    faulty("other-profile", profile="none"),
    faulty("sound"),
    faulty("too-urgent", priority=101, title="a very long title " * 9),
    faulty("lonely", depends_on=["sound", "nobody"]),
    faulty("itself", depends_on=["itself"]),
    faulty("first", depends_on=["third"]),
    faulty("second", depends_on=["first"], priority=3),
    faulty("third", depends_on=["second"]),
    faulty("nameless", depends_on=[None]),
    faulty("waits", depends_on=["camera", "file"], priority=-100),
]
LINKED = {"E106_PRIORITY", "E107_UNKNOWN_ROW", "E108_CIRCLE"}


@pytest.mark.parametrize("rows", [FAULTY, FAULTY[::-1], FAULTY * 2])
def test_findings_are_the_same_whether_rows_are_sifted_or_not(rows, monkeypatch, tmp_path):
    monkeypatch.setattr("manifests.stream.BATCH_ROWS", 5)
    monkeypatch.setattr(voice, "fit", lambda text, lang, most: None)
    spec = load_spec(None, [])
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    manifest = Manifest("m", "", table)
    stocked = stock(spec, exact=False)
    looked: list[int] = []
    deep = checks.deep_findings
    monkeypatch.setattr(checks, "deep_findings", lambda pairs, *a: deep(noted(pairs, looked), *a))
    sifted = checks.check(manifest, stocked, spec)
    few = len(looked)
    monkeypatch.setattr(checks, "unsure", lambda levels, _: np.ones(len(levels.rows.rows), bool))
    assert checks.check(manifest, stocked, spec) == sifted
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=4)
    assert checks.check(read_source(str(tmp_path / "m.parquet")), stocked, spec) == sifted
    linked = sorted(link_findings(table), key=lambda one: one.row_index)
    assert [one for one in sifted if one.code in LINKED] == [one for one in linked if one.code in LINKED]
    assert {one.code for one in sifted} >= LINKED | {
        "E505_CAMERA",
        "E601_NARRATION_LONG",
        "E602_TITLE_GLYPHS",
        "E603_TITLE_FIT",
    }
    assert few < len(looked) - few


def noted(pairs: Any, looked: list[int]) -> Any:
    for index, row in pairs:
        looked.append(index)
        yield index, row
