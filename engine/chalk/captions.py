"""Words of the lessons."""

from __future__ import annotations


def vocabulary() -> list[str]:
    """Every word that a caption may hold, sorted."""
    return ["a", "falls", "rain", "shines", "sun", "the"]
