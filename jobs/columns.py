"""Rows of text under each other, for a terminal or a log of any width."""

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], n_left: int = 1) -> Iterator[str]:
    """The rows as lines: the first n_left columns stand at their left edge, the others at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < n_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
