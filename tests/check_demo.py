"""Judge the demo's films by ffprobe, not by our own readers: `python tests/check_demo.py out/demo`."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from PIL import Image

LANGUAGES = {"hi-IN": "hin", "ta-IN": "tam"}
SECONDS, SHOTS_AT_LEAST = 60, 5


def probe(film: Path) -> dict[str, list[dict]]:
    """What ffprobe says of each stream, by kind; pictures are counted by decoding them."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(film)]
    streams = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    kinds = {stream["codec_type"] for stream in streams}
    return {kind: [stream for stream in streams if stream["codec_type"] == kind] for kind in kinds}


def check_film(film: Path, language: str) -> None:
    """One video track of a minute within a frame, and tagged tracks of sound and captions."""
    streams = probe(film)
    (video,), (audio,), (captions,) = streams["video"], streams["audio"], streams["subtitle"]
    fps = Fraction(video["r_frame_rate"])
    frames = int(video["nb_read_frames"])
    assert video["codec_name"] == "h264", video["codec_name"]
    assert abs(frames - SECONDS * fps) <= 1, f"{film}: {frames} frames at {fps} a second"
    assert audio["tags"]["language"] == language, audio["tags"]
    assert captions["tags"]["language"] == language, captions["tags"]
    print(f"{film.name}: {frames} frames at {fps}/s, {video['width']}x{video['height']}, {language}")


def main(out: Path) -> None:
    """Check every language's film, the report and the contact sheet."""
    for tag, code in LANGUAGES.items():
        check_film(out / "films" / f"water-cycle.{tag}.mp4", code)
    assert (out / "results.parquet").is_file() and (out / "report" / "index.html").is_file()
    with Image.open(out / "report" / "sheets" / "water-cycle.jpg") as sheet:
        sheet.load()
        assert sheet.height > SHOTS_AT_LEAST * 40, sheet.size
    print("the demo's films are what README says")


main(Path(sys.argv[1]))
