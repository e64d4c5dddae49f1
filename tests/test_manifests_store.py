"""One contract for both kinds of place: one winner, whole content, nothing visible before publication.

S3 is a real server process of moto behind a proxy of ours, which can misbehave as networks and services do.
"""

import hashlib
import multiprocessing as mp
import os
import pickle
import re
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from s3fs import S3FileSystem

from manifests.ledger import Ledger, claim_epoch
from manifests.probe import Lying
from manifests.store import Corrupt, Store, StoreError, Unreadable, open_store
from tests.s3_server import Proxy, ask_moto
from tests.test_manifests_ledger import events_of

WRITERS, ROUNDS, PADDING = 4, 8, b"x" * 200_000
SPAWN = mp.get_context("spawn")  # real separate processes: nothing is shared with the test but the store


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return open_store(f"file://{tmp_path}/root")
    request.getfixturevalue("proxy")
    return open_store("s3://films/root")


@pytest.fixture
def s3(proxy: Proxy) -> Store:
    return open_store("s3://films/root")


def _damage(store: Store, name: str, data: bytes) -> None:
    fs, path = fsspec.core.url_to_fs(f"{store.url}/cas/{name[:2]}/{name}")
    fs.rm_file(path)  # on disk it is read-only
    fs.pipe_file(path, data)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _race(url: str, writer: int, barrier: Barrier, wins: "mp.Queue[tuple[int, int]]") -> None:
    store, body = open_store(url), b"%d" % writer + PADDING
    for turn in range(ROUNDS):
        barrier.wait(60)
        won = store.put_new(f"commit/{turn}", body)
        seen = store.read(f"commit/{turn}")  # a loser must already see the whole body
        assert seen is not None and seen[1:] == PADDING
        if won:
            wins.put((turn, writer))


def test_race_has_exactly_one_winner_and_its_whole_content(store: Store) -> None:
    barrier = SPAWN.Barrier(WRITERS)
    wins: mp.Queue[tuple[int, int]] = SPAWN.Queue()
    crew = [SPAWN.Process(target=_race, args=(store.url, n, barrier, wins)) for n in range(WRITERS)]
    for process in crew:
        process.start()
    winners = sorted(wins.get(timeout=60) for _ in range(ROUNDS))
    for process in crew:
        process.join(60)
    assert [process.exitcode for process in crew] == [0] * WRITERS
    assert wins.empty()
    assert [turn for turn, _ in winners] == list(range(ROUNDS))
    for turn, writer in winners:
        assert store.read(f"commit/{turn}") == b"%d" % writer + PADDING


@pytest.mark.parametrize("size_bytes", [0, 5, 3_000_001, 17 << 20])  # the last goes up in several parts
def test_artefact_comes_back_under_its_hash(store: Store, tmp_path: Path, size_bytes: int) -> None:
    source, copy = tmp_path / "source", tmp_path / "new folder" / "copy"
    source.write_bytes(data := os.urandom(size_bytes))
    assert store.has_artefact(_hash(data)) is None
    assert [store.put_artefact(data), store.put_artefact(source)] == [_hash(data)] * 2
    assert store.has_artefact(_hash(data)) == size_bytes
    store.fetch_artefact(_hash(data), copy)
    assert copy.read_bytes() == store.read_artefact(_hash(data)) == data
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_corrupt_or_absent_artefact_is_noticed_and_leaves_the_target_as_it_was(
    store: Store, tmp_path: Path
) -> None:
    name, target = store.put_artefact(b"frame"), tmp_path / "target" / "film.mp4"
    target.parent.mkdir()
    target.write_bytes(b"older film")
    _damage(store, name, b"frbme")
    for read in (lambda: store.read_artefact(name), lambda: store.fetch_artefact(name, target)):
        with pytest.raises(Corrupt) as caught:
            read()
        assert (caught.value.expected, caught.value.actual) == (name, _hash(b"frbme"))
    for read in (lambda: store.read_artefact(_hash(b"")), lambda: store.fetch_artefact(_hash(b""), target)):
        with pytest.raises(FileNotFoundError):
            read()
    assert target.read_bytes() == b"older film"
    assert list(target.parent.iterdir()) == [target]


def test_second_put_returns_false_and_keeps_the_first_body(store: Store) -> None:
    assert store.put_marker("commit/a.json", {"attempt": 1})
    assert not store.put_marker("commit/a.json", {"attempt": 2})
    assert not store.put_new("commit/a.json", b"other")
    assert store.read_marker("commit/a.json") == {"attempt": 1}
    assert store.read("commit/a.json") == b'{"attempt": 1}'


def test_empty_body_is_refused_because_some_stores_overwrite_with_it(store: Store) -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        store.put_new("commit/a", b"")
    assert store.read("commit/a") is None


