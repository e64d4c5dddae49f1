"""What is wrong with a row that a person wrote: keys and types, by the path to each, before Arrow sees it.

Arrow drops unknown keys, cuts 9.7 to 9 and takes true for 1.0 without a word, and of a wrong type it names
neither row nor path. Decides whether the schema holds a row as it is written. Does not decide whether the row
makes sense (validate).
"""

import reprlib
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pyarrow as pa

from manifests.findings import short
from manifests.schema import SCHEMA

ROW = pa.struct(list(SCHEMA))
SHOWN = reprlib.Repr()  # bounded: a few lines of YAML aliases can unfold to gigabytes
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxother = 2, 200, 200
FLOAT_GRID = 2**53  # above it a float64 skips integers


class Twice(Enum):
    """Stands for the value of a key that its mapping has twice."""

    TWICE = "twice"


TWICE = Twice.TWICE


def faults(value: Any, type_: Any = ROW, path: str = "") -> Iterator[str]:
    """Every fault of a value for an Arrow type, at any depth; none for null, which every column takes."""
    if value is None:
        return
    if value is TWICE:
        yield f"{path} is given twice"
    elif pa.types.is_list(type_):
        if not isinstance(value, list):
            yield f"{path} is not a list: {_shown(value)}"
            return
        for index, item in enumerate(value):
            yield from faults(item, type_.value_type, f"{path}/{index}")
    elif pa.types.is_struct(type_):
        yield from _mapping_faults(value, type_, path)
    elif not _fits(value, type_):
        yield f"{path} does not fit {type_}: {_shown(value)}"


def _mapping_faults(value: Any, type_: Any, path: str) -> Iterator[str]:
    """Those of a mapping: keys that the schema lacks, then those of its values."""
    if not isinstance(value, dict):
        yield f"{path or 'row'} is not a mapping: {_shown(value)}"
        return
    known = {field.name: field.type for field in type_}
    for key, item in value.items():
        if key in known:
            yield from faults(item, known[key], f"{path}/{key}")
        else:
            yield f"unknown key {f'{path}/{key}'!r}, known are {', '.join(known)}"


def _fits(value: Any, type_: Any) -> bool:
    """Whether the column holds exactly this value."""
    if isinstance(value, bool):
        return False
    if pa.types.is_integer(type_):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole and -(1 << (type_.bit_width - 1)) <= value < 1 << (type_.bit_width - 1)
    if pa.types.is_floating(type_):
        return isinstance(value, float) or (isinstance(value, int) and abs(value) <= FLOAT_GRID)
    return isinstance(value, str) and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it: an escape in JSON may be half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value fit for a message."""
    if isinstance(value, int) and value.bit_length() > 256:  # Python refuses to write out the longest ones
        return f"an integer of {value.bit_length()} bits"
    return str(short(SHOWN.repr(value)))
