"""Draw README's picture from the demo: `.venv/bin/python docs/draw.py out/demo docs/water-cycle.jpg`."""

import itertools
import sys
from pathlib import Path

import av
from PIL import Image

COLUMNS, WIDTH, GAP = 4, 300, 6
FILM = "films/water-cycle.hi-IN.mp4"
STARTS = (0, 64, 128, 192, 248, 320, 376, 424, 480)  # of the film's shots, in frames


def draw(out: Path, picture: Path) -> None:
    """One frame of every shot; the first where the title stands, the others two thirds in."""
    wanted = [12, *(a + (b - a) * 2 // 3 for a, b in itertools.pairwise(STARTS[1:]))]
    with av.open(out / FILM) as film:
        frames = [frame.to_image() for i, frame in enumerate(film.decode(video=0)) if i in wanted]
    height = WIDTH * frames[0].height // frames[0].width
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for i, frame in enumerate(frames):
        place = (i % COLUMNS * (WIDTH + GAP), i // COLUMNS * (height + GAP))
        sheet.paste(frame.resize((WIDTH, height), Image.Resampling.LANCZOS), place)
    sheet.save(picture, quality=88)


draw(Path(sys.argv[1]), Path(sys.argv[2]))
