"""A model in a store or on a hub is planned from its small files, and renders what it renders from here."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cluster.copies import outlined, whole
from cluster.crew import judge
from cluster.identity import Model
from engine.families.files import folder_digest
from jobs.cli import main
from jobs.folders import find_folder
from jobs.refusal import SpecError
from jobs.soundness import check_models
from jobs.spec import load_spec
from jobs.stock import Stock, stock
from manifests.mirror import Changed
from manifests.places import StoreError
from tests.hub_server import COMMIT, REPO, Hub, hub_of
from tests.s3_server import Proxy, ask_moto

URL = "s3://films/tiny"
VAE = "vae/diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This node's copies, none yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "longtake"


@pytest.fixture
def far(proxy: Proxy, tiny_folder: Path, cache: Path) -> str:
    """The tiny model in a bucket."""
    for path in (path for path in tiny_folder.rglob("*") if path.is_file()):
        fsspec.filesystem("s3").put_file(str(path), f"films/tiny/{path.relative_to(tiny_folder)}")
    proxy.got.clear()
    return URL


def stocked(*settings: str) -> Stock:
    return stock(load_spec(None, [f"profiles.chalk.model.folder={URL}", *settings]))["chalk"]


def weights_got(proxy: Proxy, folder: Path) -> int:
    """How many bytes of weights were got, beyond their headers."""
    asked = [(path.partition("?")[0], n) for path, n in proxy.got if ".safetensors" in path.partition("?")[0]]
    return sum(n for path, n in asked if n == (folder / path.removeprefix("/films/tiny/")).stat().st_size)


def sums_of(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n" for path in files
    ).encode()


def test_a_model_in_a_store_is_the_model_on_this_disk(far: str, tiny_folder: Path) -> None:
    here = stock(load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}"]))["chalk"]
    there = stocked()
    assert (there.facts, there.card, there.idiom) == (here.facts, here.card, here.idiom)
    assert there.model.identity == here.model.identity == [folder_digest(tiny_folder), "float32"]
    assert there.model.folder == there.profile.model.folder == URL
    check_models({"chalk": there}, "auto")


def test_weights_are_read_for_their_hashes_once_where_nobody_tells_them(
    far: str, proxy: Proxy, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stocked()
    large = sum(path.stat().st_size for path in tiny_folder.rglob("*.safetensors"))
    assert weights_got(proxy, tiny_folder) == large
    assert "of weights at s3://films/tiny once" in capsys.readouterr().err
    proxy.got.clear()
    stocked()
    assert weights_got(proxy, tiny_folder) == 0 and not capsys.readouterr().err


def test_a_sums_file_saves_reading_the_weights(far: str, proxy: Proxy, tiny_folder: Path) -> None:
    fsspec.filesystem("s3").pipe_file("films/tiny/SHA256SUMS", sums_of(tiny_folder))
    assert stocked().model.digest == folder_digest(tiny_folder)
    assert weights_got(proxy, tiny_folder) == 0


def test_what_needs_no_key_reads_no_weights_and_yet_tells_models_apart(
    far: str, proxy: Proxy, tiny_folder: Path
) -> None:
    first = find_folder(URL, digest=True, exact=False)
    assert first.digest not in ("", folder_digest(tiny_folder))
    fsspec.filesystem("s3").pipe_file(f"films/tiny/{VAE}", (tiny_folder / VAE).read_bytes()[::-1])
    assert find_folder(URL, digest=True, exact=False).digest != first.digest
    assert weights_got(proxy, tiny_folder) == 0


def test_a_file_that_is_cut_short_at_its_origin_is_named_as_it_is_there(far: str, tiny_folder: Path) -> None:
    data = (tiny_folder / VAE).read_bytes()
    fsspec.filesystem("s3").pipe_file(f"films/tiny/{VAE}", data[:-100])
    said = rf"^profiles\.chalk\.model\.folder={URL}: {URL}/{VAE} is cut short: {len(data) - 100:,} bytes of"
    with pytest.raises(SpecError, match=said):
        check_models({"chalk": stocked()}, "auto")


def test_a_model_of_pickles_alone_is_refused_before_anything_is_fetched(far: str, proxy: Proxy) -> None:
    fs = fsspec.filesystem("s3")
    fs.mv(f"films/tiny/{VAE}", "films/tiny/vae/diffusion_pytorch_model.bin")
    proxy.got.clear()
    with pytest.raises(SpecError, match=r"pickled weights are refused, .* vae/diffusion_pytorch_model\.bin"):
        stocked()
    assert all("list-type" in path for path, _ in proxy.got)


def test_films_of_a_mirrored_model_have_the_bits_of_one_on_this_disk(
    far: str,
    proxy: Proxy,
    cache: Path,
    tiny_folder: Path,
    one_process: Any,
    make_film: Callable[..., Any],
    bits: Callable[[Any], dict[str, str]],
) -> None:
    found = stocked().model
    there = make_film("there", digest=found.digest, folder=URL, listing=found.listing)
    done = one_process.render([there, make_film("here", digest="another", folder=tiny_folder)])
    assert bits(done["there"]) == bits(done["here"]) and len(bits(done["there"])) == 4
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == [found.digest]


def test_who_computes_nothing_fetches_no_weights(
    far: str, proxy: Proxy, tiny_folder: Path, cache: Path
) -> None:
    model = stocked().model
    shutil.rmtree(cache)
    proxy.got.clear()
    assert (outlined(model) / "model_index.json").is_file()
    assert weights_got(proxy, tiny_folder) == 0
    copy = whole(model)
    assert folder_digest(copy) == model.digest and outlined(model) == copy


def test_a_model_that_is_replaced_after_planning_fails_for_good(
    far: str, tiny_folder: Path, cache: Path
) -> None:
    model = stocked().model
    fsspec.filesystem("s3").pipe_file(f"films/tiny/{VAE}", (tiny_folder / VAE).read_bytes()[::-1])
    shutil.rmtree(cache)
    for fetch in (whole, outlined):
        with pytest.raises(Changed) as told:
            fetch(model)
        failure = judge(told.value)
        assert (failure.code, failure.error_class) == (
            "E623_MODEL_CHANGED",
            "DATA",
        ) and URL in failure.message
    with pytest.raises(Changed):  # where its listing cannot tell, its bytes do
        whole(Model(URL, "float32", model.digest))
    assert not list((cache / "models").glob("*.part"))


def test_a_store_that_cannot_be_reached_while_a_model_is_mirrored_is_tried_again(
    far: str, proxy: Proxy, cache: Path
) -> None:
    model = stocked().model
    ask_moto(proxy.upstream, "reset-auth", b"0")
    try:
        with pytest.raises(StoreError) as told:
            whole(model)
    finally:
        ask_moto(proxy.upstream, "reset-auth", b"inf")
    assert (judge(told.value).code, judge(told.value).error_class) == ("E801_STORE", "TRANSIENT")


def test_longtake_models_tells_of_a_folder_in_a_store_what_it_tells_of_one_here(
    far: str, proxy: Proxy, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for folder in (URL, str(tiny_folder)):
        assert main(["models", folder, "-o", "json"]) == 0
        told += json.loads(capsys.readouterr().out)
    assert [entry.pop("name") for entry in told] == [URL, tiny_folder.name] and told[0] == told[1]
    assert weights_got(proxy, tiny_folder) == 0


def test_longtake_models_exits_by_what_is_wrong_with_the_place(
    far: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "s3://films/absent"]) == 2
    assert "there is nothing at s3://films/absent" in capsys.readouterr().err
    ask_moto(proxy.upstream, "reset-auth", b"0")
    try:
        assert main(["models", URL]) == 9
    finally:
        ask_moto(proxy.upstream, "reset-auth", b"inf")
    assert "access is refused" in capsys.readouterr().err


def test_a_cache_on_every_node_has_a_path_of_every_node() -> None:
    assert load_spec(None, ["cluster.cache=~/fast"]).cluster.cache == "~/fast"
    with pytest.raises(SpecError, match=r"cluster\.cache='fast' must begin with / or ~"):
        load_spec(None, ["cluster.cache=fast"])


def test_that_a_folder_fits_is_remembered_until_it_or_its_judge_changes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looked = Path(shutil.copytree(tiny_folder, tmp_path / "model")), list[Path]()
    monkeypatch.setattr("engine.families.fitting.check_fit", looked.append)

    def check(cached: Path) -> int:
        spec = load_spec(None, [f"profiles.chalk.model.folder={folder}", f"cluster.cache={cached}"])
        check_models(stock(spec), str(cached))
        return len(looked)

    assert [check(tmp_path / "cache") for _ in range(2)] == [1, 1]
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    assert [check(tmp_path / "cache") for _ in range(2)] == [2, 2]
    monkeypatch.setattr("jobs.soundness._judge", lambda: "another")
    assert check(tmp_path / "cache") == 3
    (tmp_path / "full").write_text("no folder can be made here")
    assert [check(tmp_path / "full") for _ in range(2)] == [4, 5]


def test_what_does_not_fit_is_not_remembered_as_fitting(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps(config | {"latent_channels": 3}))
    for _ in range(2):
        with pytest.raises(SpecError, match="its configuration says"):
            check_models(stock(load_spec(None, [f"profiles.chalk.model.folder={folder}"])), str(tmp_path))


# On a hub.

MIRROR = """
import json, sys
from cluster.copies import whole
from engine.families.files import folder_digest
from jobs.spec import load_spec
from jobs.soundness import check_models
from jobs.stock import stock
found = stock(load_spec(None, ["profiles.chalk.model.folder=" + sys.argv[1]]))
check_models(found, "auto")
assert "torch" not in sys.modules, "a process of its own should have looked"
one = found["chalk"]
print(json.dumps([one.profile.model.folder, one.model.digest, folder_digest(whole(one.model))]))
"""


@pytest.fixture
def hub_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with what else lies in such repositories."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "repository"))
    (folder / "README.md").write_text("# A model")
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    (folder / "transformer" / "code.py").write_text("raise SystemExit")
    return folder


def told_by(hub: str, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """What a process says that has this hub for its own: huggingface_hub reads its environment once."""
    whole_env = os.environ | {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | env
    whole_env.pop("HF_TOKEN", None)
    return subprocess.run(
        [sys.executable, *command], env=whole_env, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def got(hub: Hub, suffix: str) -> int:
    return sum(name.endswith(suffix) for name, _ in hub.got)


def test_a_model_on_a_hub_is_pinned_mirrored_without_pickles_or_code_and_then_read_offline(
    hub_folder: Path, tiny_folder: Path, cache: Path
) -> None:
    digest = folder_digest(tiny_folder)
    with hub_of(hub_folder) as hub:
        done = told_by(hub.url, ["-c", MIRROR, REPO])
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [f"{REPO}@{COMMIT}", digest, digest]
        assert got(hub, ".bin") == got(hub, ".py") == got(hub, ".md") == 0
        n_got = len(hub.got)
        again = told_by(hub.url, ["-c", MIRROR, f"{REPO}@{COMMIT}"])
        assert json.loads(again.stdout) == json.loads(done.stdout) and len(hub.got) == n_got
    offline = told_by("http://127.0.0.1:9", ["-c", MIRROR, REPO], HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout) == json.loads(done.stdout)
    copied = [path for path in (cache / "models" / digest).rglob("*") if path.is_file()]
    assert {path.suffix for path in copied} == {".json", ".safetensors"}


def test_a_hub_that_is_asked_for_what_it_has_not_or_not_at_all_is_one_message(
    hub_folder: Path, cache: Path
) -> None:
    look = ["-m", "jobs", "models"]
    with hub_of(hub_folder) as hub:
        absent = told_by(hub.url, [*look, "studio/none"])
        assert absent.returncode == 2
        assert "neither is studio/none a folder here, nor has the hub" in absent.stderr
        looked = told_by(hub.url, [*look, REPO])
        assert looked.returncode == 0, looked.stderr
        assert looked.stdout.startswith(f"{REPO}@{COMMIT}: CogVideoXPipeline")
        for name, n in [(name, n) for name, n in hub.got if name.endswith(".safetensors")]:
            assert n < (hub_folder / name).stat().st_size / 2, "more than a header was read"
        assert got(hub, ".safetensors") == 6
    offline = told_by("http://127.0.0.1:9", [*look, "studio/other"], HF_HUB_OFFLINE="1")
    assert offline.returncode == 9
    assert "HF_HUB_OFFLINE is set, and no copy is here (studio/other@main): unset it" in offline.stderr
    gone = told_by("http://127.0.0.1:9", [*look, "studio/other"])
    assert gone.returncode == 9 and "it cannot be reached" in gone.stderr
