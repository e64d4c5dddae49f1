"""README as a new user reads it: every command in it exists, and the first steps are taken as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block if line.strip()]
STEPS = [command for command in COMMANDS if command[0].endswith("longtake")]
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
IN_CI = (ROOT / ".ci" / "run").read_text()


def test_make_targets_exist_and_the_two_first_commands_run_in_ci():
    named = re.findall(r"make ([a-z]+)", README)
    assert set(named) <= set(TARGETS)
    for command in BLOCKS[0]:
        assert shlex.split(command, comments=True)[0] == "make"
        assert " ".join(shlex.split(command, comments=True)) in IN_CI


def test_the_steps_of_a_new_user_work_in_their_order(tmp_path, tiny_folder):
    quick = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=2"]
    verbs = [step[1] for step in STEPS]
    assert verbs == ["init", "validate", "plan", "run", "verify"]
    for step in STEPS:
        arguments = [part for word in step[1:] for part in spread(word, tmp_path)]
        arguments += quick if step[1] in ("validate", "plan", "run") else []
        arguments += ["--local"] if step[1] == "run" else []
        command = [sys.executable, "-m", "jobs", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=environment(tmp_path)
        )
        assert done.returncode == 0, f"{' '.join(step)}\n{done.stdout}\n{done.stderr}"
    assert len(list(tmp_path.glob("out/lessons/films/*.mp4"))) == 2


def spread(word: str, folder: Path) -> list[str]:
    """A word as the shell would hand it over."""
    return [str(path) for path in folder.glob(word)] if "*" in word else [word]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home)}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:[a-z0-9_]+/)+[A-Za-z0-9_./]*)`", README))))
def test_files_that_it_names_exist(path):
    outside = path.startswith(("..", "out/"))
    assert outside or (ROOT / path).exists(), f"README names {path}"


def test_its_pictures_exist():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size < 400_000 for picture in pictures)
