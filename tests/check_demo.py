"""Judge the demo's films by ffprobe, not by our own readers, and by how well its windows join.

python tests/check_demo.py out/demo
"""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from PIL import Image

LANGUAGES = {"hi-IN": "hin", "ta-IN": "tam"}
SECONDS, SHOTS_AT_LEAST = 60, 5
MANIFEST = "jobs/examples/water_cycle.yaml"
CHANGES = "rain-falls"  # its prompt changes at its seam
STEADY = ("vapour-rises", "clouds-drift", "river-flows", "snow-at-night")  # no light or thing comes or goes


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


def check_quality(film: Path) -> None:
    """No seam is seen but where the prompt changes, none is soft, and what should stand still does."""
    program, plot = Path(sys.executable).parent / "longtake", film.parent.parent / "report" / "quality.png"
    command = [program, "quality", film, "--manifest", MANIFEST, "--plot", plot, "-o", "json"]
    shots = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["shots"]
    figures = {shot["shot"]: shot["figures"] for shot in shots}
    verdicts = {shot: {name: one["verdict"] for name, one in each.items()} for shot, each in figures.items()}
    seamed = [shot for shot, each in verdicts.items() if each["seam_difference"] and shot != CHANGES]
    assert len(seamed) == 5, verdicts
    for gate in ("seam_difference", "seam_second_difference", "seam_warp_error", "seam_jerk", "softness"):
        assert all(verdicts[shot][gate] == "ok" for shot in seamed), (gate, figures)
    assert all(verdicts[shot]["drift_de_per_min"] == "ok" for shot in STEADY), figures
    print(f"{film.name}: no seam seen in {len(seamed)} shots, no colour drift in {len(STEADY)} steady ones")


def main(out: Path) -> None:
    """Check every language's film, its quality, the report and the contact sheet."""
    for tag, code in LANGUAGES.items():
        check_film(out / "films" / f"water-cycle.{tag}.mp4", code)
    check_quality(out / "films" / "water-cycle.hi-IN.mp4")
    assert (out / "results.parquet").is_file() and (out / "report" / "index.html").is_file()
    with Image.open(out / "report" / "sheets" / "water-cycle.jpg") as sheet:
        sheet.load()
        assert sheet.height > SHOTS_AT_LEAST * 40, sheet.size
    print("the demo's films are what README says")


main(Path(sys.argv[1]))
