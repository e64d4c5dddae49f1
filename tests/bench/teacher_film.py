"""The demo as chalk's teacher draws it, without a model: what `longtake quality` says of a perfect film.

    python tests/bench/teacher_film.py out/teacher

A shot that is meant to change drifts here too, and where a prompt changes at a seam, more changes there than
inside windows: what the gates say of these shots is no fault of the model's.
"""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.chalk.scenes import Landscape
from engine.chalk.teacher import FPS, SIZES, draw
from engine.film.encode import encode_segment
from engine.film.scale import scaled

MANIFEST = "jobs/examples/water_cycle.yaml"
SHOTS = (
    (Landscape("sea", "rising"), 8),
    (Landscape("sea", "shining", weather="vapour"), 8),
    (Landscape("sea", "", "white", "appear"), 8),
    (Landscape("hills", "", "white", "right"), 7),
    (Landscape("mountains", "", "grey", "appear"), 9),
    (Landscape("river", "shining"), 7),
    (Landscape("mountains", "moon"), 6),
    (Landscape("sea", "shining", "white", "right", "vapour"), 7),
)
CHANGING, RAIN = 4, Landscape("mountains", "", "grey", "still", "rain")  # the fifth, from 3 to 4 s


def drawn(scene: Landscape, seconds: int) -> np.ndarray:
    """A composed clip f_THWC."""
    return draw(scene, np.random.default_rng(0), n_frames=seconds * FPS, size=SIZES[0], composed=True)


def shots() -> list[np.ndarray]:
    """All eight, the fifth fading into rain as its prompts do."""
    clips = [drawn(scene, seconds) for scene, seconds in SHOTS]
    before, after = clips[CHANGING], drawn(RAIN, SHOTS[CHANGING][1])
    u = np.clip((np.arange(len(before)) / FPS - 3.0) / 1.0, 0, 1)
    share = (np.sin(np.pi / 2 * u) ** 2)[:, None, None, None]
    clips[CHANGING] = (before * (1 - share) + after * share).round().astype(np.uint8)
    return clips


def main(out: Path) -> None:
    """Encode the film and print its table."""
    out.mkdir(parents=True, exist_ok=True)
    film = out / "water-cycle.hi-IN.mp4"
    frames = scaled((frame for clip in shots() for frame in clip), 384, 256)
    encode_segment(frames, film, Fraction(FPS), crf=18, preset="medium")
    subprocess.run([sys.executable, "-m", "jobs", "quality", str(film), "--manifest", MANIFEST], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
