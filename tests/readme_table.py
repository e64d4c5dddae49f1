"""README's tables that tests make of what they measured."""

import os
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def told(rows):
    """README's table that begins as these rows do, by cells; LONGTAKE_CONTRACT=1 puts these rows there."""
    text = README.read_text()
    begin = text.index(f"| {' | '.join(rows[0][:2])} |")
    end = text.index("\n\n", begin)
    if os.environ.get("LONGTAKE_CONTRACT"):
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        README.write_text(text[:begin] + table + text[end:])
        return rows
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text[begin:end].splitlines()]
