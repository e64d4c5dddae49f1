"""Claims about the command line, as a person starts it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.cli import main

ROOT = Path(__file__).parent.parent
FILM = """
- row_id: rain
  profile: chalk
  width_px: 128
  height_px: 128
  shots:
    - {shot_id: s1, prompt: rain falls over green hills, duration_frames: 8}
  languages:
    - {lang: hi-IN, title: बारिश}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A model that costs next to nothing."""
    from engine.chalk.model import build_pipeline, save

    folder = tmp_path_factory.mktemp("model")
    save(folder, build_pipeline(0, tiny=True))
    return folder


@pytest.fixture
def settings(tiny, tmp_path) -> list[str]:
    chalk = [f"profiles.chalk.model.folder={tiny}", "profiles.chalk.sampling.n_steps=2"]
    return [*chalk, f"identity={tmp_path / 'identity'}"]


@pytest.fixture
def film(tmp_path) -> str:
    path = tmp_path / "film.yaml"
    path.write_text(FILM)
    return str(path)


def last(text: str) -> dict:
    """The driver's last line."""
    word, body = text.splitlines()[-1].split(" ", 1)
    assert word == "LONGTAKE_RESULT"
    return json.loads(body)


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_help_and_schema_wait_for_neither_torch_nor_ray():
    done = python(
        "import sys\nfrom jobs.cli import main\n"
        "for words in (['--help'], ['run', '--help'], ['manifest', 'schema']):\n"
        "    try:\n        assert main(words) == 0\n"
        "    except SystemExit as end:\n        assert end.code == 0\n"
        "assert not {'torch', 'ray', 'diffusers'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr
    assert "exit codes" in done.stdout and "usage: longtake run" in done.stdout


def test_no_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["validate", "m.yaml", "--nonsense=1"],
        ["validate", "m.yaml", "n.yaml"],
        ["status", "--out", "o", "a", "k=v"],
    ],
)
def test_a_word_that_no_verb_knows_is_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_init_writes_a_valid_manifest_and_never_writes_over_one(tmp_path, settings, capsys):
    assert main(["init", str(tmp_path / "new")]) == 0
    manifest = tmp_path / "new" / "manifest.yaml"
    assert main(["validate", str(manifest), *settings]) == 0
    manifest.write_text("mine")
    assert main(["init", str(tmp_path / "new")]) == 2
    assert manifest.read_text() == "mine" and str(manifest) in capsys.readouterr().err


def test_manifest_new_writes_what_init_does(tmp_path):
    main(["init", str(tmp_path)])
    assert main(["manifest", "new", str(tmp_path / "other.yaml")]) == 0
    assert (tmp_path / "other.yaml").read_bytes() == (tmp_path / "manifest.yaml").read_bytes()
    assert main(["manifest", "new", str(tmp_path / "other.parquet")]) == 2


def test_schema_tells_unit_and_meaning_of_every_column(capsys):
    assert main(["manifest", "schema", "-o", "json"]) == 0
    columns = {column["column"]: column for column in json.loads(capsys.readouterr().out)}
    assert columns["width_px"]["unit"] == "px" and columns["shots[].prompts[].start_s"]["unit"] == "s"
    assert all(column["doc"] and column["type"] for column in columns.values())


def test_a_converted_manifest_says_the_same(tmp_path, film, capsys):
    assert main(["manifest", "convert", film, str(tmp_path / "m.parquet")]) == 0
    assert main(["manifest", "convert", str(tmp_path / "m.parquet"), str(tmp_path / "m.jsonl")]) == 0
    row = json.loads((tmp_path / "m.jsonl").read_text())
    assert row["languages"] == [{"lang": "hi-IN", "title": "बारिश"}]
    assert main(["manifest", "convert", film, str(tmp_path / "m.txt")]) == 3


