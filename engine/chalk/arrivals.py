"""Does chalk end with the picture that it is given? `python -m engine.chalk.arrivals --out FOLDER`.

Shapes: f_THWC bytes. Decides which films are drawn, between which pictures, and how an arrival is measured.
Does not decide how they are drawn: `given` does.

The pictures are the first and the last of clips that the teacher draws of scenes that training never saw,
their things standing anywhere; some more are pairs that no clip of the teacher's leads between.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from engine.chalk.clips import Clips, held_out_captions
from engine.chalk.given import go_on
from engine.chalk.model import WEIGHTS, diffusers_folder
from engine.chalk.progress import save_grid, side_by_side
from engine.chalk.scenes import Figure, Landscape, Scene
from engine.chalk.teacher import SIZES, draw
from engine.families.adapter_files import ENDING_FILE

N_FRAMES, HELD_OUT = 49, 8
UNLIKE = 2.0  # mean absolute difference of bytes between a film's two pictures, or more
_END = 5  # steps between frames over which a jump at the end would show: into the last latent, and in it
# Pictures that no clip of the teacher's leads between, each with a prompt that names both.
FAR: tuple[tuple[str, Scene, Scene], ...] = (
    ("the sun rises over the sea", Landscape("sea", "rising"), Landscape("sea", "shining")),
    ("the moon and stars shine at night over green hills", Landscape("hills"), Landscape("hills", "moon")),
    ("a red circle moves right", Figure("circle", "red", "right"), Figure("circle", "red", "up")),
    ("a red ball bounces", Figure("ball", "red", "bounce"), Figure("ball", "red", "bounce", True)),
)


@dataclass(frozen=True)
class Journey:
    """A film to draw: what it is called, its first picture (1, H, W, 3) and its last (H, W, 3)."""

    prompt: str
    first: Clips
    last: Clips


@dataclass(frozen=True)
class Arrival:
    """How near the last frame of a film is to its picture, and how it came there.

    psnr_db and delta_e (CIE76, the mean over pixels) are of the last frame. jump is the largest mean absolute
    difference between frames beside each other over the last five steps, in medians of those of the film;
    usual is the same over all other steps.
    """

    psnr_db: float
    delta_e: float
    jump: float
    usual: float


def arrival(f_THWC: npt.NDArray[np.uint8], picture_HWC: npt.NDArray[np.uint8]) -> Arrival:
    """Measure a film that was given this last picture."""
    shown, asked = (each.astype(np.float32) / 255 for each in (f_THWC[-1], picture_HWC))
    lab, wanted = (cv2.cvtColor(each, cv2.COLOR_RGB2LAB) for each in (shown, asked))
    steps = np.abs(np.diff(f_THWC.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    usual = max(float(np.median(steps)), 1e-3)
    return Arrival(
        round(float(-10 * np.log10(max(np.square(shown - asked).mean(), 1e-10))), 2),
        round(float(np.linalg.norm(lab - wanted, axis=-1).mean()), 2),
        round(float(steps[-_END:].max()) / usual, 2),
        round(float(steps[:-_END].max()) / usual, 2),
    )


def journeys() -> list[Journey]:
    """The films: of scenes that training never saw and that end otherwise than they begin, then far ones."""
    found: dict[Scene, Journey] = {}
    for seed, (scene, text) in enumerate(held_out_captions(200, "en")):
        clip = draw(scene, np.random.default_rng(seed), n_frames=N_FRAMES, size=SIZES[0])
        if np.abs(clip[-1].astype(int) - clip[0]).mean() > UNLIKE:
            found.setdefault(scene, Journey(text, clip[:1], clip[-1]))
        if len(found) == HELD_OUT:
            break
    return [*found.values(), *_far()]


def _far() -> list[Journey]:
    found = []
    for text, start, end in FAR:
        pictures = [
            draw(scene, np.random.default_rng(0), n_frames=N_FRAMES, size=SIZES[0], composed=True)
            for scene in (start, end)
        ]
        found.append(Journey(text, pictures[0][:1], pictures[1][-1]))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Draw every film, with its first picture and without; write figures and pictures."""
    parser = argparse.ArgumentParser(prog="python -m engine.chalk.arrivals", description=__doc__)
    parser.add_argument("--weights", type=diffusers_folder, default=WEIGHTS, help="diffusers folder")
    parser.add_argument("--adapter", type=Path, help="another one than the folder's")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures and the pictures")
    options = parser.parse_args(arguments)
    if not (options.adapter or options.weights / ENDING_FILE).is_file():
        parser.error(f"{options.weights} has no {ENDING_FILE}: name one by --adapter")
    options.out.mkdir(parents=True, exist_ok=True)
    record: dict[str, list[dict[str, object]]] = {}
    for begun in (True, False):
        name, rows = "both" if begun else "last", []
        for journey in journeys():
            first = journey.first if begun else None
            film = go_on(
                options.weights, first, journey.prompt, n_frames=N_FRAMES, last_HWC=journey.last,
                adapter=options.adapter,
            )  # fmt: skip
            figures = asdict(arrival(film, journey.last))
            record.setdefault(name, []).append({"prompt": journey.prompt, **figures})
            print(f"{name}: {journey.prompt}: {figures}", flush=True)
            shown = side_by_side(film, [*range(0, 40, 8), *range(40, N_FRAMES, 2)])
            rows.append(np.concatenate([journey.first[0], shown, journey.last], axis=1))
        save_grid(options.out / f"{name}.png", rows)
    (options.out / "arrivals.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
