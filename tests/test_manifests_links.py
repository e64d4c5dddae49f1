"""Claims about the order of rows: the urgent first, none before one that it waits for, and no circles."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.compose import decompose
from manifests.links import LINKS, MOST, ORDER, awaited, circles, link_findings, order_of
from manifests.schema import SCHEMA, ManifestError
from manifests.source import Manifest, read_source
from manifests.stream import Stream


def table(*rows):
    return pa.Table.from_pylist([{"row_id": f"r{k}"} | row for k, row in enumerate(rows)], schema=SCHEMA)


def told(*rows):
    return [(f.row_id, f.code, f.json_path) for f in link_findings(table(*rows))]


def after(*names, **more):
    return {"depends_on": list(names)} | more


def ordered(made, bad=()):
    return [row["row_id"] for row in rows_of(made, bad)]


def rows_of(made, bad=()):
    manifest, wanted = Manifest("m", "d", made), np.ones(len(made), bool)
    wanted[list(bad)] = False
    return [row for _, row in manifest.chosen(wanted, manifest.order(bad))]


def test_a_manifest_without_priorities_and_dependencies_keeps_its_order_and_its_rows():
    made = table({}, {"priority": 0}, after())
    assert order_of(made) is None and ordered(made) == ["r0", "r1", "r2"]
    assert rows_of(made, {1}) == [made.to_pylist()[0], made.to_pylist()[2]]


def test_more_urgent_rows_come_first_and_equals_in_the_order_of_the_manifest():
    assert ordered(table({}, {"priority": 5}, {"priority": -1}, {"priority": 5})) == ["r1", "r3", "r0", "r2"]


def test_a_row_comes_right_behind_the_last_that_it_waits_for():
    assert ordered(table(after("r3"), {}, {}, {}, {})) == ["r1", "r2", "r3", "r0", "r4"]


def test_a_row_is_as_urgent_as_the_most_urgent_that_waits_for_it_however_far_away():
    made = table({}, after("r2", priority=9), after("r3"), {}, {"priority": 5})
    assert ordered(made) == ["r3", "r2", "r1", "r4", "r0"]
    urgency = {row["row_id"]: row["priority"] for row in rows_of(made)}
    assert urgency == {"r3": 9, "r2": 9, "r1": 9, "r4": 5, "r0": 0}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"priority": MOST + 1}, {"priority": -MOST}], [("r0", "E106_PRIORITY", "/priority")]),
        ([{"priority": -(2**31)}], [("r0", "E106_PRIORITY", "/priority")]),
        ([{}, after("r0", "nobody")], [("r1", "E107_UNKNOWN_ROW", "/depends_on/1")]),
        ([after(None)], [("r0", "E101_MISSING", "/depends_on/0")]),
        ([{}, after("r0", "r1")], [("r1", "E108_CIRCLE", "/depends_on/1")]),
        (
            [after("r1"), after("r2"), {}, after("r1", "r4"), after("r3")],
            [("r3", "E108_CIRCLE", "/depends_on/1"), ("r4", "E108_CIRCLE", "/depends_on/0")],
        ),
    ],
)
def test_each_fault_is_told_with_its_row_and_the_path_of_its_field(rows, found):
    assert told(*rows) == found


def test_a_circle_is_told_by_name_and_a_long_one_by_its_first_rows_and_its_length():
    first, *_ = link_findings(table(after("r1"), after("r0")))
    assert first.message == "2 rows wait for each other: r0, r1"
    first, *_ = link_findings(table(*(after(f"r{(k + 1) % 9}") for k in range(9))))
    assert first.message == "9 rows wait for each other: r0, r1, r2, r3, r4 and 4 more"


def test_a_row_that_waits_for_a_faulty_one_is_made_in_its_place_and_the_faulty_one_is_not():
    made = table({}, after("r0"), after("r2"))
    assert ordered(made, bad={2}) == ["r0", "r1"] and ordered(made, bad={0, 2}) == ["r1"]
    assert awaited(made) == {"r0": True, "r2": True}
    assert awaited(made, bad={0, 2}) == {"r0": False}


def test_csv_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ManifestError, match="depends_on"):
        decompose(table({}, after("r0")), tmp_path / "m.csv")


N = 7
ROWS = st.lists(
    st.tuples(st.integers(-3, 3), st.sets(st.integers(0, N - 1), max_size=3)), min_size=N, max_size=N
)


@settings(deadline=None)
@given(ROWS)
def test_the_order_is_that_of_always_making_the_most_urgent_row_whose_needs_are_made(rows):
    made = table(*({"priority": p, "depends_on": [f"r{k}" for k in sorted(d)]} for p, d in rows))
    bad = {finding.row_index for finding in link_findings(made)}
    left = [k for k in range(N) if k not in bad]
    needs = {k: rows[k][1] - bad for k in left}
    urgency = {k: rows[k][0] for k in left}
    for _ in range(N):
        urgency = {k: max([urgency[k], *(urgency[w] for w in left if k in needs[w])]) for k in left}
    plain = []
    while len(plain) < len(left):
        ready = [k for k in left if k not in plain and needs[k] <= set(plain)]
        plain.append(min(ready, key=lambda k: (-urgency[k], k)))
    assert ordered(made, bad) == [f"r{k}" for k in plain]


@settings(deadline=None)
@given(ROWS)
def test_what_is_told_as_a_circle_is_one_and_every_circle_loses_a_row(rows):
    needs = {k: sorted(d) for k, (_, d) in enumerate(rows) if d}
    hit = set()
    for circle in circles(needs):
        assert all(b in needs[a] for a, b in zip(circle, [*circle[1:], circle[0]], strict=True))
        hit |= set(circle)
    left = {k: [need for need in d if need not in hit] for k, d in needs.items() if k not in hit}
    assert list(circles(left)) == []


def streamed(made, folder, group_rows=3):
    pq.write_table(made, folder / "m.parquet", row_group_size=group_rows)
    return read_source(str(folder / "m.parquet"))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sets(st.integers(0, N - 1), max_size=2))
def test_rows_of_a_file_are_made_in_the_order_of_those_of_a_table(folder, rows, left_out):
    made = table(*({"priority": p, "depends_on": [f"r{k}" for k in sorted(d)]} for p, d in rows))
    bad = {finding.row_index for finding in link_findings(made)} | left_out
    manifest, held, wanted = streamed(made, folder), Manifest("m", "d", made), np.ones(N, bool)
    wanted[list(left_out)] = False
    order = manifest.order(bad)
    assert list(manifest.chosen(wanted, order)) == list(held.chosen(wanted, held.order(bad)))
    if order is None:
        return
    chosen = [row for _, row in manifest.chosen(wanted, order)]
    assert list(manifest.ordered(order)) == [{name: row[name] for name in LINKS} for row in chosen]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where rows are fetched three at a time, and lie in groups of three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manifests.source.FETCHED_ROWS", 3)
        yield tmp_path_factory.mktemp("links")


def test_whether_a_file_has_an_order_is_told_by_two_columns_up_to_the_first_row_that_asks_for_one(
    tmp_path, monkeypatch
):
    read, real = [], Stream.batches

    def noted(self, columns=None, wanted=bool):
        for start, batch in real(self, columns, wanted):
            read.append((tuple(batch.schema.names), start))
            yield start, batch

    monkeypatch.setattr(Stream, "batches", noted)
    monkeypatch.setattr("manifests.stream.BATCH_ROWS", 3)
    manifest = streamed(table(*[{}] * 9), tmp_path)
    assert manifest.order(()) is None and read == [(ORDER, 0), (ORDER, 3), (ORDER, 6)]
    read.clear()
    assert streamed(table({}, {}, {}, after("r0"), *[{}] * 5), tmp_path).has_order
    assert read == [(ORDER, 0), (ORDER, 3)]
