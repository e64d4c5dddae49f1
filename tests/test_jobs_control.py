"""Claims about orders: given from anywhere through the store, understood or refused, done as a job runs."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dispatch import Limits, State, decide
from cluster.events import Ended, Held, Ranked, Resumed
from cluster.loop import render
from cluster.orders import CANCELLED, KINDS, checked, event_of, selects
from cluster.outcomes import Failure
from jobs.cli import main
from manifests.control import Orders, give_order
from manifests.store import open_store
from tests.night import film, shot_task


@pytest.fixture
def store(tmp_path):
    opened = open_store(str(tmp_path / "out"))
    opened.put_marker("jobs/night-1/job.json", {"job_id": "night-1"})
    return opened


def test_orders_are_read_once_each_in_the_order_in_which_they_were_given(store):
    clock = iter(range(0, 1000, 10))
    orders = Orders(store, "night-1", clock=lambda: next(clock))
    assert orders.new() == []
    for name in ("pause", "resume"):
        give_order(store, "night-1", {"order": name})
    assert [(each["number"], each["order"]) for each in orders.new()] == [(1, "pause"), (2, "resume")]
    give_order(store, "night-1", {"order": "cancel"})
    assert [each["number"] for each in orders.new()] == [3]
    assert [each["number"] for each in Orders(store, "night-1").new()] == [1, 2, 3], "a new driver reads all"


def test_the_store_is_looked_at_no_more_often_than_agreed(store):
    now = 0.0
    orders = Orders(store, "night-1", every_s=2.0, clock=lambda: now)
    assert orders.new() == []
    give_order(store, "night-1", {"order": "pause"})
    now = 1.9
    assert orders.new() == []
    now = 2.0
    assert len(orders.new()) == 1


def test_of_people_who_order_at_once_each_has_a_number_of_its_own(store):
    barrier = threading.Barrier(8)

    def give(k):
        barrier.wait()
        return give_order(store, "night-1", {"order": "pause", "by": str(k)})

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(give, range(8)))
    assert sorted(numbers) == list(range(1, 9))
    assert {each["by"] for each in Orders(store, "night-1").new()} == {str(k) for k in range(8)}


class Flaky:
    """A store that notes what is read, and fails at some keys while it is away."""

    def __init__(self, store):
        self.store, self.away, self.read = store, set(), []

    def read_marker(self, key):
        self.read.append(key)
        if key in self.away:
            raise OSError("the store is away")
        return self.store.read_marker(key)


def key_of(number):
    return f"jobs/night-1/control/{number:06}.json"


def damaging(store, number, torn=b'{"order": "can'):
    """A file that is no order lies where one of this number would."""
    assert store.put_new(key_of(number), torn)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([None, b'{"order": "can', b"[]", b"\xff\xfe", b'"pause"']), max_size=8))
def test_damaged_orders_are_told_once_and_keep_no_other_from_being_given_and_read(torn):
    clock, said = count(0, 10), Said()
    with TemporaryDirectory() as folder, said:
        store = open_store(folder)
        seen = Flaky(store)
        orders = Orders(seen, "night-1", clock=lambda: next(clock))
        for number, data in enumerate(torn, 1):
            if data is None:
                assert give_order(store, "night-1", {"order": "pause"}) == number
            else:
                damaging(store, number, data)
        found = [each["number"] for each in orders.new()]
        assert found == [number for number, data in enumerate(torn, 1) if data is None]
        last = give_order(store, "night-1", {"order": "cancel"})
        assert last == len(torn) + 1, "the next free number"
        assert [(each["number"], each["order"]) for each in orders.new()] == [(last, "cancel")]
        assert orders.new() == [] and all(seen.read.count(key_of(k)) == 1 for k in range(1, last))
    damaged = [number for number, data in enumerate(torn, 1) if data is not None]
    assert len(said.lines) == len(damaged)
    for number, line in zip(damaged, said.lines, strict=True):
        assert f"order {number} is left out" in line and key_of(number) in line and "remove" not in line


class Said(logging.Handler):
    """What the driver is told meanwhile."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def __enter__(self):
        logging.getLogger("longtake").addHandler(self)

    def __exit__(self, *_):
        logging.getLogger("longtake").removeHandler(self)


