"""Tasks as JSON and back: frozen dataclasses of numbers, texts, fractions, tuples and each other.

No pickle: what is read makes no other class than the one that is asked for, and those that its fields name.
"""

from dataclasses import fields, is_dataclass
from fractions import Fraction
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")


def to_plain(value: Any) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return str(value) if isinstance(value, Fraction) else value


def from_plain(kind: type[Kind], value: Any) -> Kind:
    """The dataclass that `to_plain` made this of; fields that it lacks have their defaults.

    Raises TypeError or ValueError for what is no such value.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__} is made of a mapping, not of {type(value).__name__}")
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass, by contract
    if unknown := sorted(value.keys() - known):
        raise TypeError(f"{kind.__name__} has no {', '.join(unknown)}")
    return kind(**{name: _read(hints[name], each) for name, each in value.items()})


def _read(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return from_plain(kind, value)  # type: ignore[arg-type]  # a class, not an instance
    if kind is Fraction:
        return Fraction(value)
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return tuple(_read(arguments[0], each) for each in value)
    if NoneType in arguments:
        (other,) = (each for each in arguments if each is not NoneType)
        return None if value is None else _read(other, value)
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, _fitting(kind)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _fitting(kind: Any) -> Any:
    """What JSON may have for a number: 6 for 6.0."""
    return (int, float) if kind is float else kind
