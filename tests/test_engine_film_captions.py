"""What captions promise: no word broken or lost, no gap in time, and text that survives WebVTT."""

import html
import itertools
from pathlib import Path

import pysubs2
import pytest
import regex

from engine.film import captions
from engine.film.captions import Cue

HINDI = "क्षत्रिय ने स्त्री से श्रीनगर की यात्रा और विज्ञान के विषय में प्रश्न पूछा । " * 6
TAMIL = "ஸ்ரீரங்கம் கோயிலில் பக்ஷிகள் மெதுவாகப் பறந்து சென்றன என்று அவர் கூறினார். " * 6
MALAYALAM = "ന്തയും ക്ഷേത്രവും സ്ത്രീയും എന്ന വാക്കുകൾ ഒരുമിച്ച് നിൽക്കണം. " * 6
TEXTS = (HINDI, TAMIL, MALAYALAM, "A plain English sentence, & x < y. " * 9, "one")


@pytest.mark.parametrize("text", TEXTS)
def test_cues_are_ordered_do_not_overlap_and_cover_the_span(text: str) -> None:
    made = captions.cues(text, 1.5, 21.25)
    assert made[0].start_s == 1.5 and made[-1].stop_s == 21.25
    assert all(cue.start_s < cue.stop_s for cue in made)
    assert all(a.stop_s == b.start_s for a, b in itertools.pairwise(made))


@pytest.mark.parametrize("text", TEXTS)
def test_no_word_is_lost_or_split_and_no_conjunct_is_split(text: str) -> None:
    made = captions.cues(text, 0, 60)
    assert " ".join(cue.text for cue in made).split() == text.split()
    whole = [c for c in regex.findall(r"\X", text) if c.strip()]
    shown = [c for cue in made for word in cue.text.split() for c in regex.findall(r"\X", word)]
    assert shown == whole


@pytest.mark.parametrize("text", TEXTS)
def test_cues_have_two_lines_of_42_clusters_at_most(text: str) -> None:
    for cue in captions.cues(text, 0, 60):
        lines = cue.text.split("\n")
        assert len(lines) <= 2 and all(1 <= len(regex.findall(r"\X", line)) <= 42 for line in lines)


def test_times_follow_cluster_counts() -> None:
    first, second = captions.cues(f"{'क्ष' * 42} {'a' * 42} {'b' * 17}", 0, 102)
    assert first.stop_s == pytest.approx(85) and second.stop_s == 102


def test_a_danda_stays_with_its_word() -> None:
    lines = [line for cue in captions.cues(HINDI, 0, 60) for line in cue.text.split("\n")]
    assert not any(line.startswith("।") for line in lines)


def test_a_word_longer_than_a_line_stays_whole() -> None:
    word = "क्ष" * 60
    assert word in captions.cues(f"a {word} b", 0, 5)[0].text.split("\n")


def test_lines_are_balanced() -> None:
    (cue,) = captions.cues("twelve words that fill a line nearly fully and one", 0, 5)
    assert max(map(len, cue.text.split("\n"))) < 30


def test_no_text_has_no_cues() -> None:
    assert captions.cues(" \n", 0, 5) == []


@pytest.mark.parametrize("span", [(5, 5), (5, 4), (-1, 4), (0, float("inf")), (float("nan"), 4)])
def test_a_span_without_time_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="span of time"):
        captions.cues("text", *span)


def test_text_and_times_survive_a_pysubs2_round_trip(tmp_path: Path) -> None:
    made = captions.cues("if a < b && c --> d then <b> &lt; क्षत्रिय & ஸ்ரீ " * 4, 3599.5, 3640)
    captions.write_webvtt(made, tmp_path / "film.vtt")
    read = pysubs2.load(str(tmp_path / "film.vtt"))
    assert [html.unescape(event.plaintext) for event in read] == [cue.text for cue in made]
    for event, cue in zip(read, made, strict=True):
        assert abs(event.start - 1000 * cue.start_s) <= 0.5 and abs(event.end - 1000 * cue.stop_s) <= 0.5


def test_markup_is_escaped_in_the_file(tmp_path: Path) -> None:
    captions.write_webvtt([Cue(0, 61.5, "a & b < c\n--> d")], tmp_path / "film.vtt")
    expected = "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\na &amp; b &lt; c\n--&gt; d\n"
    assert (tmp_path / "film.vtt").read_text(encoding="utf-8") == expected


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "film.vtt"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(captions.os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        captions.write_webvtt([Cue(0, 1, "new")], target)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_cue_shorter_than_a_millisecond_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="less than a millisecond"):
        captions.write_webvtt([Cue(1, 1.0001, "text")], tmp_path / "film.vtt")
    assert list(tmp_path.iterdir()) == []


def test_mp4_language_codes() -> None:
    tags = ["hi-IN", "mr", "bn-IN", "as", "ta", "te", "kn", "ml", "gu", "pa-Guru-IN", "or", "ur", "EN-in"]
    codes = ["hin", "mar", "ben", "asm", "tam", "tel", "kan", "mal", "guj", "pan", "ori", "urd", "eng"]
    assert [captions.iso_639_2(tag) for tag in tags] == codes


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'xx'.*as, bn, en"):
        captions.iso_639_2("xx")
