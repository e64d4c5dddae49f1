"""Claims about `longtake doctor`: it tries what a night needs, and says what is wrong and what to do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from jobs.checkup import tries
from jobs.cli import main
from tests.test_jobs_crash import FILM, PROFILE

ROOT = Path(__file__).parent.parent


@pytest.fixture
def ask(tiny_folder, tmp_path, capsys, monkeypatch):
    """The verb with a tiny model: its exit code, and what was told by name, of all tries or of some."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def doctor(*arguments, only=()):
        monkeypatch.setattr(
            "jobs.doctor.tries", lambda a: (t for t in tries(a) if not only or t.name in only)
        )
        own = [f"profiles.chalk.model.folder={tiny_folder}", f"identity={tmp_path / 'identity'}"]
        code = main(["doctor", "-o", "json", *own, *arguments])
        told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
        return code, told

    return doctor


def test_a_sound_machine_and_folder_are_told_so_and_left_as_they_were(ask, tmp_path):
    code, told = ask("--out", str(tmp_path / "out"))
    assert code == 0, told
    assert list(told) == ["model", "gpus", "store", "room", "fonts", "voice", "film"]
    assert "put once, also by several at once" in told["store"]["said"]
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]


def test_a_sound_bucket_is_told_so_and_left_empty(ask, proxy):
    code, told = ask("--out", "s3://films/night", only=["store"])
    assert code == 0 and told["store"]["code"] == 0, told
    assert fsspec.filesystem("s3").find("films") == []


@pytest.mark.parametrize("fault", ["ignores conditions", "ignores conditions at once"])
def test_a_store_that_lies_is_named_as_that(ask, proxy, fault):
    proxy.fault = fault
    code, told = ask("--out", "s3://films/night", only=["store"])
    assert (code, told["store"]["code"], told["store"]["error"]) == (9, 9, "E804_STORE_LIES")
    assert "If-None-Match" in told["store"]["todo"] and "s3://films/night" in told["store"]["said"]
    assert fsspec.filesystem("s3").find("films") == []


def test_a_job_is_not_begun_in_a_store_that_lies(proxy, tiny_folder, tmp_path, capsys):
    (tmp_path / "film.yaml").write_text(FILM, encoding="utf-8")
    settings = [f"profiles.chalk.{key}={value}" for key, value in PROFILE.items()]
    settings += [f"profiles.chalk.model.folder={tiny_folder}"]
    proxy.fault = "ignores conditions"
    job = ["run", str(tmp_path / "film.yaml"), "--local", "--out", "s3://films/night", *settings]
    assert main(job) == 9
    assert "E804_STORE_LIES  a second put of the same key was not refused" in capsys.readouterr().err
    assert fsspec.filesystem("s3").find("films") == []


def test_a_store_with_a_wrong_clock_is_told(ask, proxy):
    proxy.fault = "is slow by a day"
    code, told = ask("--out", "s3://films/night", only=["store"])
    assert code == 9 and re.search(r"s3://films/night is 8640\d s behind", told["store"]["said"])


def test_what_is_wrong_is_told_in_one_line_each_and_the_first_gives_the_exit_code(tmp_path):
    (tmp_path / "file").write_text("no folder")
    command = ["doctor", "--out", str(tmp_path / "file"), "cluster.device=cuda", "identity=/proc/none"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *command, f"profiles.chalk.model.folder={tmp_path}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": ""},
    )
    *lines, last = done.stdout.splitlines()
    told = {line.split()[1]: line for line in lines}
    assert done.returncode == 2 and last == "4 of 7 wrong", done.stdout + done.stderr
    assert {name for name, line in told.items() if line.startswith("WRONG")} == {
        *("model", "gpus", "store", "film")
    }
    assert "profiles.chalk.model.folder" in told["model"] and "cluster.device=cpu" in told["gpus"]
    assert "E801_STORE" in told["store"] and "name a folder" in told["store"]


def test_too_little_room_is_told_with_both_sizes(ask, tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.run.LEAST_ROOM", 1 << 60)
    code, told = ask("--out", str(tmp_path / "out"), only=["store", "room"])
    assert code == 9 and {name for name, each in told.items() if each["code"]} == {"store", "room"}
    assert all("1073741824.00 GiB" in told[name]["said"] for name in ("store", "room"))


def test_a_library_that_cannot_be_loaded_is_a_line_and_ends_nothing(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "engine.film.voice", None)
    code, told = ask(only=["voice", "fonts"])
    assert code == 5 and told["voice"]["code"] == 5 and "engine.film.voice" in told["voice"]["said"]
    assert "make setup" in told["voice"]["todo"] and told["fonts"]["code"] == 0


def test_a_wrong_setting_is_told_as_in_a_run(capsys):
    assert main(["doctor", "cluster.device=gpu"]) == 2
    assert "cluster.device='gpu' must be auto, cpu or cuda" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_told(ask):
    code, told = ask("--address", "127.0.0.1:9", only=["ray"])
    assert code == 9 and "no Ray cluster at 127.0.0.1:9" in told["ray"]["said"]
