"""Bidi: the direction of every part of a line of text, and the order in which the parts are drawn.

Unicode's UAX 9, where explicit marks count as signs that have no direction of their own.
Decides levels and order. Does not decide what a cluster is, nor how it is shaped.
"""

import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

import regex  # type: ignore[import-untyped]

T = TypeVar("T")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "⟨": "⟩"}
_KINDS = {"L": "L", "R": "R", "AL": "A", "EN": "E", "AN": "N", "ES": "S", "ET": "T", "CS": "C"}


def levels(texts: Sequence[str], base: str) -> list[int]:
    """Return the bidi level of each cluster: Unicode's UAX 9 without its explicit marks.

    One letter a cluster: L left, R right, A Arabic letter, E digit, N Arabic digit, S and C separators
    of digits, T a sign beside a number such as ₹, O anything else. `base` stands at both ends: sos and eos.
    """
    kinds = base + "".join(_KINDS.get(unicodedata.bidirectional(text[0]), "O") for text in texts) + base
    kinds = regex.sub("A[^LR]*", lambda m: m[0].replace("E", "N"), kinds).replace("A", "R")  # W2, W3
    kinds = regex.sub("(?<=E)[SC](?=E)", "E", kinds)  # W4
    kinds = regex.sub("(?<=N)C(?=N)", "N", kinds)
    kinds = regex.sub("T*E[ET]*", lambda m: "E" * len(m[0]), kinds)  # W5
    kinds = regex.sub("[STC]", "O", kinds)  # W6
    kinds = regex.sub("L[^LR]*", lambda m: m[0].replace("E", "L"), kinds)  # W7
    kinds = _pair_brackets(kinds, texts, base)  # N0
    for side, of in (("L", "L"), ("R", "REN")):  # N1
        kinds = regex.sub(f"(?<=[{of}])O+(?=[{of}])", lambda m, side=side: side * len(m[0]), kinds)
    kinds = kinds.replace("O", base)  # N2
    even, odd = (0, 1) if base == "L" else (2, 1)
    return [{"L": even, "R": odd}.get(kind, 2) for kind in kinds[1:-1]]


def _pair_brackets(kinds: str, texts: Sequence[str], base: str) -> str:
    """Turn a pair of brackets with what is inside it, or with the text when that has its direction (N0)."""
    marks, opened, pairs = list(kinds), [], []
    for at, text in enumerate(texts, start=1):
        if text in _BRACKETS:
            opened.append(at)
        match = [k for k, start in enumerate(opened) if _BRACKETS[texts[start - 1]] == text]
        if match:
            pairs.append((opened[match[-1]], at))
            del opened[match[-1] :]
    for start, stop in sorted(pairs):
        inside = "".join(marks[start + 1 : stop]).replace("E", "R").replace("N", "R").replace("O", "")
        before = "".join(marks[:start]).replace("E", "R").replace("N", "R").replace("O", "")[-1]
        if inside:
            marks[start] = marks[stop] = base if base in inside else before
    return "".join(marks)


def visual_order(runs: Sequence[T], level: Callable[[T], int]) -> list[T]:
    """Put runs, each of one bidi level, in the order in which they stand from left to right (UAX 9, L2)."""
    order = list(runs)
    for least in range(max(map(level, order), default=0), 0, -1):
        turns = [level(run) >= least for run in order]
        parts = [
            (turn, [run for run, _ in part])
            for turn, part in groupby(zip(order, turns, strict=True), lambda pair: pair[1])
        ]
        order = [run for turn, part in parts for run in (reversed(part) if turn else part)]
    return order
