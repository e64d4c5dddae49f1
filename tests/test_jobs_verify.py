"""Claims about `longtake verify`: only a film of our own root, with not a byte changed, passes."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.film.encode import encode_segment
from engine.film.mux import mux_film
from engine.film.provenance import Claim, make_development_identity, sign
from jobs.cli import main

FPS, N_FRAMES = Fraction(8), 8


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with an identity in it."""
    folder = tmp_path_factory.mktemp("home")
    make_development_identity(folder)
    return folder


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory) -> Path:
    """A second of noise with a Hindi voice."""
    folder = tmp_path_factory.mktemp("film")
    frames = np.random.default_rng(0).integers(0, 256, (N_FRAMES, 64, 96, 3), dtype=np.uint8)
    encode_segment(frames, folder / "picture.mp4", FPS)
    sound = (np.zeros(24_000, np.float32), 24_000)
    out = folder / "unsigned.mp4"
    mux_film(folder / "picture.mp4", out, lang="hi-IN", title="", audio=sound, cues=[], fps=FPS)
    return out


@pytest.fixture(scope="module")
def signed(home, unsigned) -> Path:
    film = unsigned.with_name("signed.mp4")
    sign(unsigned, film, Claim("film", "0" * 64, "chalk", 1, ()), make_development_identity(home))
    return film


def checked(capsys, *words: object) -> tuple[int, list[dict]]:
    code = main(["verify", *map(str, words), "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_signed_film_passes_and_its_facts_are_read_from_the_file(home, signed, capsys):
    code, (film,) = checked(capsys, signed, "--identity", home)
    assert code == 0 and film["trusted"] and film["verdict"] == "signed and unaltered"
    assert (film["frames"], film["fps"], film["width_px"], film["height_px"]) == (N_FRAMES, "8", 96, 64)
    assert film["tracks"] == ["video und", "audio hin"]
    assert main(["verify", str(signed), "--identity", str(home)]) == 0
    assert "8 frames at 8/s, 96x64, video und, audio hin" in capsys.readouterr().out


def test_the_root_may_be_named_by_its_file(home, signed, capsys):
    assert checked(capsys, signed, "--root", home / "development-identity" / "root.pem")[0] == 0


def test_one_changed_byte_is_altered(home, signed, tmp_path, capsys):
    data = bytearray(signed.read_bytes())
    data[data.index(b"mdat") + 200] ^= 1
    (tmp_path / "altered.mp4").write_bytes(data)
    code, (film,) = checked(capsys, tmp_path / "altered.mp4", "--identity", home)
    assert code == 4 and film["verdict"].startswith("altered")
    assert "assertion.bmffHash.mismatch" in film["reasons"]


def test_an_unsigned_film_does_not_pass(home, unsigned, capsys):
    code, (film,) = checked(capsys, unsigned, "--identity", home)
    assert (code, film["verdict"]) == (4, "unsigned")


def test_another_root_does_not_pass_and_no_root_neither(signed, tmp_path, monkeypatch, capsys):
    make_development_identity(tmp_path)
    code, (film,) = checked(capsys, signed, "--identity", tmp_path)
    assert code == 4 and "another root" in film["verdict"]
    monkeypatch.setenv("HOME", str(tmp_path / "fresh"))
    code, (film,) = checked(capsys, signed)
    assert code == 4 and "no root" in film["verdict"]
    assert not (tmp_path / "fresh").exists()  # verifying makes no identity


def test_the_default_root_is_that_of_the_default_identity(home, signed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(home, tmp_path / ".local" / "share" / "longtake")
    assert checked(capsys, signed)[0] == 0


def test_one_bad_film_among_good_ones_fails_the_command(home, signed, unsigned, capsys):
    code, films = checked(capsys, signed, unsigned, "--identity", home)
    assert code == 4 and [film["trusted"] for film in films] == [True, False]


def test_an_absent_film_has_its_line_and_so_have_those_after_it(home, signed, tmp_path, capsys):
    films = [signed, tmp_path / "absent.mp4", tmp_path, signed]
    code, checks = checked(capsys, *films, "--identity", home)
    assert code == 2 and [film["trusted"] for film in checks] == [True, False, False, True]
    assert checks[1]["verdict"] == "cannot be read: No such file or directory"
    assert main(["verify", *map(str, films), "--identity", str(home)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines if line[0] != " "] == list(map(str, films))


def test_a_file_that_is_no_film_is_damaged_and_a_root_that_is_none_a_message(home, tmp_path, capsys):
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 100)
    code, (film,) = checked(capsys, tmp_path / "noise.mp4", "--identity", home)
    assert code == 4 and not film["trusted"] and film["frames"] is None
    assert main(["verify", str(tmp_path / "noise.mp4"), "--root", str(tmp_path / "noise.mp4")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