def test_listing_and_reading_see_only_keys_that_exist(store: Store, tmp_path: Path) -> None:
    for key in ("commit/b/2", "commit/a/drv=1", "committed/3"):
        assert store.put_new(key, b"x")
    store.put_artefact(b"frame")
    assert store.list_keys("commit") == store.list_keys("commit/") == ["commit/a/drv=1", "commit/b/2"]
    assert store.list_keys("absent") == []
    assert store.read_marker("absent") is None
    assert store.read("committed/3/below") is None
    assert not store.fetch("absent", tmp_path / "copy") and not store.fetch(
        "committed/3/below", tmp_path / "copy"
    )
    assert store.fetch("committed/3", tmp_path / "copy") and (tmp_path / "copy").read_bytes() == b"x"


def test_names_that_are_no_keys_are_left_out_of_a_listing(store: Store) -> None:
    assert store.put_new("checkpoints/a/1", b"x")
    fs, root = fsspec.core.url_to_fs(store.url)
    for stray in (".DS_Store", "a/.nfs0001", "a/a copy of 1", "a/1~"):
        fs.pipe_file(f"{root}/checkpoints/{stray}", b"x")
    assert store.list_keys("checkpoints") == ["checkpoints/a/1"]


@pytest.mark.parametrize("body", [b"", b'{"attempt": 1', b"[]", b"\xff\xfe"])
def test_damaged_marker_is_named_and_says_what_to_do(store: Store, body: bytes) -> None:
    fs, root = fsspec.core.url_to_fs(store.url)
    fs.makedirs(f"{root}/done", exist_ok=True)
    fs.pipe_file(f"{root}/done/a.json", body)
    with pytest.raises(
        Unreadable, match=r"the marker done/a\.json cannot be read.*root\): remove it"
    ) as caught:
        store.read_marker("done/a.json")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_artefact_of_another_size_is_healed_by_putting_it_again(store: Store) -> None:
    name = store.put_artefact(b"frame")
    _damage(store, name, b"frame and more")
    assert store.put_artefact(b"frame") == name
    assert store.read_artefact(name) == b"frame"


def test_removed_key_is_gone_and_can_be_put_again(store: Store) -> None:
    assert store.put_new("checkpoints/a", b"1")
    store.remove("checkpoints/a")
    store.remove("checkpoints/a")
    assert store.read("checkpoints/a") is None
    assert store.put_new("checkpoints/a", b"2")


def test_publishing_replaces_the_older_film_and_never_with_nothing(store: Store) -> None:
    key, old, new = "films/water.hi-IN.mp4", store.put_artefact(b"old"), store.put_artefact(b"new")
    for name, body in ((old, b"old"), (old, b"old"), (new, b"new")):
        store.publish(name, key)
        assert store.read(key) == body
    with pytest.raises(FileNotFoundError):
        store.publish(_hash(b"never put"), key)
    assert store.read(key) == b"new"
    assert store.read_artefact(old) == b"old"
    assert store.list_keys("films") == [key]


def test_reader_sees_one_whole_film_while_it_is_replaced(store: Store) -> None:
    bodies = [bytes([letter]) * 200_000 for letter in b"ab"]
    names = [store.put_artefact(body) for body in bodies]
    store.publish(names[0], "films/a.mp4")
    publisher = Thread(target=lambda: [store.publish(names[n % 2], "films/a.mp4") for n in range(16)])
    publisher.start()
    seen = [store.read("films/a.mp4")]
    while publisher.is_alive():
        seen.append(store.read("films/a.mp4"))
    publisher.join()
    assert all(body in bodies for body in seen)


def test_probe_of_a_usable_place_leaves_nothing_behind(store: Store) -> None:
    assert store.put_new("jobs/a", b"x")
    fs, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    before = fs.find(root)
    store.probe(1)
    assert fs.find(root) == before


def test_store_survives_the_way_to_another_process(store: Store) -> None:
    store.put_new("commit/a", b"x")
    assert pickle.loads(pickle.dumps(store)).read("commit/a") == b"x"


BAD_KEYS = ["", "/etc/x", "../x", "a/../../x", "a/..", ".", "a//b", "a/", "a b", "a\n", "a\\b", "é", "cas/x"]


