"""Claims about a line of what waits: it is sorted, has what was put and not taken, and never changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.line import BLOCK, Line

CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=400)


@settings(deadline=None)
@given(CHANGES)
def test_a_line_is_the_sorted_list_of_what_was_put_and_not_taken(changes):
    line, told = Line(), []
    for puts, entry in changes:
        before, was = line, list(line)
        line = line.put(entry) if puts else line.taken(entry)
        if puts:
            told.append(entry)
        elif entry in told:
            told.remove(entry)
        assert list(line) == sorted(told) and len(line) == len(told)
        assert (entry in line) == (entry in told) and list(before) == was, "the old one is as it was"
    assert line == Line(told) and bool(line) == bool(told)
    assert line[:5] == tuple(sorted(told)[:5]) and line[::-1] == tuple(sorted(told)[::-1])
    assert [line[k] for k in range(-len(told), len(told))] == 2 * sorted(told)


def test_there_is_nothing_beyond_its_ends():
    for line in (Line(), Line([1, 2])):
        for index in (2, -3):
            with pytest.raises(IndexError):
                line[index]


MIXED = [7 * k % 10_000 for k in range(10_000)]


@pytest.mark.parametrize("order", [range(10_000), range(9_999, -1, -1), MIXED])
def test_a_change_copies_a_few_hundred_entries_of_ten_thousand(order):
    line = Line().put(*order)
    assert list(line) == list(range(10_000))
    assert len(line._blocks) <= 2 * 10_000 / BLOCK + 1 and max(map(len, line._blocks)) <= BLOCK
    fewer = line.taken(*(k for k in order if k % 50))
    assert list(fewer) == list(range(0, 10_000, 50)) and len(fewer._blocks) <= 4 * 200 / BLOCK + 1
    assert sum(a is not b for a, b in zip(line._blocks, line.taken(9_999)._blocks, strict=True)) == 1
