"""Claims about leftovers: what nobody needs is found by one definition, and nothing else is taken away."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.audit import audit
from cluster.leftovers import finished_checkpoints, leftovers
from cluster.once import marker_key
from jobs.cli import main
from jobs.enrol import sweep
from manifests.store import Store, open_store

WEEK_S = 168 * 3600.0
KINDS = {"checkpoint", "unfinished", "segment", "artefact"}


def aged(store: Store, key: str, seconds: float = 2 * WEEK_S) -> None:
    then = time.time() - seconds
    os.utime(Path(store.url, key), (then, then))


def artefact(store: Store, data: bytes, seconds: float = 2 * WEEK_S) -> str:
    hash = store.put_artefact(data)
    aged(store, f"cas/{hash[:2]}/{hash}", seconds)
    return hash


def marker(store: Store, kind: str, key: str, **files: str) -> None:
    body = {"files": files, "bytes": {}, "facts": {}, "seconds": 1.0}
    store.put_marker(marker_key(kind, key), body)


@pytest.fixture
def store(tmp_path):
    """A store with something of each kind, needed and not; what is left over is named so."""
    store = open_store(str(tmp_path / "out"))
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    marker(store, "shot", "aa01", latents=artefact(store, b"latents"))
    for key in ("checkpoints/aa01/000005.safetensors", "checkpoints/bb02/000005.safetensors"):
        store.put_new(key, b"state")
    store.put_new("checkpoints/cc03/000001.safetensors", b"state of a shot that nobody wants any more")
    aged(store, "checkpoints/cc03/000001.safetensors")
    store.publish(artefact(store, b"a film"), "films/water.mp4")
    inputs = [{"files": {"embedding": artefact(store, b"text")}}]
    checkpoint = {"key": "checkpoints/dd04/000002.safetensors", "artefact": artefact(store, b"of a bundle")}
    body = {"inputs": inputs, "adapters": [artefact(store, b"lora")], "checkpoint": checkpoint}
    store.put_marker("jobs/night/quarantine/rain/s1/000001.json", body)
    for name in ("seg-000000001", "seg-000000002", "seg-000000101", "upto-000000100"):
        store.put_new(f"jobs/night/ledger/drv=000001/{name}.parquet", b"events")
    artefact(store, b"young", seconds=60.0)
    artefact(store, b"left over")
    for name, seconds in (("old", 2 * WEEK_S), ("new", 60.0)):
        Path(store.url, ".staging").mkdir(exist_ok=True)
        Path(store.url, ".staging", f"{name}.tmp").write_bytes(b"half")
        aged(store, f".staging/{name}.tmp", seconds)
    return store


def found(store, older_than_s=WEEK_S):
    """What is left over, by kind and the part of its key that tells it from others."""
    every = list(leftovers(store, older_than_s))
    return {(each.kind, each.lying.key.split("/")[-2 if each.kind == "checkpoint" else -1]) for each in every}


def hash_of(store, data):
    paths = [path for path in Path(store.url, "cas").rglob("*") if path.is_file()]
    (path,) = [path for path in paths if path.read_bytes() == data]
    return path.name


def told(capsys, store, *words):
    code = main(["clean", "night", "--out", store.url, *words])
    return code, capsys.readouterr()


def test_what_nobody_needs_is_found_and_nothing_else(store):
    kept = {("checkpoint", "aa01"), ("checkpoint", "cc03"), ("unfinished", "old.tmp")}
    kept |= {("segment", "seg-000000002.parquet")}
    assert found(store) == kept | {("artefact", hash_of(store, b"left over"))}


def test_the_audit_and_the_driver_have_the_same_checkpoints_left_over(store):
    keys = list(finished_checkpoints(store))
    assert keys == ["checkpoints/aa01/000005.safetensors"]
    assert [each.where for each in audit(store, "night", None) if each.rule == "leftovers"] == keys
    sweep(store)
    assert not list(finished_checkpoints(store))
    assert store.list_keys("checkpoints") == [
        "checkpoints/bb02/000005.safetensors",
        "checkpoints/cc03/000001.safetensors",
    ]


def test_a_dry_run_says_what_would_go_and_takes_nothing(store, capsys):
    before = sorted(Path(store.url).rglob("*"))
    code, said = told(capsys, store, "--dry-run")
    assert code == 0 and sorted(Path(store.url).rglob("*")) == before
    counts = "1 artefact, 2 checkpoints, 1 segment, 1 unfinished"
    assert said.out.splitlines()[-1].startswith(f"would be removed: {counts}")
    assert "no marker names it" in said.out and "336.0 h old" in said.out


def test_cleaning_takes_it_away_once_and_leaves_all_else_as_it_was(store, capsys):
    gone = {("checkpoint", "aa01"), ("checkpoint", "cc03")}
    code, said = told(capsys, store, "-o", "json")
    facts = json.loads(said.out)
    assert code == 0 and {each["kind"] for each in facts} == KINDS
    assert sum(each["bytes"] for each in facts if each["kind"] == "artefact") == len(b"left over")
    assert not found(store) & gone and found(store) == set()
    for data in (b"latents", b"a film", b"of a bundle", b"text", b"lora", b"young"):
        assert hash_of(store, data)
    assert store.read("films/water.mp4") == b"a film" and Path(store.url, ".staging", "new.tmp").exists()
    assert told(capsys, store)[1].out == "nothing is left over\n"


def test_with_another_bound_younger_things_go_too(store):
    assert ("unfinished", "new.tmp") in found(store, 30.0)
    assert ("checkpoint", "bb02") in found(store, 0.0)


def test_while_any_job_of_the_store_is_rendered_nothing_is_taken(store, capsys):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        claim = {"host": platform.node(), "pid": other.pid, "started": started}
        store.put_marker("jobs/other/job.json", {"job_id": "other"})
        store.put_marker("jobs/other/driver/epoch-000001.json", claim)
        code, said = told(capsys, store)
        assert code == 2 and f"other is being rendered by process {other.pid}" in said.err
        assert hash_of(store, b"left over")
        other.kill()


def test_a_job_that_begins_between_the_look_and_the_taking_stops_it(store, capsys, monkeypatch):
    def looking(store, older_than_s):
        store.put_marker("jobs/late/driver/epoch-000001.json", {"claim": "1"})
        return leftovers(store, older_than_s)

    monkeypatch.setattr("cluster.leftovers.leftovers", looking)
    code, said = told(capsys, store)
    assert code == 2 and "has begun meanwhile" in said.err and hash_of(store, b"left over")


def test_a_marker_that_cannot_be_read_stops_it_since_nobody_knows_what_it_names(store, capsys):
    Path(store.url, "done", "shot", "ff").mkdir(parents=True)
    Path(store.url, "done", "shot", "ff", "ff01.json").write_bytes(b"{")
    code, said = told(capsys, store)
    assert code == 9 and "cannot be read" in said.err and hash_of(store, b"left over")


def test_on_s3_uploads_that_were_never_finished_are_found_and_ended(proxy, capsys):
    store = open_store("s3://films/out")
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    hash = store.put_artefact(b"left over")
    fs = store.place.service.fs
    fs.call_s3("create_multipart_upload", Bucket="films", Key="out/cas/aa/half")
    fs.call_s3("create_multipart_upload", Bucket="films", Key="another/half")
    code, said = told(capsys, store, "--older-than", "0", "-o", "json")
    mine = [(each["kind"], each["key"]) for each in json.loads(said.out) if not each["key"].endswith(".tmp")]
    assert code == 0 and mine == [("unfinished", "cas/aa/half"), ("artefact", f"cas/{hash[:2]}/{hash}")]
    left = fs.call_s3("list_multipart_uploads", Bucket="films")["Uploads"]
    assert [each["Key"] for each in left] == ["another/half"] and store.has_artefact(hash) is None
