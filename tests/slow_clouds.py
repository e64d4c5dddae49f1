"""Claims about stores on Google's and Azure's clouds: those about any store, and what is theirs alone.

Azure is a server process of Azurite; Google's is gcp-storage-emulator with a precondition of our own
(tests/gcs_server.py). Before them stands a proxy process that breaks requests (tests/fault_proxy.py).

make clouds
"""

import http.client
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from threading import Thread

import fsspec
import pytest

from jobs.cli import main
from manifests import azure, gcs
from manifests.bucket import Bucket
from manifests.origins import InStore
from manifests.probe import Lying
from manifests.replies import Throttled
from manifests.source import read_source
from manifests.store import Store, StoreError, open_store
from tests import test_manifests_faults, test_manifests_store
from tests.fault_proxy import Remote, fault_proxy
from tests.s3_server import Proxy, served
from tests.test_jobs_faults import JOB, Drivers, check, drivers, pictures, settings
from tests.test_manifests_faults import fresh

__all__ = ["drivers", "fresh", "settings"]  # fixtures
ROOT = Path(__file__).parent
AZURITE = Path(sys.prefix, "azurite/node_modules/azurite/dist/src/blob/main.js")
ACCOUNT = "devstoreaccount1"  # Azurite's, with the key that its documentation gives
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
READ_TIMEOUT_S = 2.0  # so that a silent server costs a test no more

# What is claimed of any store is claimed of these: tests by the fixtures below, under their own names.
globals().update(
    (name, test)
    for module in (test_manifests_store, test_manifests_faults)
    for name, test in vars(module).items()
    if name.startswith("test_") and "store" in signature(test).parameters and "parts" not in name
)


@dataclass(frozen=True)
class Cloud:
    """A server process; `environment` tells clients of it at a port."""

    scheme: str
    port: int
    environment: Callable[[int], dict[str, str]]


