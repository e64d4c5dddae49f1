"""A folder elsewhere becomes one whole copy on a node: one process fetches it, and none sees half."""

import hashlib
import json
import multiprocessing as mp
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import fsspec
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from manifests.listing import File, key_of, refuse_outside, with_sums
from manifests.mirror import Changed, mirror, refuse_lack
from manifests.origins import InStore, OnHub, origin_of
from manifests.outline import cache_folder, outline, read_through
from manifests.places import StoreError
from tests.s3_server import Proxy, ask_moto

SPAWN = mp.get_context("spawn")
WEIGHTS = "transformer/model.safetensors"
HEADER = json.dumps({"w": {"dtype": "U8", "shape": [3 << 20], "data_offsets": [0, 3 << 20]}}).encode()
FILES = {
    "model_index.json": b'{"_class_name": "Any"}',
    "vae/config.json": b"{}",
    WEIGHTS: len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(256)) * (3 << 12),
}


def everything(names: Iterable[str]) -> list[str]:
    return sorted(names)


def sound(folder: Path, sums: dict[str, tuple[int, str]]) -> None:
    """Whatever came is what was wanted."""


def put(url: str, files: dict[str, bytes]) -> str:
    fs, root = fsspec.url_to_fs(url)
    for name, data in files.items():
        fs.pipe_file(f"{root}/{name}", data)
    return url


def held(place: Path) -> dict[str, bytes]:
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def copy(url: str, place: Path) -> None:
    mirror(InStore(url), place, "", everything, sound)


def copy_elsewhere(url: str, place: Path) -> mp.Process:
    process = SPAWN.Process(target=copy, args=(url, place), daemon=True)
    process.start()
    return process


@pytest.fixture
def s3(proxy: Proxy) -> str:
    url = put("s3://films/tiny", FILES)
    proxy.got.clear()
    return url


def got(proxy: Proxy, name: str) -> int:
    """How many times a file was got in full."""
    return sum(path.partition("?")[0].endswith(name) and n == len(FILES[name]) for path, n in proxy.got)


def test_a_copy_has_the_bytes_of_its_origin(tmp_path: Path) -> None:
    url = put("memory://tiny", FILES)
    copy(url, tmp_path / "models" / "a")
    assert held(tmp_path / "models" / "a") == FILES
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == ["a"]


def test_a_file_url_is_mirrored_too_with_its_spaces(tmp_path: Path) -> None:
    far = tmp_path / "far away"
    for name, data in FILES.items():
        (far / name).parent.mkdir(parents=True, exist_ok=True)
        (far / name).write_bytes(data)
    copy(far.as_uri(), tmp_path / "a")
    assert "%20" in far.as_uri() and held(tmp_path / "a") == FILES