@pytest.mark.parametrize("key", [*BAD_KEYS, ".staging/x"])
def test_path_traversal_and_odd_keys_are_refused(tmp_path: Path, key: str) -> None:
    store = open_store(str(tmp_path / "root"))
    for use in (
        lambda: store.put_marker(key, {}),
        lambda: store.put_new(key, b"x"),
        lambda: store.read(key),
        lambda: store.remove(key),
        lambda: store.publish(_hash(b""), key),
    ):
        with pytest.raises(ValueError, match="bad key"):
            use()
    for use in (store.read_artefact, store.has_artefact, lambda k: store.publish(k, "films/a")):
        with pytest.raises(ValueError, match="not a BLAKE2b-256"):
            use(key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://x", "http://host/x", "ftp://host/x", "simplecache::s3://b/x"])
def test_unknown_protocol_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not one of file, s3, gs, az, abfs"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "names no place"),
        (" ", "names no place"),
        ("file://", "names no place"),
        ("films\0", "no path has a NUL"),
        ("s3:/bucket/films", "give s3://bucket/films for a URL, or ./s3:/bucket/films for a folder"),
        ("s3:bucket", "give s3://bucket for"),
        ("gs:/bucket", "give gs://bucket for"),
        ("gs:bucket", "give gs://bucket for"),
        ("az:container/x", "give az://container/x for"),
        ("abfs:/container", "give abfs://container for"),
    ],
)
def test_place_that_can_hardly_be_meant_is_refused(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("gs://films/a", "gcsfs", "gcs"),
        ("az://films/a", "adlfs", "azure"),
        ("abfss://films/a", "adlfs", "azure"),
    ],
)
def test_store_whose_package_is_not_here_says_what_to_install(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} is not installed; pip install -e '\.\[{extra}\]'"):
        open_store(url)


@pytest.mark.parametrize("url", ["films", "./s3:/films", "night:2", "a b/films", "file:///films"])
def test_odd_but_honest_folder_is_taken(url: str) -> None:
    assert open_store(url).url == url


def test_published_film_on_s3_plays_in_a_browser(s3: Store) -> None:
    s3.publish(s3.put_artefact(b"film"), "films/a.mp4")
    info = fsspec.filesystem("s3", use_listings_cache=False).info("films/root/films/a.mp4")
    assert (info["ContentType"], info["size"]) == ("video/mp4", 4)


@pytest.mark.parametrize("url", ["s3://", "gs:///", "az://"])
def test_url_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=f"no bucket; give {url[:2]}://bucket/prefix"):
        open_store(url)


def test_lost_reply_of_s3_leaves_our_bytes_which_a_driver_knows_again(s3: Store, proxy: Proxy) -> None:
    proxy.fault = "loses a reply"
    epoch = claim_epoch(s3, "night")
    assert (epoch, proxy.puts) == (1, 2), "the put was not tried again, or its claim was not known again"
    proxy.puts = 0
    with Ledger(s3, "night", epoch) as ledger:
        ledger.record(event="started", task_key="a")
    assert proxy.puts == 2
    assert events_of(s3, "night")["seq"].to_pylist() == [1]


def test_conflict_with_another_writer_is_tried_again(s3: Store, proxy: Proxy) -> None:
    proxy.fault = "conflicts"
    assert s3.put_new("commit/a", b"x")
    assert proxy.puts == 2


def test_probe_tells_a_store_that_ignores_put_if_absent(s3: Store, proxy: Proxy) -> None:
    proxy.fault = "ignores conditions"
    with pytest.raises(Lying, match=r"second put .* not refused \(s3://films/root\): .*If-None-Match"):
        s3.probe()
    assert fsspec.filesystem("s3").find("films") == []


def test_probe_tells_a_store_that_ignores_put_if_absent_only_where_several_put_at_once(
    s3: Store, proxy: Proxy
) -> None:
    proxy.fault = "ignores conditions at once"
    with pytest.raises(Lying, match=r"of 4 puts of one key at once [2-4] were told that they had won"):
        s3.probe()
    assert fsspec.filesystem("s3").find("films") == []


def test_probe_tells_how_far_the_clock_of_a_store_is_off(
    store: Store, request: pytest.FixtureRequest
) -> None:
    assert abs(store.probe()) < 2
    if store.url.startswith("s3:"):
        request.getfixturevalue("proxy").fault = "is slow by a day"
        assert -86_500 < store.probe() < -86_300


def test_probe_tells_an_absent_bucket(proxy: Proxy) -> None:
    with pytest.raises(StoreError, match=r"there is no bucket 'flims' \(s3://flims/root\): create it"):
        open_store("s3://flims/root").probe()


def test_probe_tells_refused_credentials(s3: Store, proxy: Proxy) -> None:
    ask_moto(proxy.upstream, "reset-auth", b"0")
    try:
        with pytest.raises(StoreError, match=r"credentials are refused: .*AWS_ACCESS_KEY_ID"):
            s3.probe()
    finally:
        ask_moto(proxy.upstream, "reset-auth", b"inf")


def test_probe_tells_absent_credentials(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"credentials are refused: Unable to locate credentials"):
        open_store("s3://films/root").probe()


def test_probe_tells_a_service_that_is_down(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of botocore, which would wait between them
    S3FileSystem.clear_instance_cache()
    store = open_store("s3://films/root", patience_s=0.0)
    with pytest.raises(StoreError, match=r"cannot be reached: .*127\.0\.0\.1:9.*check AWS_ENDPOINT_URL"):
        store.probe()
    for use in (lambda: store.read("a"), lambda: store.put_new("a", b"x"), lambda: store.list_keys("a")):
        with pytest.raises(ConnectionError):
            use()
