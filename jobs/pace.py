"""How long a narration can last at most, without speaking it: speaking takes a tenth of a second a text.

Decides only where it is sure. A text of ordinary letters is bounded by the slowest pace measured for its
language; anything else (digits, abbreviations, other scripts, lone letters) is spelled out or read by name,
at ten times the length, and is left to the voice.
"""

import re
from functools import cache
from typing import Any

import numpy as np

from manifests.texts import counts, lengths, matches

LEAD_S = 0.5  # a short text's own beginning and end
PAUSE_S = 0.6  # at most, after a mark; 0.52 s was measured
MARKS = ",.;:!?\u0964\u0965\u061f\u060c\u06d4"  # with dandas and the Arabic marks of Urdu
LAST_SIGN = 0x1000  # above those of all scripts here
ROUNDING_S = 1e-6  # more than floats can be off by
ABSURD_PER_S = 200  # characters; a brisk voice has 20
# Least characters a second, and the letters and signs that the voice reads as sounds. Measured with eSpeak NG
# 1.52 at its own pace on 600 texts of random letters and signs a language: the slowest one in fifty had 6.8
# to 9.7, sentences have 13 to 19. Of 163 or more further texts a language, none passed 88 % of the bound.
_PACE = {
    "as": (
        6.5,
        r"\u0985-\u098b\u098f-\u0990\u0993-\u09a8\u09aa-\u09af\u09b2\u09b6-\u09b9\u09ce\u09df\u09f0-\u09f1\u0981-\u0983\u09be-\u09c3\u09c7-\u09c8\u09cb-\u09cd",
    ),
    "bn": (
        7.0,
        r"\u0985-\u098b\u098f-\u0990\u0993-\u09a8\u09aa-\u09b0\u09b2\u09b6-\u09b9\u09ce\u09dc-\u09dd\u09df\u0981-\u0983\u09bc\u09be-\u09c3\u09c7-\u09c8\u09cb-\u09cd",
    ),
    "gu": (
        7.0,
        r"\u0a85-\u0a8b\u0a8d\u0a8f-\u0a91\u0a93-\u0aa8\u0aaa-\u0ab0\u0ab2-\u0ab3\u0ab5-\u0ab9\u0a81-\u0a83\u0abe-\u0ac3\u0ac5\u0ac7-\u0ac9\u0acb-\u0acd",
    ),
    "hi": (
        6.0,
        r"\u0905-\u090b\u090d\u090f-\u0911\u0913-\u0928\u092a-\u0930\u0932-\u0933\u0935-\u0939\u0901-\u0903\u093c\u093e-\u0943\u0945\u0947-\u0949\u094b-\u094d",
    ),
    "kn": (
        7.0,
        r"\u0c85-\u0c8b\u0c8e-\u0c90\u0c92-\u0ca8\u0caa-\u0cb0\u0cb2-\u0cb3\u0cb5-\u0cb9\u0c82-\u0c83\u0cbe-\u0cc3\u0cc6-\u0cc8\u0cca-\u0ccd",
    ),
    "ml": (
        7.0,
        r"\u0d05-\u0d0b\u0d0e-\u0d10\u0d12-\u0d28\u0d2a-\u0d39\u0d7a-\u0d7f\u0d02-\u0d03\u0d3e-\u0d43\u0d46-\u0d48\u0d4a-\u0d4d\u0d57",
    ),
    "or": (
        6.0,
        r"\u0b05-\u0b0b\u0b0f-\u0b10\u0b13-\u0b28\u0b2a-\u0b30\u0b32-\u0b33\u0b36-\u0b39\u0b5c-\u0b5d\u0b5f\u0b01-\u0b03\u0b3c\u0b3e-\u0b43\u0b47-\u0b48\u0b4b-\u0b4d",
    ),
    "pa": (
        5.0,
        r"\u0a05-\u0a0a\u0a0f-\u0a10\u0a13-\u0a28\u0a2a-\u0a30\u0a32\u0a35\u0a38-\u0a39\u0a5c\u0a02\u0a3c\u0a3e-\u0a42\u0a47-\u0a48\u0a4b-\u0a4d\u0a70-\u0a71",
    ),
    "ta": (
        7.0,
        r"\u0b85-\u0b8a\u0b8e-\u0b90\u0b92-\u0b95\u0b99-\u0b9a\u0b9c\u0b9e-\u0b9f\u0ba3-\u0ba4\u0ba8-\u0baa\u0bae-\u0bb9\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd",
    ),
    "te": (
        6.5,
        r"\u0c05-\u0c0b\u0c0e-\u0c10\u0c12-\u0c28\u0c2a-\u0c30\u0c32-\u0c33\u0c35-\u0c39\u0c01-\u0c03\u0c3e-\u0c43\u0c46-\u0c48\u0c4a-\u0c4d",
    ),
    "ur": (
        7.0,
        r"\u0622\u0624\u0626-\u0628\u062a-\u063a\u0641-\u0642\u0644-\u0646\u0648\u0679\u067e\u0686\u0688\u0691\u0698\u06a9\u06af\u06ba\u06be\u06c1\u06cc\u06d2",
    ),
}
_PACE["mr"] = _PACE["hi"]
_PACE["en"] = (8.0, "A-Za-z")


