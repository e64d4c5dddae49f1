"""What the store promises on local disk: crashes leave nothing visible, and a bad folder is told early."""

import errno
import multiprocessing as mp
import os
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from manifests.store import Store, StoreError, open_store

SPAWN = mp.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "root"))


def _visible(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and ".staging" not in p.parts]


def _die(*_: object) -> NoReturn:
    os._exit(9)


def _crash(url: str, call: str) -> None:
    setattr(os, call, _die)
    store = open_store(url)
    store.publish(store.put_artefact(b"half a film"), "films/a.mp4")


@pytest.mark.parametrize("call", ["link", "replace"])
def test_writer_killed_before_a_name_exists_leaves_nothing_but_staging(tmp_path: Path, call: str) -> None:
    process = SPAWN.Process(target=_crash, args=(str(tmp_path), call))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert [p.read_bytes() for p in (tmp_path / ".staging").iterdir()] == [b"half a film"]
    assert [p for p in _visible(tmp_path) if "cas" not in p.parts] == []
    store = open_store(str(tmp_path))
    store.publish(store.put_artefact(b"half a film"), "films/a.mp4")
    assert store.read("films/a.mp4") == b"half a film"


def test_a_file_url_of_a_store_is_percent_encoded(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/a%20night").put_new("a", b"film")
    assert (tmp_path / "a night" / "a").read_bytes() == b"film"


def test_janitor_sweeps_old_leftovers_and_no_file_in_the_making(store: Store, tmp_path: Path) -> None:
    assert store.sweep_staging(0) == 0
    name = store.put_artefact(b"film")
    staging = tmp_path / "root/.staging"
    for file, age_s in (("old.tmp", 7200), ("new.tmp", 60)):
        (staging / file).write_bytes(b"half")
        os.utime(staging / file, (time.time() - age_s,) * 2)
    assert store.sweep_staging(3600) == 1
    assert [path.name for path in staging.iterdir()] == ["new.tmp"]
    assert store.read_artefact(name) == b"film"


def test_lost_link_reply_is_still_our_win(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_then_refuse(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", link_then_refuse)
    assert store.put_marker("commit/a.json", {})


def test_artefact_is_stored_once_and_staging_is_empty_after(store: Store, tmp_path: Path) -> None:
    name = store.put_artefact(b"frame")
    store.publish(name, "films/a.mp4")
    store.publish(store.put_artefact(b"frame"), "films/a.mp4")
    root = tmp_path / "root"
    assert sorted(_visible(root)) == [root / "cas" / name[:2] / name, root / "films/a.mp4"]
    assert list((root / ".staging").iterdir()) == []


def test_artefacts_and_published_films_are_read_only_and_what_is_fetched_is_not(
    store: Store, tmp_path: Path
) -> None:
    name = store.put_artefact(b"frame")
    store.publish(name, "films/a.mp4")
    store.fetch_artefact(name, tmp_path / "copy")
    for path in (tmp_path / "root/cas" / name[:2] / name, tmp_path / "root/films/a.mp4"):
        assert path.stat().st_mode & 0o222 == 0 and path.stat().st_mode & 0o400
    assert (tmp_path / "copy").stat().st_mode & 0o200


def test_film_that_an_editor_replaced_is_published_anew_and_the_artefact_is_as_it_was(
    store: Store, tmp_path: Path
) -> None:
    name, film = store.put_artefact(b"frame"), tmp_path / "root/films/a.mp4"
    store.publish(name, "films/a.mp4")
    film.unlink()  # as editors do that write a new file and rename it
    film.write_bytes(b"other")
    store.publish(name, "films/a.mp4")
    assert film.read_bytes() == store.read_artefact(name) == b"frame"


def test_key_that_is_a_folder_is_an_error_and_not_a_lost_race(store: Store) -> None:
    name = store.put_artefact(b"frame")
    assert store.put_marker("commit/a", {})
    for use in (lambda: store.put_marker("commit", {}), lambda: store.publish(name, "commit")):
        with pytest.raises(IsADirectoryError):
            use()
    with pytest.raises(OSError):
        store.put_marker("commit/a/b", {})
    with pytest.raises(OSError):
        store.publish(name, "commit/a/b")


def test_memory_does_not_grow_with_the_artefact(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as out:
        out.truncate(48 << 20)
    tracemalloc.start()
    store.fetch_artefact(store.put_file(source), tmp_path / "copy")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


def test_probe_of_a_folder_that_does_not_exist_yet_makes_none(tmp_path: Path) -> None:
    open_store(f"{tmp_path}/a/b/c").probe(1)
    assert list(tmp_path.iterdir()) == []


def test_probe_tells_that_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for place in (tmp_path / "notes.txt", tmp_path / "notes.txt/films"):
        with pytest.raises(StoreError, match=rf"notes\.txt is not a folder \({place}\): name a folder"):
            open_store(str(place)).probe()


def test_probe_tells_free_and_needed_space(store: Store) -> None:
    with pytest.raises(StoreError, match=r"\d+\.\d\d [GM]iB free, 1073741824\.00 GiB needed .*make room"):
        store.probe(1 << 60)


def test_probe_tells_a_filesystem_that_takes_no_folders(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write here: .* \(/proc/films\): name a folder that user"):
        open_store("/proc/films").probe()


def test_probe_tells_a_filesystem_without_hard_links(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match=r"Operation not permitted .*a filesystem with hard links"):
        store.probe()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def _probe_as_nobody(url: str, told: "mp.Queue[str]") -> None:
    store = open_store(url)  # loads what it needs, which another user may not be able to read
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        store.probe()
        told.put("usable")
    except StoreError as error:
        told.put(str(error))


@pytest.mark.parametrize(
    ("closed", "what"),
    [("root", "cannot write here: Permission denied"), ("root/cas", "root/cas is not writable")],
)
def test_probe_tells_a_folder_of_another_user(open_folder: Path, closed: str, what: str) -> None:
    root = open_folder / "root"
    (root / "cas").mkdir(parents=True)
    for folder in (root, root / "cas"):
        folder.chmod(0o555 if folder == open_folder / closed else 0o777)
    told: mp.Queue[str] = SPAWN.Queue()
    process = SPAWN.Process(target=_probe_as_nobody, args=(str(root), told))
    process.start()
    message = told.get(timeout=60)
    process.join(60)
    assert what in message and f"({root}): name a folder that user" in message
    assert [p.name for p in root.iterdir()] == ["cas"]
