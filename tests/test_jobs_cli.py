"""Claims about the command line, as a person starts it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
GOOD = """
- row_id: water-cycle
  title: The water cycle
  profile: draft
  width_px: 480
  height_px: 320
  fps_num: 8
  fps_den: 1
  shots:
    - {shot_id: s1, prompt: rain falls on blue waves, duration_s: 4.0}
  languages:
    - {lang: hi-IN, title: जल चक्र}
"""


def longtake(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_good_manifest_is_valid_also_after_conversion_to_parquet(tmp_path):
    (tmp_path / "m.yaml").write_text(GOOD)
    assert longtake("convert", tmp_path / "m.yaml", tmp_path / "m.parquet").returncode == 0
    done = longtake("validate", tmp_path / "m.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rows, all valid" in done.stdout


def test_a_faulty_row_exits_3_and_names_code_row_and_field(tmp_path):
    (tmp_path / "m.yaml").write_text(GOOD.replace("4.0", "-4.0").replace("480", "481"))
    done = longtake("validate", tmp_path / "m.yaml", "-o", "json")
    assert done.returncode == 3
    findings = json.loads(done.stdout)
    assert {f["row_id"] for f in findings} == {"water-cycle"}
    assert any(f["json_path"] == "/shots/0/duration_s" for f in findings)
    assert any("481" in f["message"] for f in findings)


def test_a_file_that_is_no_manifest_is_one_message_and_no_traceback(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"not a table")
    for path in (tmp_path / "m.parquet", tmp_path / "absent.parquet"):
        done = longtake("validate", path)
        assert done.returncode == 3
        assert str(path) in done.stderr and "Traceback" not in done.stderr


def test_no_verb_is_a_usage_error():
    assert longtake().returncode == 2
