"""python -m engine.chalk.oracle --teacher 300: how well the oracle reads the teacher's own clips.

Decides which clips are drawn for that. Does not decide how they are read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from engine.chalk.oracle.table import evaluate
from engine.chalk.scenes import Scene, random_scene
from engine.chalk.teacher import SIZES, draw

_N_FRAMES = 33


def teacher_clips(
    n: int,
    *,
    size: tuple[int, int] = SIZES[0],
    n_frames: int = _N_FRAMES,
    seed: int = 0,
    composed: bool = False,
) -> Iterator[tuple[npt.NDArray[np.uint8], Scene]]:
    """Clips of random scenes, also of combinations that training never sees."""
    for i in range(n):
        rng = np.random.default_rng((seed, i))
        scene = random_scene(rng)
        yield draw(scene, rng, n_frames=n_frames, size=size, composed=composed), scene


def main() -> None:
    """Print a table for every size."""
    parser = argparse.ArgumentParser(prog="python -m engine.chalk.oracle", description=__doc__)
    parser.add_argument("--teacher", type=int, default=300, metavar="N", help="clips of each size")
    parser.add_argument("--frames", type=int, default=_N_FRAMES, help="frames of a clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--composed", action="store_true", help="as the transformer learns them")
    parser.add_argument("--wrong", action="store_true", help="also print what was misread")
    args = parser.parse_args()
    for size in SIZES:
        options = {"size": size, "n_frames": args.frames, "seed": args.seed, "composed": args.composed}
        table = evaluate(teacher_clips(args.teacher, **options))
        print(f"{size[0]} x {size[1]}, {args.frames} frames: {table}\n")
        for case in table.wrong if args.wrong else ():
            print(f"{case.scene}\n  read as {case.reading}")


if __name__ == "__main__":
    main()