def surely_fits(text: str, language: str, max_s: float) -> bool:
    """Whether `text` lasts at most `max_s` seconds at the voice's own pace; False where that is not sure."""
    primary = language.split("-")[0].lower()
    if primary not in _PACE or not _plain(primary).fullmatch(text):
        return False
    marks = sum(text.count(mark) for mark in MARKS)
    return LEAD_S + marks * PAUSE_S + (len(text) - marks) / _PACE[primary][0] <= max_s


def surely_fit(texts: Any, language: str, max_s: Any) -> Any:
    """As surely_fits of Arrow texts (n,), max_s numpy (n,): numpy bool, never true where that is not.

    It may be false where that is true: RE2 knows less white space, and times are held a little tighter.
    """
    primary = language.split("-")[0].lower()
    if primary not in _PACE:
        return np.zeros(len(texts), bool)
    marks = counts(texts, f"[{MARKS}]")
    lasts = LEAD_S + marks * PAUSE_S + (lengths(texts) - marks) / _PACE[primary][0]
    fits = lasts + ROUNDING_S <= max_s
    return fits & matches(texts, _plain_re2(primary))


def surely_too_long(text: str, max_s: float) -> bool:
    """Whether no voice could say `text` in `max_s` seconds; hours of speech need not be made to know it."""
    return len(text) > ABSURD_PER_S * (max_s + 5)


@cache
def _plain(primary: str) -> re.Pattern[str]:
    """The texts of a language that can be bounded: words of two letters or more, a mark after some."""
    word = rf"(?=\w)[{_PACE[primary][1]}]{{2,}}"  # a sign at a word's start is read by name
    if primary == "en":  # a word without a vowel is spelled, and one in capitals may be
        word = r"(?:a|I|(?=[A-Za-z]*[AEIOUaeiouy])[A-Za-z][a-z]+)"
    return re.compile(rf"{word}(?:[{MARKS}]?(?: +|\n){word})*[{MARKS}]?\s?")


@cache
def _plain_re2(primary: str) -> str:
    """The same texts for RE2, which cannot look ahead: what a word begins with is a set of its own."""
    signs = _PACE[primary][1]
    word = rf"{_starts(signs)}[{signs}]+"
    if primary == "en":
        # of two letters or more, with a vowel first or later
        word = "(?:a|I|[AEIOUaeiouy][a-z]+|[A-Za-z][a-z]*[aeiouy][a-z]*)"
    text = rf"^{word}(?:[{MARKS}]?(?: +|\n){word})*[{MARKS}]?\s?$"
    return re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", text)


@cache
def _starts(signs: str) -> str:
    """Those of some signs that a word may begin with, as a set."""
    every, letter = re.compile(f"[{signs}]"), re.compile(r"\w")
    return f"[{''.join(c for c in map(chr, range(LAST_SIGN)) if every.match(c) and letter.match(c))}]"
