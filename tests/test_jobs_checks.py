"""What only typefaces and the voice can tell is found before rendering, at its place and at little cost."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engine.film import voice
from engine.film.mux import film_options
from engine.timeline import PromptSpan, Shot, latent_frames, prompt_weights
from jobs import checks
from jobs.checks import deep_findings
from jobs.pace import surely_fits, surely_too_long
from jobs.plan import frames_of
from manifests.findings import Finding
from manifests.schema import SCHEMA
from manifests.validate import Limits, validate

HINDI = "नदी पहाड़ से निकलकर धीरे-धीरे मैदान की ओर बहती है और खेतों को पानी देती है।"
SENTENCES = {
    "as": "নদীখন পাহাৰৰ পৰা ওলাই সাগৰলৈ বৈ গৈছে",
    "bn": "নদী থেকে নেমে ধীরে ধীরে সমুদ্রের দিকে চলে",
    "en": "The river comes down from the hills, and gives water to a field.",
    "gu": "નદી પર્વતમાંથી નીકળીને સમુદ્ર તરફ વહે છે",
    "hi": "नदी पहाड़ों से निकलकर समुद्र तक जाती है।",
    "kn": "ನದಿ ಬೆಟ್ಟದಿಂದ ಹೊರಟು ಸಮುದ್ರದ ಕಡೆಗೆ ಹರಿಯುತ್ತದೆ",
    "ml": "നദി മലയിൽ നിന്ന് പുറപ്പെട്ട് കടലിലേക്ക് ഒഴുകുന്നു",
    "mr": "नदी डोंगरातून निघून समुद्राकडे वाहते.",
    "or": "ନଦୀ ପାହାଡ଼ରୁ ବାହାରି ସମୁଦ୍ର ଆଡ଼କୁ ବହିଯାଏ",
    "pa": "ਨਦੀ ਪਹਾੜਾਂ ਤੋਂ ਨਿਕਲ ਕੇ ਸਮੁੰਦਰ ਵੱਲ ਵਗਦੀ ਹੈ",
    "ta": "ஆறு மலையில் தோன்றி சமவெளியை நோக்கி மெதுவாக ஓடுகிறது",
    "te": "నది కొండల నుండి బయలుదేరి సముద్రం వైపు ప్రవహిస్తుంది",
    "ur": "دریا پہاڑوں سے نکل کر سمندر تک جاتا ہے\u06d4",
}


@pytest.fixture(autouse=True)
def no_answers_kept() -> None:
    """Answers of one test must not serve the next."""
    checks._title_fault.cache_clear()
    checks._narration_fault.cache_clear()


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the voice is asked to fit."""
    texts: list[str] = []
    real = voice.fit

    def fit(text: str, language: str, max_s: float) -> voice.Speech:
        texts.append(text)
        return real(text, language, max_s)

    monkeypatch.setattr(voice, "fit", fit)
    return texts


def language(lang: str = "hi-IN", title: str | None = None, *texts: str) -> dict[str, Any]:
    segments = [{"shot_id": f"s{i}", "text": text} for i, text in enumerate(texts)]
    return {"lang": lang, "title": title, "segments": segments}


def row(*languages: dict[str, Any], title: str | None = None, duration_s: float = 2.0) -> dict[str, Any]:
    shots = [{"shot_id": f"s{i}", "duration_s": duration_s, "duration_frames": None} for i in range(3)]
    return {"row_id": "film", "title": title, "shots": shots, "languages": list(languages)}


def findings(*rows: dict[str, Any], size: tuple[int, int] | None = None) -> list[Finding]:
    size_of = (lambda row: size) if size else None
    return list(deep_findings(enumerate(rows), lambda row: Fraction(8), size_of))


def places(found: Sequence[Finding]) -> list[tuple[int, str, str]]:
    return [(f.row_index, f.code, f.json_path) for f in found]


def test_long_narration_is_found_with_its_seconds_and_the_words_to_cut() -> None:
    (found,) = findings(row(language("hi-IN", "नदी", "नदी", HINDI)))
    assert places([found]) == [(0, "E601_NARRATION_LONG", "/languages/0/segments/1/text")]
    with pytest.raises(voice.NarrationTooLong) as told:
        voice.fit(HINDI, "hi-IN", 2.0)
    assert found.row_id == "film" and found.message == str(told.value) and found.hint
    assert "the shot has 2.00 s: cut about 9 words" in found.message


def test_a_shot_in_frames_is_as_long_as_its_row_says() -> None:
    narrated = row(language("hi-IN", None, HINDI))
    narrated["shots"][0] |= {"duration_s": None, "duration_frames": 48}
    assert list(deep_findings([(7, narrated)], lambda row: Fraction(8))) == []
    (found,) = deep_findings([(7, narrated)], lambda row: Fraction(24))
    assert found.row_index == 7 and "the shot has 2.00 s" in found.message