def of_google(port: int) -> dict[str, str]:
    """What tells clients where the emulator is; the last one keeps gcsfs from asking Google by gRPC."""
    where = f"http://127.0.0.1:{port}"
    return {"STORAGE_EMULATOR_HOST": where, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


def of_azure(port: int, auth: str = f"AccountName={ACCOUNT};AccountKey={KEY}") -> dict[str, str]:
    """What tells clients where Azurite is, and who they are."""
    where = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT}"
    return {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{where};{auth}"}


def signed() -> str:
    """Access to Azurite whose signature is in the URL, so that a proxy may change headers."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    what = (
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions.from_string("rwdlac"),
    )
    return "SharedAccessSignature=" + generate_account_sas(
        ACCOUNT, KEY, *what, expiry=datetime.now(UTC) + timedelta(hours=1)
    )


@contextmanager
def told_of(values: dict[str, str]) -> Iterator[None]:
    """Clients that are made inside know these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        _forget()
        yield
    _forget()


def _forget() -> None:
    """Clients keep the environment that they were made in."""
    from adlfs import AzureBlobFileSystem
    from gcsfs.core import GCSFileSystem

    AzureBlobFileSystem.clear_instance_cache()
    GCSFileSystem.clear_instance_cache()


@pytest.fixture(scope="module", params=["gs", "az"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """A server of one kind, with the bucket or container `films`."""
    if request.param == "gs":
        with served(sys.executable, str(ROOT / "gcs_server.py")) as port:
            link = http.client.HTTPConnection("127.0.0.1", port)
            link.request("POST", "/storage/v1/b", b'{"name": "films"}', {"Content-Type": "application/json"})
            assert link.getresponse().status == 200
            yield Cloud("gs", port, of_google)
        return
    assert AZURITE.is_file(), f"there is no {AZURITE}: make clouds installs it"
    quiet = ("--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck")
    with served("node", str(AZURITE), *quiet, "--blobPort") as port:
        with told_of(of_azure(port)):
            fsspec.filesystem("az").mkdir("films")
        yield Cloud("az", port, of_azure)


@pytest.fixture(scope="module")
def remote(cloud: Cloud) -> Iterator[Remote]:
    """The proxy before it, of which the environment tells."""
    with fault_proxy(cloud.port) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setitem(gcs.WAIT_S, "sock_read", READ_TIMEOUT_S)
        patch.setitem(azure.SETTINGS, "read_timeout", READ_TIMEOUT_S)
        with told_of(cloud.environment(proxy.port)):
            yield proxy


@pytest.fixture
def store(cloud: Cloud, remote: Remote) -> Store:
    """A store that no other test has."""
    return open_store(f"{cloud.scheme}://films/{os.urandom(6).hex()}/root")


@pytest.fixture
def proxy(cloud: Cloud, remote: Remote) -> Iterator[Proxy]:
    """A proxy that can lie, of which the environment tells instead."""
    with Proxy(cloud.port) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        more = (signed(),) if cloud.scheme == "az" else ()
        with told_of(cloud.environment(server.server_port, *more)):
            yield server
        server.shutdown()
    _forget()


def test_probe_tells_a_store_that_ignores_put_if_absent(cloud: Cloud, proxy: Proxy) -> None:
    store = open_store(f"{cloud.scheme}://films/lies")
    store.probe()
    proxy.fault = "ignores conditions"
    with pytest.raises(Lying, match=r"second put .* not refused \(\w+://films/lies\): .*put-if-absent"):
        store.probe()
    proxy.fault = "ignores conditions at once"
    with pytest.raises(Lying, match=r"of 4 puts of one key at once [2-4] were told that they had won"):
        store.probe()
    assert store.list_keys("x") == [] and not store.place.files("")


def test_doctor_tells_of_a_bucket_that_is_well_and_of_one_that_is_not_there(
    cloud: Cloud, remote: Remote, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    from jobs.checkup import tries

    monkeypatch.setattr("jobs.doctor.tries", lambda a: (t for t in tries(a) if t.name == "store"))
    own = ["doctor", f"profiles.chalk.model.folder={tiny_folder}", "--out"]
    assert main([*own, f"{cloud.scheme}://films/night"]) == 0
    assert main([*own, f"{cloud.scheme}://flims/night"]) == 9
    word = {"gs": "bucket", "az": "container"}[cloud.scheme]
    said = capsys.readouterr().out  # type: ignore[attr-defined]
    assert f"there is no {word} 'flims' ({cloud.scheme}://flims/night): create it" in said


def test_probe_tells_refused_credentials(cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    if cloud.scheme == "gs":
        proxy.fault = "refuses"
    else:
        wrong = of_azure(proxy.server_port, f"AccountName={ACCOUNT};AccountKey={'A' * 86}==")
        monkeypatch.setenv(*next(iter(wrong.items())))
        _forget()
    with pytest.raises(StoreError, match=r"credentials are refused: .*(GOOGLE_APPL|AZURE_STORAGE_CONN)"):
        open_store(f"{cloud.scheme}://films/root").probe()


def test_probe_tells_a_service_that_is_down(cloud: Cloud, remote: Remote) -> None:
    with told_of(cloud.environment(9)):
        store = open_store(f"{cloud.scheme}://films/root", patience_s=0.0)
        with pytest.raises(StoreError, match=r"cannot be reached: .*check .*, the network"):
            store.probe()
        for use in (lambda: store.read("a"), lambda: store.put_new("a", b"x"), lambda: store.list_keys("a")):
            with pytest.raises(ConnectionError):
                use()


def test_azure_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    _forget()
    with pytest.raises(
        ValueError, match=r"'az://films/a': no account .* set AZURE_STORAGE_CONNECTION_STRING"
    ):
        open_store("az://films/a")


def test_a_container_of_an_account_in_the_url_is_one_of_that_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    url = "abfss://films@studio.dfs.core.windows.net/night"
    place = open_store(url).place
    assert isinstance(place, Bucket) and (place.root, place.url) == ("films/night", url)
    assert isinstance(place.service, azure.Azure)
    assert place.service.client.url == "https://studio.blob.core.windows.net/"


def test_published_film_plays_in_a_browser(store: Store, cloud: Cloud) -> None:
    store.publish(store.put_artefact(b"film"), "films/a.mp4")
    info = fsspec.filesystem(cloud.scheme, use_listings_cache=False).info(f"{store.url}/films/a.mp4")
    kind = info["contentType"] if cloud.scheme == "gs" else info["content_settings"]["content_type"]
    assert (kind, info["size"]) == ("video/mp4", 4)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("503", Throttled), ("429", Throttled), ("500", ConnectionError), ("lost", ConnectionError)],
)
def test_trouble_is_of_the_class_that_says_what_to_do_in_any_process(
    store: Store, remote: Remote, fresh: str, fault: str, kind: type[OSError]
) -> None:
    hasty = open_store(store.url, patience_s=0.0)
    remote.script([fault])
    with pytest.raises(kind) as caught:
        hasty.put_new(f"{fresh}/a", b"x")
    assert type(caught.value) is type(pickle.loads(pickle.dumps(caught.value))) is kind
    assert hasty.put_new(f"{fresh}/a", b"y") == (fault != "lost"), "it was tried again"


@pytest.mark.parametrize("faults", [["", "", "", "", "lost"], ["500", "", "reset", "", "", "", "regretted"]])
def test_an_upload_in_parts_whose_end_is_lost_is_known_again(
    store: Store, remote: Remote, fresh: str, tmp_path: Path, faults: list[str]
) -> None:
    data = os.urandom(17 << 20)
    remote.script(["", *faults])  # after a look at its size: begin, or not, three parts, end
    name = store.put_artefact(data)
    remote.script(["truncated", "flipped"])
    store.fetch_artefact(name, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    staged = tmp_path / "large"
    staged.write_bytes(data)
    remote.script(faults)
    assert store.place.create(staged, f"{fresh}/large"), "a retry did not know its own put"
    assert not store.place.create(staged, f"{fresh}/large")


def test_uploads_in_parts_at_once_have_one_winner_and_its_bytes(store: Store, tmp_path: Path) -> None:
    bodies = [os.urandom(9 << 20) for _ in range(3)]
    won: list[int] = []

    def write(number: int) -> None:
        path = tmp_path / str(number)
        path.write_bytes(bodies[number])
        if store.place.create(path, "race/large"):
            won.append(number)

    crew = [Thread(target=write, args=(number,)) for number in range(3)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    assert len(won) == 1 and store.read("race/large") == bodies[won[0]]


def test_a_model_and_a_manifest_are_read_from_there(store: Store, tmp_path: Path) -> None:
    store.put_new("wan/model_index.json", b"{}")
    store.put_new("films.yaml", b"- id: a\n")
    place, files = InStore(f"{store.url}/wan").look()
    assert list(files) == ["model_index.json"] and place.start("model_index.json", 1) == b"{"
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        InStore(f"{store.url}/none").look()
    with pytest.raises(Exception, match="cannot read"):
        read_source(f"{store.url}/none.yaml")


@pytest.fixture
def s3(cloud: Cloud) -> Iterator[int]:
    """What `drivers` stands on: here, the server without the proxy."""
    with told_of(cloud.environment(cloud.port)):
        yield cloud.port


def test_of_two_drivers_that_race_for_a_job_one_renders_and_the_other_leaves(
    cloud: Cloud, drivers: Drivers
) -> None:
    draw, out = random.Random(7), f"{cloud.scheme}://films/race"
    statuses = drivers.race(out, *(("never", 1, "", draw.uniform(0, 0.5)) for _ in range(2)))
    assert sorted(statuses) == [0, 2], [drivers.said(number) for number in range(2)]
    assert "is being rendered by process" in drivers.said(statuses.index(2))
    store = open_store(out)
    check(store)
    assert len(pictures(store)) == 4 and len(store.list_keys(f"jobs/{JOB}/driver")) == 2