def test_of_two_processes_on_one_node_one_fetches_and_both_find_the_copy(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    both = [copy_elsewhere(s3, tmp_path / "a") for _ in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert held(tmp_path / "a") == FILES
    assert {name: got(proxy, name) for name in FILES} == dict.fromkeys(FILES, 1)


def test_what_a_kill_leaves_is_gone_on_with_by_the_next_and_nobody_sees_it(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    place, staged = tmp_path / "a", tmp_path / "a.part"
    proxy.fault = "stalls"
    process = copy_elsewhere(s3, place)
    assert proxy.stalled.wait(120)
    process.kill()
    process.join()
    assert not place.exists() and not (staged / WEIGHTS).exists()
    assert held(staged)["model_index.json"] == FILES["model_index.json"]
    proxy.fault = ""
    proxy.got.clear()
    copy(s3, place)
    assert held(place) == FILES and not staged.exists()
    assert [got(proxy, name) for name in ("model_index.json", WEIGHTS)] == [0, 1]


def test_bytes_of_another_hash_than_is_told_are_named_and_fetched_again(tmp_path: Path) -> None:
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  ./{name}\n" for name, data in FILES.items())
    whole = FILES | {"SHA256SUMS": sums.encode()}
    bad = put("memory://bad", whole | {WEIGHTS: b"\1" + FILES[WEIGHTS][1:]})
    with pytest.raises(StoreError, match=rf"{WEIGHTS} arrived with SHA-256 .* instead of .*memory://bad"):
        copy(bad, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    put(bad, FILES)
    copy(bad, tmp_path / "a")
    assert held(tmp_path / "a") == whole


def test_a_copy_that_is_not_what_was_wanted_is_taken_away(tmp_path: Path) -> None:
    def refuse(folder: Path, sums: dict[str, tuple[int, str]]) -> None:
        assert sums == {n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in FILES.items()}
        raise ValueError("of another model")

    url = put("memory://tiny", FILES)
    with pytest.raises(ValueError, match="of another model"):
        mirror(InStore(url), tmp_path / "a", "", everything, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_files_that_changed_since_they_were_planned_with_are_refused_before_they_are_fetched(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    planned = outline(InStore(s3), tmp_path / "cache", everything)
    put(s3, {"vae/config.json": b"[]"})
    proxy.got.clear()
    with pytest.raises(Changed, match="s3://films/tiny are not those that the job was planned with"):
        mirror(InStore(s3), tmp_path / "a", planned.key, everything, sound)
    assert got(proxy, WEIGHTS) == 0 and held(tmp_path / "a.part") == {}


def test_a_disk_too_small_is_told_with_both_sizes_and_the_setting(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "w.safetensors").touch()
    more = shutil.disk_usage(tmp_path).free + (1 << 30)
    os.truncate(far / "w.safetensors", more)  # a hole: it takes no room
    said = rf"{more / 2**30:.2f} GiB more are needed .* GiB are free \({tmp_path}\): .* cluster.cache=FOLDER"
    with pytest.raises(StoreError, match=said):
        copy(far.as_uri(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_room_is_enough_exactly_where_it_is_not_less_than_is_needed(need: int, free: int) -> None:
    try:
        refuse_lack("s3://m", need, free, Path("/cache/a.part"))
        assert need <= free
    except StoreError:
        assert need > free


def test_leftovers_of_other_copies_go_when_they_are_old_and_nobody_makes_them(tmp_path: Path) -> None:
    for name, age_s in (("old", 200_000), ("new", 60), ("busy", 200_000)):
        left = tmp_path / f"{name}.part" / "half.safetensors"
        left.parent.mkdir()
        left.touch()
        then = time.time() - age_s
        os.utime(left, (then, then))
        os.utime(left.parent, (then, then))
    with FileLock(tmp_path / "busy.lock"):
        copy(put("memory://tiny", FILES), tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a", "busy.part", "new.part"]


def test_a_name_that_leads_out_of_the_folder_is_refused_before_anything_is_written(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    put(s3, {"../../evil.json": b"{}"})
    for fetch in (lambda: copy(s3, tmp_path / "b" / "a"), lambda: outline(InStore(s3), tmp_path, everything)):
        with pytest.raises(ValueError, match=re.escape("holds '../../evil.json', which leads out")):
            fetch()
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "..", "a\\..\\b", "a\0b", "a\nb"])
def test_what_leads_out_of_a_folder_is_told_by_name(name: str) -> None:
    refuse_outside("s3://m", ["a.json", "a/b..c.json", ".hidden"])
    with pytest.raises(ValueError, match="leads out of the folder"):
        refuse_outside("s3://m", ["a.json", name])


# Outlines.


def test_an_outline_has_small_files_whole_and_of_weights_the_length_and_the_header(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    found = outline(InStore(s3), tmp_path, everything)
    small = {name: data for name, data in held(found.folder).items() if name != WEIGHTS}
    assert small == {name: data for name, data in FILES.items() if name != WEIGHTS}
    path, start = found.folder / WEIGHTS, 8 + len(HEADER)
    assert path.stat().st_size == len(FILES[WEIGHTS])
    assert path.read_bytes()[:start] == FILES[WEIGHTS][:start] and not any(path.read_bytes()[start:])
    assert path.stat().st_blocks * 512 < 1 << 20
    assert sum(n for _, n in proxy.got) < 10_000
    assert list(found.unread) == [WEIGHTS]


def test_an_adapter_at_the_top_of_a_folder_is_whole_in_its_outline(tmp_path: Path) -> None:
    url = put("memory://taught", FILES | {"last_frame.safetensors": FILES[WEIGHTS]})
    found = outline(InStore(url), tmp_path, everything)
    assert (found.folder / "last_frame.safetensors").read_bytes() == FILES[WEIGHTS]
    assert list(found.unread) == [WEIGHTS]


def test_an_outline_is_made_once_until_its_origin_changes(s3: str, proxy: Proxy, tmp_path: Path) -> None:
    first = outline(InStore(s3), tmp_path, everything)
    proxy.got.clear()
    assert outline(InStore(s3), tmp_path, everything) == first
    assert all("list-type" in path for path, _ in proxy.got)
    put(s3, {"vae/config.json": b"[]"})
    assert outline(InStore(s3), tmp_path, everything).key != first.key


def test_hashes_that_nobody_tells_are_read_once(s3: str, proxy: Proxy, tmp_path: Path) -> None:
    found = read_through(outline(InStore(s3), tmp_path, everything))
    assert {n: f.sha256 for n, f in found.files.items()} == {
        n: hashlib.sha256(data).hexdigest() for n, data in FILES.items()
    }
    proxy.got.clear()
    assert outline(InStore(s3), tmp_path, everything) == found and not found.unread
    assert all("list-type" in path for path, _ in proxy.got)


def test_hashes_in_a_sums_file_are_believed_without_reading(tmp_path: Path) -> None:
    sums = f"{'ab' * 32}  ./{WEIGHTS}\n{'cd' * 32} *vae/config.json\n"
    url = put("memory://told", FILES | {"SHA256SUMS": sums.encode()})
    found = outline(InStore(url), tmp_path, everything)
    assert found.files[WEIGHTS].sha256 == "ab" * 32 and not found.unread
    assert found.files["vae/config.json"].sha256 == hashlib.sha256(b"{}").hexdigest(), "it is here"
    with pytest.raises(ValueError, match="SHA256SUMS, line 2: 'x' is not what `sha256sum` prints"):
        with_sums("s3://m", {}, f"{'ab' * 32}  a\nx\n")


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 8, b"\xff" * 9, b"\1"])
def test_files_that_are_no_weights_have_outlines_of_their_length(tmp_path: Path, data: bytes) -> None:
    url = put(f"memory://odd/{data.hex()}", {WEIGHTS: data})
    found = outline(InStore(url), tmp_path, everything)
    assert (found.folder / WEIGHTS).read_bytes()[:8] == data[:8]
    assert (found.folder / WEIGHTS).stat().st_size == len(data)


NAMES = st.sampled_from(["model_index.json", "vae/config.json", "vae/a.safetensors"])
CHANGES = st.sampled_from([{"size": 2}, {"sha256": "b"}, {"tag": "b"}])


@given(st.dictionaries(NAMES, st.builds(File, st.integers(0, 9)), min_size=1), CHANGES)
def test_the_key_of_a_listing_changes_with_any_of_it_and_not_with_its_order(
    files: dict[str, File], change: dict[str, object]
) -> None:
    key = key_of("s3://m", files)
    assert key == key_of("s3://m", dict(reversed(files.items()))) != key_of("s3://n", files)
    name = next(iter(files))
    changed = File(**(vars(files[name]) | change))  # type: ignore[arg-type]
    assert (key_of("s3://m", files | {name: changed}) == key) == (changed == files[name])


# Where a folder lies, and trouble on the way there.


def test_a_folder_is_told_by_how_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "wan").mkdir(parents=True)
    assert origin_of("s3://films/wan") == InStore("s3://films/wan")
    assert origin_of("models/wan") == Path("models/wan")
    assert origin_of("/nowhere/wan") == Path("/nowhere/wan") and origin_of("./a/b") == Path("a/b")
    assert origin_of("hf://models/wan") == origin_of("models/wan@main").__class__("models/wan", "main")
    assert origin_of("Wan-AI/Wan2.1") == OnHub("Wan-AI/Wan2.1", "main")
    assert origin_of("Wan-AI/Wan2.1@refs/pr/3") == OnHub("Wan-AI/Wan2.1", "refs/pr/3")


def test_copies_lie_where_the_setting_or_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/night")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert [str(cache_folder(name)) for name in ("auto", "~/here")] == ["/fast/longtake", "/home/night/here"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache_folder("auto")) == "/home/night/.cache/longtake"


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("s3://films/absent", FileNotFoundError, "there is nothing at s3://films/absent"),
        ("s3://flims/tiny", FileNotFoundError, "there is nothing at s3://flims/tiny"),
        ("nowhere://films", ValueError, "nowhere://films cannot be read here: Protocol not known"),
        ("s3://key:secret@films/tiny", ValueError, "a URL with credentials in it is refused"),
    ],
)
def test_a_place_without_a_folder_is_told(
    proxy: Proxy, tmp_path: Path, url: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as told:
        copy(url, tmp_path / "a")
    assert "secret" not in str(told.value)


def test_a_store_that_refuses_us_or_is_not_there_is_told_with_what_to_do(
    s3: str, proxy: Proxy, tmp_path: Path
) -> None:
    ask_moto(proxy.upstream, "reset-auth", b"0")
    try:
        with pytest.raises(StoreError, match=r"access is refused: .*s3://films/tiny\): check its"):
            copy(s3, tmp_path / "a")
    finally:
        ask_moto(proxy.upstream, "reset-auth", b"inf")