def test_title_without_glyphs_names_the_clusters() -> None:
    (found,) = findings(row(language("hi-IN", "नदी 漢 😀")))
    assert places([found]) == [(0, "E602_TITLE_GLYPHS", "/languages/0/title")]
    assert "'漢'" in found.message and "'😀'" in found.message and "'न" not in found.message.split(": ")[1]


def test_title_with_a_stray_sign_is_found() -> None:
    (found,) = findings(row(language("hi-IN", "ि नदी")))
    assert found.code == "E602_TITLE_GLYPHS" and "letter to sit on: 1" in found.message


@pytest.mark.parametrize("title", [" ", "\u200d"])
def test_blank_title_is_found(title: str) -> None:
    assert places(findings(row(language("hi-IN", title)))) == [(0, "E602_TITLE_GLYPHS", "/languages/0/title")]


def test_the_rows_title_is_found_once_and_only_where_it_is_drawn() -> None:
    both = row(language("hi-IN"), language("ta-IN"), title="漢")
    assert places(findings(both)) == [(0, "E602_TITLE_GLYPHS", "/title")]
    own = row(language("hi-IN", "नदी"), language("ta-IN", "ஆறு"), title="漢")
    assert findings(own) == [] and findings(row(title="漢")) == []


def test_no_title_is_allowed() -> None:
    assert findings(row(language("hi-IN"), language("ta-IN", ""))) == []


def test_title_too_long_for_its_picture_is_found_where_the_size_is_known() -> None:
    long = row(language("en-IN", "river " * 60))
    assert findings(long) == []
    (found,) = findings(long, size=(384, 256))
    assert places([found]) == [(0, "E603_TITLE_FIT", "/languages/0/title")]
    assert "384 x 256 px" in found.message and "…" in found.message and len(found.message) < 500
    assert findings(row(language("en-IN", "The river")), size=(384, 256)) == []


def test_findings_are_in_row_order_and_the_same_again() -> None:
    bad = row(language("hi-IN", "漢", HINDI), language("ta-IN", "ஆறு", "ஆறு", HINDI))
    found = findings(bad, row(), bad)
    assert places(found) == [
        (i, code, path)
        for i in (0, 2)
        for code, path in (
            ("E602_TITLE_GLYPHS", "/languages/0/title"),
            ("E601_NARRATION_LONG", "/languages/0/segments/0/text"),
            ("E601_NARRATION_LONG", "/languages/1/segments/1/text"),
        )
    ]
    checks._narration_fault.cache_clear()
    assert findings(bad, row(), bad) == found


def test_equal_narrations_are_spoken_once(spoken: list[str]) -> None:
    tight = row(language("hi-IN", None, HINDI, HINDI), duration_s=6.0)
    assert findings(tight, tight, row(language("mr-IN", None, HINDI), duration_s=6.0)) == []
    assert spoken == [HINDI, HINDI]  # once for each language


def test_a_short_narration_is_not_spoken(spoken: list[str]) -> None:
    assert findings(row(language("hi-IN", None, SENTENCES["hi"]), duration_s=10.0)) == []
    assert spoken == []


def test_hours_of_narration_are_refused_without_speaking_them(spoken: list[str]) -> None:
    (found,) = findings(row(language("en-IN", None, "river " * 10_000)))
    assert places([found]) == [(0, "E601_NARRATION_LONG", "/languages/0/segments/0/text")]
    assert "60000 characters" in found.message and spoken == []


def test_text_that_the_voice_chokes_on_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = voice.fit

    def fit(text: str, language: str, max_s: float) -> voice.Speech:
        if text == "7":
            raise voice.VoiceError("the voice ended with status -11: ")
        return real(text, language, max_s)

    monkeypatch.setattr(voice, "fit", fit)
    found = findings(row(language("hi-IN", None, "7")), row(language("hi-IN", None, "8", HINDI)))
    assert places(found) == [
        (0, "E604_NARRATION_UNSPOKEN", "/languages/0/segments/0/text"),
        (1, "E601_NARRATION_LONG", "/languages/0/segments/1/text"),
    ]


@pytest.mark.parametrize("lang", SENTENCES)
def test_what_surely_fits_is_spoken_in_time(lang: str) -> None:
    """The bound is above the truth; it is not much above three times the truth."""
    sentence = SENTENCES[lang]
    length_s = voice.speak(sentence, lang).length_s
    assert not surely_fits(sentence, lang, length_s)
    assert surely_fits(sentence, f"{lang}-IN", 3.3 * length_s)


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("12345", "hi"),
        ("BBC", "en"),
        ("brr hmm", "en"),
        ("नदी river", "hi"),
        ("क ख", "hi"),
        ("नदी — पानी", "hi"),
        ("", "hi"),
        ("नदी", "xx"),
    ],
)
def test_text_that_may_be_spelled_out_is_never_sure(text: str, lang: str) -> None:
    assert not surely_fits(text, lang, 1000.0)


def test_no_narration_that_could_be_spoken_is_surely_too_long() -> None:
    assert not surely_too_long("x" * 1000, 0.1) and surely_too_long("x" * 1100, 0.1)