def test_orders_read_before_the_store_went_away_come_once_it_is_back_and_it_is_asked_no_sooner(store):
    now, seen = 0.0, Flaky(store)
    for name in ("pause", "resume", "cancel"):
        give_order(store, "night-1", {"order": name})
    orders = Orders(seen, "night-1", every_s=2.0, clock=lambda: now)
    seen.away = {key_of(3)}
    with pytest.raises(OSError):
        orders.new()
    n_read, now = len(seen.read), 1.9
    assert orders.new() == [] and len(seen.read) == n_read
    seen.away, now = set(), 2.0
    assert [each["number"] for each in orders.new()] == [1, 2, 3]
    assert seen.read.count(key_of(1)) == 1, "what was read is not read again"


def test_a_cancel_gets_through_behind_a_damaged_order(store, capsys):
    damaging(store, 1, b"{")
    code, said = told(capsys, "cancel", "night-1", "--out", store.url)
    assert code == 0 and said.out.startswith("order 2: night-1 ends")
    assert [each["order"] for each in Orders(store, "night-1").new()] == ["cancel"]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"order": "explode"}, "none of pause, resume"),
        ({}, "order None"),
        ({"order": "skip"}, "names no rows"),
        ({"order": "skip", "rows": "water"}, "list of row ids"),
        ({"order": "priority", "rows": ["a"], "value": 101}, "from -100 to 100"),
        ({"order": "priority", "rows": ["a"], "value": "high"}, "'high'"),
        ({"order": "budget", "gpu_s": -1}, "0 GPU-seconds or more"),
        ({"order": "budget", "gpu_s": float("nan")}, "nan"),
        ({"order": "retry", "where": {"colour": "red"}}, "code or error_class"),
        ({"order": "pick", "rows": ["a", "b"], "shot": "s", "take": 1}, "one row and one shot"),
        ({"order": "pick", "rows": ["a"], "take": 1}, "one row and one shot"),
        ({"order": "pick", "rows": ["a"], "shot": "s", "take": -1}, "from 0 to 999"),
        ({"order": "pick", "rows": ["a"], "shot": "s", "take": True}, "from 0 to 999"),
        ({"order": "budget", "gpu_s": 1, "soft": "yes"}, "true or false"),
    ],
)
def test_what_is_no_order_is_refused_with_what_is_wrong(order, said):
    with pytest.raises(ValueError, match=said):
        checked(order)


@given(st.sampled_from(KINDS), st.lists(st.text(), min_size=1, max_size=3), st.integers(-100, 100))
def test_every_order_is_an_event_but_retry_and_pick_which_the_loop_answers(kind, rows, value):
    rows = rows[:1] if kind == "pick" else rows
    order = checked({"order": kind, "rows": rows, "value": value, "gpu_s": 5, "shot": "s", "take": 2})
    assert (event_of(order) is None) == (kind in ("retry", "pick"))


def test_orders_become_events():
    assert event_of({"order": "pause"}) == Held("a person")
    assert event_of({"order": "resume"}) == Resumed("a person")
    assert event_of({"order": "priority", "rows": ["a"], "value": 9}) == Ranked(frozenset({"a"}), 9)
    cancel = event_of({"order": "cancel", "number": 3, "by": "me@home"})
    assert isinstance(cancel, Ended) and cancel.rows is None
    assert "by order 3 of me@home" in cancel.failure.message


def test_a_retry_selects_by_row_and_by_failure():
    oom = Failure("E921_GPU_OOM", "", "", "GPU_OOM")
    assert selects({"order": "retry"}, "a", oom)
    assert selects({"order": "retry", "rows": ["a"]}, "a", oom)
    assert not selects({"order": "retry", "rows": ["b"]}, "a", oom)
    assert selects({"order": "retry", "where": {"error_class": "GPU_OOM"}}, "a", oom)
    assert not selects({"order": "retry", "where": {"code": "E900_RENDER"}}, "a", oom)


