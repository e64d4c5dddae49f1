"""Claims about names that were met: each is new once, and costs some bytes."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from manifests.names import Names

BATCHES = st.lists(st.lists(st.text(max_size=3), max_size=20), max_size=20)


@given(BATCHES)
def test_a_name_is_new_the_first_time_and_met_from_then_on(batches):
    names, met = Names(), set()
    for batch in batches:
        assert list(names.met(batch)) == [name in met for name in batch]
        expected = []
        for name in batch:
            expected.append(name not in met)
            met.add(name)
        assert list(names.meet(batch)) == expected
    assert len(names) == len(met) and all(names.met(sorted(met)))


def test_a_name_costs_at_most_twenty_four_bytes():
    tracemalloc.start()
    names = Names()
    for start in range(0, 100_000, 1000):
        names.meet([f"a film with a long name {n}" for n in range(start, start + 1000)])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(names) == 100_000 and peak_bytes < 24 * 100_000 + 500_000
