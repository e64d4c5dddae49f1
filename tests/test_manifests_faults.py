"""Claims about a store behind a network that fails: what is told is true, and what is stored is whole.

S3 is a server process of moto; before it stands a proxy process that breaks requests (tests/fault_proxy.py).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3fs import S3FileSystem

from manifests.patience import MOST_S, patiently, pause_s
from manifests.store import Store, open_store
from tests.fault_proxy import FAULTS, Remote, fault_proxy
from tests.s3_server import ask_moto, s3_environment

ALL = "LONGTAKE_CHAOS_SEEDS" in os.environ
READ_TIMEOUT_S = 2.0  # so that a silent server costs a test no more
ATTEMPTS = ["1", "3"] if ALL else ["1"]  # of botocore, which waits longer between them than we do


@pytest.fixture(scope="module")
def remote(moto: int) -> Iterator[Remote]:
    with fault_proxy(moto) as proxy:
        yield proxy


@pytest.fixture(scope="module", params=ATTEMPTS)
def store(moto: int, remote: Remote, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store of S3 through the proxy; the environment is as before afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(remote.port).items():
            patch.setenv(name, value)
        patch.setenv("AWS_MAX_ATTEMPTS", request.param)
        patch.setattr(S3FileSystem, "read_timeout", READ_TIMEOUT_S)
        S3FileSystem.clear_instance_cache()
        ask_moto(moto, "reset")
        fsspec.filesystem("s3").mkdir("films")
        yield open_store("s3://films/root")
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def fresh(store: Store, remote: Remote) -> Iterator[str]:
    """A folder of the store that no other test has."""
    yield f"t{os.urandom(6).hex()}"
    remote.script([])


CALLS: dict[str, Callable[[Store, str], object]] = {
    "put_new": lambda store, at: store.put_new(f"{at}/new", b"x"),
    "refused": lambda store, at: store.put_new(f"{at}/old", b"x"),
    "read": lambda store, at: store.read(f"{at}/old"),
    "absent": lambda store, at: store.read(f"{at}/none"),
    "read_marker": lambda store, at: store.read_marker(f"{at}/marker"),
    "list_keys": lambda store, at: store.list_keys(at),
    "remove": lambda store, at: (store.remove(f"{at}/old"), store.read(f"{at}/old")),
    "put_artefact": lambda store, at: store.read_artefact(store.put_artefact(at.encode())) == at.encode(),
    "publish": lambda store, at: (
        store.publish(store.put_artefact(b"film"), f"{at}/film"),
        store.read(f"{at}/film"),
    ),
}


def stocked(store: Store, at: str) -> str:
    store.put_new(f"{at}/old", b"old")
    store.put_marker(f"{at}/marker", {"a": 1})
    return at


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_answers_through_a_fault_as_it_does_without(
    store: Store, remote: Remote, fresh: str, fault: str
) -> None:
    before = remote.counts().get(fault, 0)
    calls = {name: CALLS[name] for name in ("put_new", "read")} if fault == "silent" else CALLS
    for name, call in calls.items():
        calm, hurt = (stocked(store, f"{fresh}/{name}-{way}") for way in ("calm", "hurt"))
        expected = call(store, calm)
        remote.script([fault])
        seen = call(store, hurt)
        shown = (str(value).replace("-hurt/", "-calm/") for value in (seen, expected))
        assert len(set(shown)) == 1, f"{name} through {fault}: {seen} instead of {expected}"
    met = remote.counts()[fault] - before
    assert met == len(calls) if fault != "flipped" else met, "the fault was not met"


@pytest.mark.parametrize("fault", ["lost", "regretted"])
def test_of_equal_bytes_only_the_writer_is_told_that_it_put_them(
    store: Store, remote: Remote, fresh: str, fault: str
) -> None:
    remote.script([fault, fault])
    assert store.put_new(f"{fresh}/a", b"the same"), "a retry did not know its own put"
    assert not store.put_new(f"{fresh}/a", b"the same")
    remote.script(["", fault])
    assert not store.put_new(f"{fresh}/a", b"other") and store.read(f"{fresh}/a") == b"the same"


@pytest.mark.parametrize("faults", [["", "", "", "", "lost"], ["500", "", "reset", "", "", "regretted"]])
def test_an_upload_in_parts_whose_end_is_lost_is_known_again(
    store: Store, remote: Remote, fresh: str, tmp_path: Path, faults: list[str]
) -> None:
    data = os.urandom(17 << 20)
    remote.script(["", *faults])  # after a look at its size: begin, three parts, end
    name = store.put_artefact(data)
    remote.script(["", "truncated", "flipped"])
    store.fetch_artefact(name, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


KEYS = st.sampled_from(["a", "b", "c/d"])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.sampled_from([b"1", b"22"])),
    st.tuples(st.just("read"), KEYS, st.just(b"")),
    st.tuples(st.just("remove"), KEYS, st.just(b"")),
    st.tuples(st.just("list"), st.just(""), st.just(b"")),
)
SCRIPTS = st.lists(st.sampled_from(["", "", *(name for name in FAULTS if name != "silent")]), max_size=10)


@settings(
    max_examples=100 if ALL else 10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=6), faults=SCRIPTS)
def test_any_calls_through_any_faults_answer_as_a_dictionary_does(
    store: Store, remote: Remote, operations: list[tuple[str, str, bytes]], faults: list[str]
) -> None:
    at, model = f"h{os.urandom(6).hex()}", dict[str, bytes]()
    remote.script(faults)
    for name, key, body in operations:
        if name == "put":
            assert store.put_new(f"{at}/{key}", body) == (key not in model)
            model.setdefault(key, body)
        elif name == "remove":
            store.remove(f"{at}/{key}")
            model.pop(key, None)
        elif name == "list":
            assert store.list_keys(at) == sorted(f"{at}/{each}" for each in model)
        assert store.read(f"{at}/{key or 'a'}") == model.get(key or "a")


@given(tried=st.integers(1, 10**6), draw=st.floats(0, 1))
def test_a_pause_is_drawn_from_nothing_to_a_bound_that_doubles_and_ends(tried: int, draw: float) -> None:
    assert 0 <= pause_s(tried, draw) <= min(MOST_S, 0.2 * 2.0 ** min(tried - 1, 30))
    assert pause_s(tried, draw) <= pause_s(tried + 1, draw)


def after(errors: list[OSError]) -> Callable[[], str]:
    """A call that raises these, one after another, and then answers."""

    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "answer"

    return call


@pytest.mark.parametrize(("n", "within_s", "answers"), [(5, 60.0, True), (50, 60.0, False), (1, 0.0, False)])
def test_trouble_that_passes_is_waited_out_within_a_bound(n: int, within_s: float, answers: bool) -> None:
    now, errors = [0.0], [ConnectionError()] * n

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def ask() -> str:
        return patiently(after(list(errors)), within_s, sleep=sleep, clock=lambda: now[0], draw=lambda: 1.0)

    if answers:
        assert ask() == "answer"
    else:
        with pytest.raises(ConnectionError):
            ask()
    assert now[0] <= within_s


@pytest.mark.parametrize(
    "error", [PermissionError(), FileNotFoundError(), FileExistsError(), OSError(28, "")]
)
def test_trouble_that_stays_is_told_at_once(error: OSError) -> None:
    with pytest.raises(type(error)):
        patiently(after([error]), 60.0, sleep=lambda seconds: pytest.fail("it was waited for"))
