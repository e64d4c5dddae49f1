"""Claims about doing a task once: one marker, one outcome, and never a marker without its bytes."""

import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.crew import judge
from cluster.identity import Model
from cluster.once import claim, done_once, found, found_file, marker_key
from cluster.outcomes import Outcome
from cluster.shots import PromptTask
from manifests.store import Store, StoreError, open_store

TASK = PromptTask(Model("/models/tiny", "float32", "digest"), "rain", 32)
MARKER = marker_key("prompt", TASK.key)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def maker(text, calls=None):
    """Makes one file of this text."""

    def make(folder):
        if calls is not None:
            calls.append(text)
        path = folder / "embedding.safetensors"
        path.write_text(text)
        return {"embedding": path}, {"text": text}

    return make


def test_what_was_done_before_is_not_made_again(store):
    calls = []
    first = done_once(store, TASK, maker("a", calls))
    again = done_once(store, TASK, maker("b", calls))
    assert calls == ["a"]
    assert (first.reused, again.reused) == (False, True)
    assert (again.files, again.facts, again.seconds) == (first.files, first.facts, first.seconds)
    assert store.read_artefact(found_file(store, "prompt", TASK.key, "embedding")) == b"a"


@settings(max_examples=20, deadline=None)
@given(n_workers=st.integers(2, 5), slowest=st.integers(0, 4))
def test_of_racing_workers_one_puts_the_marker_and_all_get_its_outcome(tmp_path_factory, n_workers, slowest):
    store = open_store(str(tmp_path_factory.mktemp("race")))
    together = threading.Barrier(n_workers)
    outcomes = {}

    def work(name):
        def make(folder):
            together.wait(10)  # everyone has seen that there is no marker
            files = maker(name)(folder)
            if int(name) == slowest:
                threading.Event().wait(0.005)
            return files

        outcomes[name] = done_once(store, TASK, make)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(n_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [name for name, outcome in outcomes.items() if not outcome.reused]
    assert len(outcomes) == n_workers
    for outcome in outcomes.values():
        assert outcome.facts == {"text": winner}
        assert store.read_artefact(outcome.files["embedding"]) == winner.encode()


def test_a_worker_whose_making_raises_leaves_no_marker_and_the_next_one_makes_it(store):
    def broken(folder):
        maker("half")(folder)
        raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        done_once(store, TASK, broken)
    assert found(store, "prompt", TASK.key) is None
    assert not done_once(store, TASK, maker("whole")).reused


def test_the_marker_is_put_after_all_its_bytes_are_stored(store, monkeypatch):
    seen = []
    put = Store.put_marker

    def watched(self, key, body):
        seen.append([self.has_artefact(hash) for hash in body["files"].values()])
        return put(self, key, body)

    monkeypatch.setattr(Store, "put_marker", watched)
    done_once(store, TASK, maker("rain"))
    assert seen == [[4]]


def test_a_marker_whose_artefact_is_gone_says_which_and_what_to_do(store):
    outcome = done_once(store, TASK, maker("a"))
    hash = outcome.files["embedding"]
    store._place.remove(f"cas/{hash[:2]}/{hash}")
    for ask in (
        lambda: found(store, "prompt", TASK.key),
        lambda: found_file(store, "prompt", TASK.key, "embedding"),
        lambda: done_once(store, TASK, maker("b")),
    ):
        with pytest.raises(FileNotFoundError) as gone:
            ask()
        assert str(gone.value) == (
            f"the embedding of a finished prompt is gone from {store.url}: artefact {hash}; "
            f"restore it, or remove {MARKER} to have it made again"
        )
    store.remove(MARKER)
    assert not done_once(store, TASK, maker("b")).reused


def test_a_marker_whose_artefact_has_changed_says_so_and_removing_it_mends_it(store):
    outcome = done_once(store, TASK, maker("a"))
    hash = outcome.files["embedding"]
    path = Path(store.url, "cas", hash[:2], hash)
    path.chmod(0o644)
    path.write_text("a and more")
    with pytest.raises(
        FileNotFoundError, match=f"has 10 bytes instead of 1 in .*{hash}; restore it, or remove"
    ):
        found(store, "prompt", TASK.key)
    store.remove(MARKER)
    assert not done_once(store, TASK, maker("a")).reused
    assert store.read_artefact(hash) == b"a"
    assert done_once(store, TASK, maker("b")).reused


@pytest.mark.parametrize("body", [b"", b"{}", b'{"files": 1}'])
def test_a_damaged_marker_is_named_and_comes_again_however_often_it_is_tried(store, body):
    path = Path(store.url, MARKER)
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    with pytest.raises(StoreError, match=f"the marker {MARKER} cannot be read") as caught:
        done_once(store, TASK, maker("a"))
    failure = judge(caught.value)
    assert (failure.code, failure.error_class) == ("E801_STORE", "DATA")
    path.unlink()
    assert not done_once(store, TASK, maker("a")).reused


def test_a_needed_task_without_a_marker_is_named(store):
    with pytest.raises(FileNotFoundError, match=f"the shot {TASK.key} has no marker in {store.url}"):
        found_file(store, "shot", TASK.key, "latents")


def test_a_claim_whose_reply_was_lost_knows_its_own_marker(store, monkeypatch):
    outcome = Outcome(TASK.key, "prompt", {"embedding": store.put_artefact(b"a")}, {"text": "a"})
    put = Store.put_marker

    def reply_lost(self, key, body):
        assert put(self, key, body)
        return put(self, key, body)  # the client tried again

    monkeypatch.setattr(Store, "put_marker", reply_lost)
    assert claim(store, TASK, outcome) == outcome
    found_again = found(store, "prompt", TASK.key)
    assert found_again is not None
    assert asdict(found_again) == asdict(outcome) | {"reused": True}
