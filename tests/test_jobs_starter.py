"""A manifest in another form is a new file, whole or absent."""

from pathlib import Path

import pytest

from jobs.cli import main
from manifests.source import read_source


@pytest.mark.parametrize("suffix", ["parquet", "yaml", "jsonl", "csv"])
def test_convert_leaves_an_existing_target_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    source, target = tmp_path / "m.yaml", tmp_path / f"out.{suffix}"
    source.write_text("- {row_id: a, profile: p}\n", encoding="utf-8")
    assert main(["manifest", "convert", str(source), str(target)]) == 0
    assert read_source(str(target)).table.column("profile").to_pylist() == ["p"]
    before = target.read_bytes()
    source.write_text("- {row_id: b}\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["manifest", "convert", str(source), str(target)]) == 2
    told = capsys.readouterr()
    assert (
        told.err == f"longtake: {target} exists, and is left as it is: name another place\n" and not told.out
    )
    assert target.read_bytes() == before


def test_convert_onto_its_own_source_keeps_it(tmp_path: Path) -> None:
    source = tmp_path / "m.yaml"
    source.write_text("# my notes\n- {row_id: a}\n", encoding="utf-8")
    assert main(["manifest", "convert", str(source), str(source)]) == 2
    assert source.read_text(encoding="utf-8") == "# my notes\n- {row_id: a}\n"


@pytest.mark.parametrize("suffix", ["parquet", "yaml", "jsonl", "csv"])
def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = tmp_path / "m.yaml", tmp_path / "out"
    source.write_text("- {row_id: a}\n", encoding="utf-8")
    folder.mkdir()

    def full(*places: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(["manifest", "convert", str(source), str(folder / f"m.{suffix}")]) == 2
    assert "No space left on device" in capsys.readouterr().err and list(folder.iterdir()) == []
