"""What narration promises: sound, the same sound every time, a length that fits, or a clear refusal."""

import subprocess
import sys

import numpy as np
import pytest

from engine.film import voice

HINDI = "नदी पहाड़ से निकलकर धीरे-धीरे मैदान की ओर बहती है और खेतों को पानी देती है।"
TAMIL = "ஆறு மலையில் தோன்றி சமவெளியை நோக்கி மெதுவாக ஓடுகிறது."


@pytest.mark.parametrize(("text", "language"), [(HINDI, "hi-IN"), (TAMIL, "ta-IN")])
def test_speech_is_not_silent_and_deterministic(text: str, language: str) -> None:
    first, again = voice.speak(text, language), voice.speak(text, language)
    assert first.samples.dtype == np.float32 and first.samples.ndim == 1
    assert float(np.mean(np.abs(first.samples) > 0.01)) > 0.4
    assert float(np.max(np.abs(first.samples))) <= 1.0
    assert np.array_equal(first.samples, again.samples) and first.words == again.words


@pytest.mark.parametrize("language", voice.LANGUAGES)
def test_every_listed_language_has_a_voice(language: str) -> None:
    assert voice.speak("12", language).length_s > 0.2


def test_longer_text_is_longer_speech() -> None:
    assert voice.speak(f"{HINDI} {HINDI}", "hi").length_s > 1.8 * voice.speak(HINDI, "hi").length_s


def test_words_are_timed_in_order_and_point_into_the_text() -> None:
    speech = voice.speak(TAMIL, "ta")
    assert [TAMIL[w.char_start : w.char_stop].strip(".") for w in speech.words] == TAMIL.strip(".").split()
    assert all(a.stop_s == b.start_s for a, b in zip(speech.words, speech.words[1:], strict=False))
    assert speech.words[-1].stop_s == pytest.approx(speech.length_s)


def test_fit_keeps_the_natural_pace_where_it_fits() -> None:
    natural = voice.speak(HINDI, "hi")
    assert np.array_equal(voice.fit(HINDI, "hi", natural.length_s).samples, natural.samples)


@pytest.mark.parametrize("share", [0.98, 0.95, 0.9])
def test_fit_shortens_to_the_shot_within_50_ms(share: float) -> None:
    shot = voice.speak(HINDI, "hi").length_s * share
    assert shot - 0.05 <= voice.fit(HINDI, "hi", shot).length_s <= shot


def test_fit_refuses_with_both_lengths_and_the_words_to_cut() -> None:
    natural = voice.speak(HINDI, "hi").length_s
    with pytest.raises(voice.NarrationTooLong) as caught:
        voice.fit(HINDI, "hi", natural / 2)
    message = str(caught.value)
    assert f"{natural:.2f} s" in message and f"{natural / 2:.2f} s" in message
    kept = HINDI.split()[: -caught.value.words_to_cut]
    assert f"cut about {caught.value.words_to_cut} words" in message and 4 <= len(kept) <= 9


def test_unknown_language_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"'xx-IN'.*as, bn, en, .*ur"):
        voice.speak("text", "xx-IN")


@pytest.mark.parametrize("text", ["", " \n", "one\0two"])
def test_text_that_would_be_lost_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="blank or hold a NUL"):
        voice.speak(text, "en")


@pytest.mark.parametrize("rate", [0.0, -1.0, 9.0, float("nan"), float("inf")])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        voice.speak("text", "en", rate)


def test_hanging_helper_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "TIMEOUT_S", 0.001)
    with pytest.raises(voice.VoiceError, match="no answer"):
        voice.speak("text", "en")


def test_broken_answers_are_errors() -> None:
    for answer in (b"", b"{}\n", b'{"sample_rate": 22050, "samples": 2, "words": []}\n\0\0'):
        with pytest.raises(voice.VoiceError):
            voice._parse(answer)


def test_failing_helper_is_an_error_with_its_reason() -> None:
    with pytest.raises(voice.VoiceError, match="select the voice nope"):
        voice._ask(b'{"text": "text", "voice": "nope", "wpm": 175}')


def test_the_library_stays_out_of_this_process() -> None:
    code = "from engine.film import voice; voice.speak('a', 'en'); print(open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout and "espeak" not in done.stdout