def test_a_faulty_row_exits_3_and_names_code_row_and_field(tmp_path, settings, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(FILM.replace("duration_frames: 8", "duration_s: -4.0").replace("128", "129"))
    assert main(["validate", str(path), *settings, "-o", "json"]) == 3
    findings = json.loads(capsys.readouterr().out)
    assert {found["row_id"] for found in findings} == {"rain"}
    assert any(found["json_path"] == "/shots/0/duration_s" for found in findings)
    assert any("129" in found["message"] for found in findings)


def test_equal_faults_are_one_group_with_a_few_examples(tmp_path, settings, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("".join(FILM.replace("rain", f"rain-{n}", 1).replace("8}", "0}") for n in range(12)))
    assert main(["validate", str(path), *settings]) == 3
    text = capsys.readouterr().out
    assert re.search(r"^E402_DURATION_ZERO  12 times", text, re.M)
    assert "(rain-0) /shots/0/duration_frames" in text and "rain-11" not in text
    assert "7 more" in text and "12 findings in 12 of 12 rows" in text


def test_a_file_that_is_no_manifest_is_one_message_and_no_traceback(tmp_path, settings, capsys):
    (tmp_path / "m.parquet").write_bytes(b"not a table")
    for path in (tmp_path / "m.parquet", tmp_path / "absent.parquet"):
        assert main(["validate", str(path), *settings]) == 3
        error = capsys.readouterr().err
        assert str(path) in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["profiles.chalk.sampling.n_steps=-1"],
        ["no.such.key=1"],
        ["--config", "absent.yaml"],
        ["profiles.chalk.model.folder=/"],
    ],
)
def test_a_wrong_setting_exits_2_with_one_message(film, words, capsys):
    assert main(["validate", film, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_nobody_foresaw_is_one_line_unless_the_traceback_is_asked_for(monkeypatch, capsys):
    def fail(path):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("manifests.source.read_source", fail)
    words = ["manifest", "convert", "a.yaml", "b.yaml"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in error and error.count("\n") == 1
    monkeypatch.setenv("LONGTAKE_TRACEBACK", "1")
    assert main(words) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_plan_counts_and_then_finds_everything_rendered(tmp_path, film, settings, capsys):
    out = str(tmp_path / "out")
    assert main(["plan", film, *settings, "-o", "json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["films"] == before["shots"] == before["windows"] == {"total": 1, "to_render": 1}
    assert before["window_steps"]["total"] == 2 and before["film_s"]["total"] == 1.0
    assert before["prompts"]["total"] == 2  # with the empty negative one
    assert before["stitching"] == [{"mode": "blend", "why": "one window", "shots": 1}]
    assert main(["run", film, "--out", out, "--local", *settings]) == 0
    assert last(capsys.readouterr().out)["job_id"] == before["job_id"]
    assert main(["plan", film, "--out", out, *settings, "-o", "json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert all(after[name]["to_render"] == 0 for name in ("films", "shots", "windows", "prompts", "versions"))
    assert main(["plan", film, "--out", out, *settings]) == 0
    said = capsys.readouterr().out
    assert re.search(r"window steps +2 +2 +0", said)
    assert "stitching  1 shot by blend: one window" in said


def test_a_plan_for_no_place_is_a_usage_error(film, capsys):
    with pytest.raises(SystemExit) as end:
        main(["plan", film, "--out", ""])
    assert end.value.code == 2 and "names no place" in capsys.readouterr().err


def test_a_plan_of_a_faulty_manifest_is_its_faults(tmp_path, settings, capsys):
    (tmp_path / "bad.yaml").write_text(FILM.replace("8}", "0}"))
    assert main(["plan", str(tmp_path / "bad.yaml"), *settings]) == 3
    assert "E402_DURATION_ZERO" in capsys.readouterr().out


def test_a_run_ends_with_its_result_and_its_films_verify(tmp_path, film, settings, capsys):
    out = tmp_path / "out"
    assert (
        main(["run", film, settings[0], "--out", str(out), "--local", "--job-id", "j1", *settings[1:]]) == 0
    )
    result = last(capsys.readouterr().out)
    assert (result["job_id"], result["status"], result["done"], result["exit_code"]) == ("j1", "done", 1, 0)
    made = str(out / "films" / "rain.hi-IN.mp4")
    assert main(["verify", made, "--identity", str(tmp_path / "identity"), "-o", "json"]) == 0
    (checked,) = json.loads(capsys.readouterr().out)
    assert (checked["frames"], checked["fps"], checked["width_px"]) == (8, "8", 128)
    assert main(["wait", "--out", str(out), "j1", "--timeout", "0"]) == 0


@pytest.mark.parametrize(
    ("fault", "words", "code", "status"),
    [
        ("8}", [], 3, "invalid"),
        ("", ["--out", "gopher://x"], 2, "usage"),
        ("", ["--out", ""], 2, "usage"),
        ("", ["--out", "s3:/bucket/films"], 2, "usage"),
        ("", ["--out", "films\0"], 2, "usage"),
        ("", ["--out", "/proc/nowhere"], 9, "unreachable"),
        ("", ["no.such.key=1"], 2, "usage"),
    ],
)
def test_a_run_that_cannot_begin_says_why_and_still_has_a_last_line(
    fault, words, code, status, tmp_path, settings, capsys
):
    path = tmp_path / "film.yaml"
    path.write_text(FILM.replace(fault, "0}") if fault else FILM)
    assert main(["run", str(path), "--local", "--out", str(tmp_path / "out"), *words, *settings]) == code
    said = capsys.readouterr()
    result = last(said.out)
    assert (result["status"], result["exit_code"]) == (status, code)
    assert said.err.strip() and "Traceback" not in said.err


def test_sigterm_stops_a_run_within_three_seconds_and_the_job_says_so(tmp_path, settings, film):
    Path(film).write_text(FILM.replace("8}", "480}"))
    words = ["run", film, "--local", "--out", str(tmp_path / "out"), "--job-id", "j", *settings]
    command = [sys.executable, "-m", "jobs", *words, "profiles.chalk.sampling.n_steps=500"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert " run " in driver.stdout.readline()
        driver.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        out, err = driver.communicate(timeout=30)
        took_s = time.monotonic() - sent
    assert driver.returncode == 6 and took_s < 3
    assert last(out)["status"] == "cancelled" and "the same command goes on" in err and "--job-id j" in err
    assert main(["wait", "--out", str(tmp_path / "out"), "j", "--timeout", "0"]) == 6


def test_a_run_whose_reader_goes_away_renders_on_and_keeps_its_exit_code(tmp_path, settings, film):
    Path(film).write_text(FILM + FILM.replace("row_id: rain", "row_id: snow"))
    words = ["run", film, "--local", "--out", str(tmp_path / "out"), "--job-id", "j", *settings]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        assert " run " in driver.stdout.readline()
        driver.stdout.close()  # as `head -1` does
        assert driver.wait(60) == 0
    assert len(list((tmp_path / "out" / "films").glob("*.mp4"))) == 2
    assert main(["wait", "--out", str(tmp_path / "out"), "j", "--timeout", "0"]) == 0


def test_another_verb_whose_reader_is_gone_ends_without_a_word_but_not_with_0():
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", "manifest", "schema"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as schema:
        schema.stdout.close()
        assert schema.stderr.read() == b""
        assert schema.wait(60) == 141


def test_a_broken_pipe_that_is_not_stdout_is_an_error_like_any_other(monkeypatch, capsys):
    def fail(path):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("manifests.source.read_source", fail)
    assert main(["manifest", "convert", "a.yaml", "b.yaml"]) == 1
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 6), ("SIGINT", 130)])
@pytest.mark.parametrize("stuck", [False, True])
def test_a_driver_says_its_last_words_even_where_nothing_can_interrupt_it(name, code, stuck):
    program = (
        "import ctypes, os, signal, sys, threading\n"
        "from jobs.outcome import JobResult\n"
        "from jobs.signals import Stopped, stoppable\n"
        f"result = JobResult('j', 'cut', {code}, 1, 0, 0, 0, 0, 1.0, 'o', '', '')\n"
        "try:\n"
        "    with stoppable(lambda number: (f'stopped by {number}', result)):\n"
        f"        threading.Timer(0.2, os.kill, (os.getpid(), signal.{name})).start()\n"
        f"        if {stuck}:\n"  # as in a long computation: another thread gets the signal
        f"            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}])\n"
        "        ctypes.CDLL(None).sleep(30)\n"
        "except Stopped as stop:\n"
        "    print('LONGTAKE_RESULT', '{}')\n"
        f"    sys.exit({code})\n"
    )
    began = time.monotonic()
    done = python(program)
    assert done.returncode == code and time.monotonic() - began < 15
    assert last(done.stdout).get("status") == ("cut" if stuck else None)
    assert done.stderr == (f"stopped by {getattr(signal, name).value}\n" if stuck else "")


def test_a_stop_is_a_stop_also_when_a_library_makes_another_error_of_it(tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "from jobs import cli, drive\n"
        "def render(arguments, account, stopping):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(5)\n"
        "    except BaseException:\n"
        "        raise SystemError('returned a result with an exception set')\n"  # as ray.wait does
        "drive._render = render\n"
        f"sys.exit(cli.main(['run', 'm.yaml', '--local', '--out', {str(tmp_path)!r}]))\n"
    )
    done = python(program)
    assert done.returncode == 6 and last(done.stdout)["status"] == "cancelled"
    assert "SystemError" not in done.stderr
