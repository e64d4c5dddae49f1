"""What the store promises: one winner, whole content, and nothing visible before publication."""

import hashlib
import multiprocessing as mp
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NoReturn

import pytest

from manifests.store import Corrupt, Store, open_store

WRITERS, ROUNDS, PADDING = 8, 20, "x" * 200_000
SPAWN = mp.get_context("spawn")  # real separate processes: nothing is shared with the test but the disk


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "root"))


def _visible(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and ".staging" not in p.parts]


def _race(url: str, writer: int, barrier: Barrier, wins: "mp.Queue[tuple[int, int]]") -> None:
    store = open_store(url)
    for turn in range(ROUNDS):
        barrier.wait(60)
        won = store.put_marker(f"commit/{turn}.json", {"writer": writer, "padding": PADDING})
        seen = store.read_marker(f"commit/{turn}.json")  # a loser must already see the whole body
        assert seen is not None and seen["padding"] == PADDING
        if won:
            wins.put((turn, writer))


def test_race_has_exactly_one_winner_and_its_whole_content(tmp_path: Path) -> None:
    url, barrier = f"file://{tmp_path}/root", SPAWN.Barrier(WRITERS)
    wins: mp.Queue[tuple[int, int]] = SPAWN.Queue()
    crew = [SPAWN.Process(target=_race, args=(url, n, barrier, wins)) for n in range(WRITERS)]
    for process in crew:
        process.start()
    winners = sorted(wins.get(timeout=60) for _ in range(ROUNDS))
    for process in crew:
        process.join(60)
    assert [process.exitcode for process in crew] == [0] * WRITERS
    assert wins.empty()
    assert [turn for turn, _ in winners] == list(range(ROUNDS))
    for turn, writer in winners:
        assert open_store(url).read_marker(f"commit/{turn}.json") == {"writer": writer, "padding": PADDING}
    assert list((tmp_path / "root/.staging").iterdir()) == []


def _die(*_: object) -> NoReturn:
    os._exit(9)


def _crash_before_link(url: str) -> None:
    os.link = _die
    open_store(url).put_artefact(b"half a film")


def test_crash_between_temp_write_and_link_leaves_nothing_visible(tmp_path: Path) -> None:
    process = SPAWN.Process(target=_crash_before_link, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert [p.read_bytes() for p in (tmp_path / ".staging").iterdir()] == [b"half a film"]
    assert _visible(tmp_path) == []
    store = open_store(str(tmp_path))
    assert store.read_artefact(store.put_artefact(b"half a film")) == b"half a film"


@pytest.mark.parametrize("data", [b"", b"frame", os.urandom(3_000_001)])
def test_artefact_is_stored_once_under_its_hash(store: Store, tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    name = hashlib.blake2b(data, digest_size=32).hexdigest()
    assert [store.put_artefact(data), store.put_artefact(source), store.put_file(source)] == [name] * 3
    assert _visible(tmp_path / "root") == [tmp_path / "root/cas" / name[:2] / name]
    assert store.read_artefact(name) == data


def test_corrupted_artefact_is_noticed(store: Store, tmp_path: Path) -> None:
    name = store.put_artefact(b"frame")
    (tmp_path / "root/cas" / name[:2] / name).write_bytes(b"frbme")
    with pytest.raises(Corrupt) as caught:
        store.read_artefact(name)
    assert caught.value.expected == name
    assert caught.value.actual == hashlib.blake2b(b"frbme", digest_size=32).hexdigest()


def test_second_put_returns_false_and_keeps_the_first_body(store: Store) -> None:
    assert store.put_marker("commit/a.json", {"attempt": 1})
    assert not store.put_marker("commit/a.json", {"attempt": 2})
    assert store.read_marker("commit/a.json") == {"attempt": 1}


def test_lost_link_reply_is_still_our_win(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_then_refuse(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", link_then_refuse)
    assert store.put_marker("commit/a.json", {})


def test_list_and_read_see_only_markers_that_exist(store: Store) -> None:
    for key in ("commit/b/2", "commit/a/1", "committed/3"):
        assert store.put_marker(key, {})
    store.put_artefact(b"frame")
    assert store.list_markers("commit") == store.list_markers("commit/") == ["commit/a/1", "commit/b/2"]
    assert store.list_markers("absent") == []
    assert store.read_marker("absent") is None


def test_key_that_is_a_folder_is_an_error_and_not_a_lost_race(store: Store) -> None:
    assert store.put_marker("commit/a", {})
    with pytest.raises(IsADirectoryError):
        store.put_marker("commit", {})
    with pytest.raises(OSError):
        store.put_marker("commit/a/b", {})


BAD_KEYS = ["", "/etc/x", "../x", "a/../../x", "a/..", ".", "a//b", "a/", "a b", "a\n", "a\\b", "é", "cas/x"]


@pytest.mark.parametrize("key", [*BAD_KEYS, ".staging/x"])
def test_path_traversal_and_odd_keys_are_refused(store: Store, tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="bad marker key"):
        store.put_marker(key, {})
    with pytest.raises(ValueError, match="bad marker key"):
        store.read_marker(key)
    with pytest.raises(ValueError, match="not a BLAKE2b-256"):
        store.read_artefact(key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://x", "http://host/x", "gs://bucket", "simplecache::s3://b/x"])
def test_unknown_protocol_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not one of file, s3"):
        open_store(url)
