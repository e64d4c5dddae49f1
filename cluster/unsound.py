"""What an audit finds: a rule that does not hold, or one that cannot be checked yet."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Broken:
    """A rule that does not hold, and where."""

    rule: str
    where: str
    what: str


@dataclass(frozen=True)
class Unchecked:
    """A rule that cannot be checked, or not for all, of a job that has not come to its end; and why."""

    rule: str
    where: str
    what: str


Findings = Iterator[Broken | Unchecked]