def test_a_job_that_was_cancelled_and_resumed_before_it_begins_goes_on():
    state = State()
    for order in ({"order": "cancel"}, {"order": "resume"}):
        state, _ = decide(state, event_of(order))
    assert state.closing is None


class Desk:
    """Orders that come at given moments of the loop, one list a call."""

    def __init__(self, *turns):
        self.turns, self.asked = list(turns), []

    def orders(self):
        return self.turns.pop(0) if self.turns else []

    def again(self, rows):
        self.asked.append(set(rows))
        return [film(row, shot_task("s")) for row in rows]


def no_crew():
    raise AssertionError("nothing is to be rendered")


def test_a_cancelled_job_ends_every_film_to_come_without_hiring_anybody(store):
    films = [film(str(k), shot_task(f"s{k}")) for k in range(20)]
    desk = Desk([{"order": "cancel"}])
    done = list(render(films, no_crew, store, Limits(), lambda event, state: None, desk))
    assert [each.film.row_id for each in done] == [str(k) for k in range(20)]
    codes = {result.code for each in done for result in each.results.values() if isinstance(result, Failure)}
    assert codes == {CANCELLED}


def test_films_that_were_skipped_are_made_once_they_are_ordered_again(store):
    films = [film("a", shot_task("s")), film("b", shot_task("t"))]
    skip = {"order": "skip", "rows": ["a", "b"]}
    desk = Desk([skip], [], [{"order": "retry", "rows": ["a"]}, {"order": "cancel"}])
    done = [each.film.row_id for each in render(films, no_crew, store, Limits(), lambda e, s: None, desk)]
    assert done == ["a", "b", "a"] and desk.asked == [{"a"}]


# The verbs.


def told(capsys, *argv):
    code = main([*argv])
    return code, capsys.readouterr()


def test_a_verb_gives_its_order_and_says_what_will_happen(store, capsys):
    code, said = told(capsys, "skip", "night-1", "--out", store.url, "--row", "water", "--row", "rain")
    assert code == 0 and said.out == "order 1: night-1 ends water, rain as they are within seconds\n"
    code, said = told(capsys, "priority", "night-1", "9", "--out", store.url, "--row", "water")
    assert said.out == "order 2: night-1 makes water at priority 9 within seconds\n"
    code, said = told(capsys, "budget", "night-1", "7200", "--out", store.url)
    assert said.out == "order 3: night-1 may take 7,200 GPU-seconds within seconds\n"
    code, said = told(capsys, "retry", "night-1", "--out", store.url, "--where", "error_class=GPU_OOM")
    assert (
        said.out == "order 4: night-1 makes what failed with error_class=GPU_OOM once more within seconds\n"
    )
    orders = Orders(store, "night-1").new()
    assert [each["order"] for each in orders] == ["skip", "priority", "budget", "retry"]
    assert all(checked(each) for each in orders) and all("@" in each["by"] for each in orders)


def test_an_order_in_json_says_its_number(store, capsys):
    code, said = told(capsys, "pause", "night-1", "--out", store.url, "-o", "json")
    order = json.loads(said.out)
    assert code == 0 and (order["number"], order["order"], order["job_id"]) == (1, "pause", "night-1")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["pause", "nobody"], "there is no job 'nobody'"),
        (["priority", "night-1", "1000", "--row", "a"], "from -100 to 100"),
        (["retry", "night-1", "--where", "colour=red"], "use code=VALUE or error_class=VALUE"),
        (["budget", "night-1", "nan"], "0 GPU-seconds or more"),
        (["budget", "night-1", "--money", "5"], "without a price"),
    ],
)
def test_an_order_that_cannot_be_given_is_refused_with_exit_2_and_leaves_nothing(store, capsys, argv, said):
    code, printed = told(capsys, *argv, "--out", store.url)
    assert code == 2 and said in printed.err and "Traceback" not in printed.err
    assert Orders(store, "night-1").new() == []