TIMES = st.integers(-1, 45).map(lambda n: n / 10)
CHANGES = st.lists(st.tuples(TIMES, TIMES), max_size=3).map(sorted)
LIMITS = Limits(16, 1920, 1920, 5, 1, 120.0, 60.0, 600.0, frozenset())


def planned(duration_s: float, changes: list[tuple[float, float]], fps: Fraction) -> Shot | None:
    """The shot as the engine takes it, None unless it does and each prompt holds for a frame or more."""
    spans = [PromptSpan("a boat", frames_of(start, fps), frames_of(blend, fps)) for start, blend in changes]
    starts = [0, *(span.start for span in spans), frames_of(duration_s, fps)]
    if not all(a < b for a, b in pairwise(starts)) or any(blend < 0 for _, blend in changes):
        return None
    try:
        return Shot("s", frames_of(duration_s, fps), (PromptSpan("a river"), *spans), "", 0)
    except ValueError:
        return None


def prompt_findings(
    duration_s: float, changes: list[tuple[float, float]], c: int = 4, period: int = 0, **rate: int
) -> list[tuple[str, str]]:
    """Codes and paths of what validation finds in a row of one shot, at 5 frames a second unless told."""
    later = [{"start_s": start, "prompt": "a boat", "blend_s": blend} for start, blend in changes]
    shot = {"shot_id": "s", "prompt": "a river", "duration_s": duration_s, "prompts": later}
    table = pa.Table.from_pylist([{"row_id": "a", "profile": "p", "shots": [shot]} | rate], schema=SCHEMA)
    limits = replace(LIMITS, temporal_compression=c, period=period)
    return [(f.code, f.json_path) for f in validate(table, {"p": limits})]


@settings(deadline=None)
@given(CHANGES, st.integers(20, 45).map(lambda n: n / 10))
@example([(1.0, 0.4), (2.5, 0.0)], 4.0)
def test_prompts_without_findings_of_time_are_those_that_the_engine_takes(
    changes: list[tuple[float, float]], duration_s: float
) -> None:
    codes = {code for code, _ in prompt_findings(duration_s, changes)}
    assert ("E405_PROMPT_TIME" not in codes) == (planned(duration_s, changes, Fraction(5)) is not None)


SPANS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 12)), min_size=1, max_size=4)


@settings(deadline=None)
@given(SPANS, st.integers(0, 12), st.sampled_from([(1, 0), (2, 0), (4, 0), (8, 0), (4, 5), (4, 3)]))
@example([(8, 0)], 1, (4, 0))  # begins within the last latent frame of 9
@example([(3, 0), (2, 0)], 12, (4, 0))  # lies between two latent frames of 17
@example([(8, 0), (9, 0), (1, 0)], 12, (4, 5))  # holds where the second period's only pixel frame is
@example([(8, 0), (8, 1), (1, 0)], 12, (4, 5))
def test_a_prompt_is_unseen_exactly_when_it_has_no_weight(
    spans: list[tuple[int, int]], tail: int, clock: tuple[int, int]
) -> None:
    """Each span is (frames after the span before, blend); `tail` frames follow the last start."""
    starts = list(accumulate(gap for gap, _ in spans))
    changes = [(start / 5, blend / 5) for start, (_, blend) in zip(starts, spans, strict=True)]
    duration_s = (starts[-1] + tail) / 5
    shot = planned(duration_s, changes, Fraction(5))
    assume(shot is not None)
    assert shot is not None
    weights = prompt_weights(shot, latent_frames(shot.n_frames, *clock), *clock)
    unseen = [i - 1 for i, share in enumerate(weights) if not share.any()]
    wanted = [("E406_PROMPT_UNSEEN", f"/shots/0/prompts/{j}") for j in unseen]
    assert prompt_findings(duration_s, changes, *clock) == wanted


@pytest.mark.parametrize(
    ("duration_s", "starts", "path"),
    [(1.125, [1.0], "/shots/0/prompts/0"), (2.125, [0.375, 0.625], "/shots/0/prompts/0")],
)
def test_a_prompt_that_would_never_be_drawn_is_found(
    duration_s: float, starts: list[float], path: str
) -> None:
    found = prompt_findings(duration_s, [(start, 0.0) for start in starts], fps_num=8, fps_den=1)
    assert found == [("E406_PROMPT_UNSEEN", path)]


RATES = st.sampled_from([1, 44_739, 44_740, 1_000_003, 2**31 - 1]) | st.integers(1, 2**31 - 1)


@settings(deadline=None)
@given(RATES, RATES)
@example(24_000, 1001)
@example(1_000_003, 50_000)
@example(2 * 44_739, 2)
def test_a_rate_is_found_exactly_when_the_films_clock_overflows(num: int, den: int) -> None:
    clocks = [int(film_options(Fraction(num, den))[f"{name}_timescale"]) for name in ("movie", "video_track")]
    codes = {code for code, _ in prompt_findings(4.0, [], fps_num=num, fps_den=den)}
    assert ("E306_FPS_CLOCK" in codes) == (max(clocks) > 2**31 - 1)
