"""Claims about what a submitted driver is told; submitting to a real Ray is told elsewhere."""

import shlex
from pathlib import Path

import pytest

from jobs.cli import main, parse
from jobs.submit import driver_command, from_upload, lasting, ray_command


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "upload" / "films").mkdir(parents=True)
    return tmp_path / "upload"


def test_a_path_in_the_upload_becomes_relative_and_any_other_stays_whole(folder, monkeypatch):
    monkeypatch.chdir(folder / "films")
    assert from_upload("rain.yaml", folder) == "films/rain.yaml"
    assert from_upload("../a.yaml", folder) == "a.yaml"
    assert from_upload("/data/rain.yaml", folder) == "/data/rain.yaml"
    assert from_upload("../../b.yaml", folder) == str(folder.parent / "b.yaml")
    assert from_upload("s3://farm/rain.parquet", folder) == "s3://farm/rain.parquet"


def test_films_never_go_into_the_upload_by_a_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert lasting("out") == str(folder / "out")
    assert lasting("s3://farm/films") == "s3://farm/films"


def test_the_driver_is_told_the_same_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["submit", "films/rain.yaml", "a.b=1", "--out", "s3://farm/x", "--config", "c.yaml", "c.d=x y"]
    command = driver_command(parse(words), "night", folder)
    assert command[:4] == ["python", "-m", "jobs", "run"]
    told = parse(command[3:])  # which must be words that `run` takes
    assert (told.manifest, told.out, told.job_id) == ("films/rain.yaml", "s3://farm/x", "night")
    assert told.config == Path("c.yaml") and told.overrides == ["a.b=1", "c.d=x y"]
    assert not told.local and told.address is None


def test_the_line_for_ray_keeps_every_word_through_two_shells():
    entrypoint = shlex.join(["python", "-m", "jobs", "run", "it's rain.yaml"])
    line = shlex.split(ray_command("http://h:8265", "night", Path("/a folder"), entrypoint))
    assert line[:3] == ["ray", "job", "submit"] and line[line.index("--working-dir") + 1] == "/a folder"
    assert line[line.index("--submission-id") + 1] == "night"
    assert line[line.index("--") + 1 :] == ["python", "-m", "jobs", "run", "it's rain.yaml"]


def test_a_cluster_that_does_not_answer_is_one_message(folder, capsys):
    address = ["--address", "http://127.0.0.1:9"]  # the discard port: nobody listens
    words = ["submit", "m.yaml", "--out", "s3://farm/x", "--job-id", "night", "--working-dir", str(folder)]
    assert main([*words, *address]) == 9
    said = capsys.readouterr()
    assert "127.0.0.1:9" in said.err and said.err.count("\n") == 1 and said.out == ""


def test_what_cannot_be_submitted_is_told_before_a_cluster_is_asked(tmp_path, capsys):
    common = ["--address", "http://127.0.0.1:9", "--working-dir", str(tmp_path)]
    absent = str(tmp_path / "absent.yaml")
    assert main(["submit", absent, "--out", "s3://farm/x", *common]) == 3
    assert main(["submit", absent, "--out", "gopher://x", *common]) == 2
    assert main(["submit", absent, "--out", "s3://farm/x", *common[:2], "--working-dir", absent]) == 2
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize("job_id", ["", "../x", "a b", ".x", "x" * 101])
def test_a_job_id_that_is_no_path_component_is_a_usage_error(job_id, capsys):
    with pytest.raises(SystemExit) as end:
        main(["submit", "m.yaml", "--out", "o", f"--job-id={job_id}"])
    assert end.value.code == 2 and "no job id" in capsys.readouterr().err
