"""Claims about a measured store: it is the same store, and whoever measures is told of every call once."""

import pytest

from manifests.store import open_store


class Listener:
    """Whoever is told."""

    def __init__(self):
        self.calls = []

    def __call__(self, call, seconds, read, written, failed):
        assert seconds >= 0
        self.calls.append((call, read, written, failed))


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def store(tmp_path, listener):
    return open_store(str(tmp_path)).measured(listener)


def test_bytes_are_those_that_were_moved(store, listener, tmp_path):
    hash = store.put_artefact(b"12345")
    assert ("create", 0, 5, False) in listener.calls
    listener.calls.clear()
    assert store.read_artefact(hash) == b"12345" and listener.calls == [("read", 5, 0, False)]
    listener.calls.clear()
    store.fetch_artefact(hash, tmp_path / "copy")
    assert listener.calls == [("read", 5, 0, False)]


def test_a_put_that_came_too_late_wrote_nothing(store, listener):
    assert store.put_new("done/a", b"first") and not store.put_new("done/a", b"second")
    assert listener.calls == [("create", 0, 5, False), ("create", 0, 0, False)]


def broken(*_):
    raise OSError(5, "EIO")


def test_what_is_not_there_is_an_answer_and_trouble_is_an_error(store, listener, tmp_path, monkeypatch):
    assert store.read("done/b") is None
    with pytest.raises(FileNotFoundError):
        store.fetch_artefact("ab" * 32, tmp_path / "x")
    assert [failed for *_, failed in listener.calls] == [False, False]
    monkeypatch.setattr(type(store._place.place), "read", broken)
    with pytest.raises(OSError, match="EIO"):
        store.read("done/b")
    assert listener.calls[-1] == ("read", 0, 0, True)


def test_every_call_of_a_place_is_measured_and_nothing_else_changes(tmp_path, store, listener):
    plain = open_store(str(tmp_path))
    hash = store.put_artefact(b"a film")
    store.publish(hash, "films/a.mp4")
    assert plain.read("films/a.mp4") == store.read("films/a.mp4") == b"a film"
    assert store.list_keys("films") == plain.list_keys("films") == ["films/a.mp4"]
    assert store.has_artefact(hash) == 6
    store.remove("films/a.mp4")
    told = {call for call, *_ in listener.calls}
    assert told == {"create", "size", "show", "read", "list", "remove"}


def test_measured_anew_it_tells_the_new_listener_alone(store, listener):
    other = Listener()
    again = store.measured(other)
    again.read("done/a")
    assert other.calls and not listener.calls
