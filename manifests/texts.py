"""Columns of texts and numbers as numpy, many values at a time.

n values of an Arrow array; a null is told apart, or counts as nothing. Decides: how a column is asked. Does
not decide: what the answers mean.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Ints = Any  # numpy int64 (n,)
Bools = Any  # numpy bool (n,)


def matches(texts: Any, pattern: str) -> Bools:
    """Where a regular expression of RE2 is found; not in null."""
    return bools(pc.match_substring_regex(texts, pattern))


def lengths(texts: Any) -> Ints:
    """Code points of each text."""
    return ints(pc.utf8_length(texts))


def counts(texts: Any, pattern: str) -> Ints:
    """How often a regular expression of RE2 is found."""
    return ints(pc.count_substring_regex(texts, pattern))


def given(values: Any) -> Bools:
    """Where there is a value, that is no text of nothing."""
    there = pc.is_valid(values)
    if pa.types.is_string(values.type):
        there = pc.and_(there, pc.fill_null(pc.not_equal(values, ""), False))
    return bools(there)


def coded(values: Any) -> tuple[Ints, list[Any]]:
    """Each value's number among the distinct ones, -1 of null, and those in the order of their appearance."""
    found = pc.dictionary_encode(values)
    return pc.fill_null(found.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64), (
        found.dictionary.to_pylist()
    )


def words(texts: Any, digit: str = "") -> tuple[Ints, Ints, list[str]]:
    """The words between white space: the text that each is of, its number among distinct ones, and those.

    With a digit all others count as it, so that numbers of one length are one word.
    """
    lists = pc.utf8_split_whitespace(pc.replace_substring_regex(texts, "[0-9]", digit) if digit else texts)
    lengths = ints(pc.list_value_length(lists))
    codes, vocabulary = coded(pc.list_flatten(lists))
    return np.repeat(np.arange(len(lengths)), lengths), codes, vocabulary


def places(values: Any, among: Any) -> Ints:
    """Where each value stands in another array, the first of several; -1 where it does not."""
    return (
        pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )


def taken(values: Any, at: Any) -> Any:
    """The values at these places, Arrow; `at` is numpy, of numbers or of truths."""
    return values.filter(pa.array(at)) if at.dtype == bool else values.take(pa.array(at))


def ints(values: Any) -> Ints:
    """Numbers; null is 0."""
    return pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64)


def bools(values: Any) -> Bools:
    """Truths; null is none."""
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def trimmed(texts: Any, others: Any) -> Any:
    """The texts without the space around them, Arrow; where nothing is left the others', and else nothing."""
    own, lent = (pc.fill_null(pc.utf8_trim_whitespace(each), "") for each in (texts, others))
    return pc.if_else(pc.equal(own, ""), lent, own)


def told(texts: Any, others: Any) -> Any:
    """The texts as they are, Arrow; of those of no character the others', and else nothing."""
    own, lent = (pc.fill_null(each, "") for each in (texts, others))
    return pc.if_else(pc.equal(own, ""), lent, own)


def replaced(texts: Any, at: Any, new: list[str]) -> Any:
    """The texts, Arrow, with others at these places (numpy numbers, ascending)."""
    mask = np.zeros(len(texts), bool)
    mask[at] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(new, pa.string()))


def lengths_of(lists: Any) -> Ints:
    """How many entries each list has."""
    return ints(pc.list_value_length(lists))


def texts_of(texts: Iterable[str]) -> Any:
    """Texts as an Arrow array."""
    return pa.array(list(texts), pa.string())


def joined(*parts: Any, by: str) -> Any:
    """Texts put together, Arrow, of Arrow arrays of texts and numpy arrays of numbers; null is nothing."""
    texts = [pa.array(each).cast(pa.string()) if isinstance(each, np.ndarray) else each for each in parts]
    return pc.binary_join_element_wise(*texts, by, null_handling="replace", null_replacement="")


def grouped(texts: Any, owners: Ints, n: int, by: str) -> Any:
    """The texts of each of n owners put together, Arrow; owners are ascending."""
    ends = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=n))]).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), texts), by)


def hashes(texts: Any) -> Ints:
    """A number for each text, by which this process tells it from others.

    They have 64 bits and a key of the process: of ten million texts two share one in 400,000 processes.
    """
    return np.fromiter(map(hash, texts.cast(pa.binary()).to_pylist()), np.int64, len(texts))
