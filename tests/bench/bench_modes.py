"""How a model's modes of stitching compare on long shots: colour drift, seams, and what is there at last.

    python tests/bench/bench_modes.py --out out/modes          half a minute of one core a shot

Shots of 20 s of scenes that are not meant to change, drawn by the embedded model in each mode, by the
product's own run: what is there already is not drawn again. Frames are measured as decoded, before any
correction and any encoder: drift as `longtake quality` has it, the worst of its four seam indices, and by the
oracle whether all objects of the scene, and their colours, are seen in the first, middle and last 4 seconds.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from cluster.local import LocalCrew
from cluster.once import found_file
from cluster.shots import ShotTask
from engine.chalk.captions import seeded_caption
from engine.chalk.oracle.reading import read
from engine.chalk.oracle.score import score
from engine.chalk.scenes import Figure, Landscape, Scene
from engine.families.loading import load_part
from engine.phases import MODES
from engine.quality.film import sample_indices
from engine.quality.frames import measure_frames
from engine.quality.scores import score as measure
from engine.tensors import from_bytes
from jobs.job import prepare
from jobs.quality import spans_of
from jobs.run import run
from jobs.spec import load_spec
from manifests.store import Store, open_store

SECONDS, FPS, SEEN = 20, 8, 33  # the last in frames
SCENES: tuple[Scene, ...] = (
    Landscape("sea", "shining", weather="vapour"),
    Landscape("hills", "", "grey", "still", "rain"),
    Landscape("mountains", "shining"),
    Landscape("river", "moon"),
    Landscape("hills", "", "white", "right"),
    Landscape("sea", "shining", "white", "still"),
    Figure("pendulum", "red", "swing"),
    Figure("heart", "red", "beat"),
    Figure("gears", "blue", "turn", True),
    Figure("planet", "green", "orbit", True),
)


class Quiet:
    """A show that shows nothing."""

    def begin(self, job: Any) -> None: ...
    def event(self, event: Any, state: Any) -> None: ...
    def film(self, film: Any) -> None: ...


def manifest_of(out: Path, seeds: list[int], modes: list[str], scenes: list[int]) -> Path:
    """A manifest of all shots, each a film in the profile of its mode."""
    rows = [
        {
            "row_id": f"{index}-{seed}-{mode}",
            "profile": mode,
            "seed": seed,
            "shots": [
                {
                    "shot_id": "one",
                    "prompt": seeded_caption(SCENES[index], "en", index),
                    "duration_s": SECONDS,
                }
            ],
        }
        for index in scenes
        for seed in seeds
        for mode in modes
    ]
    path = out / "modes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def frames_of(store: Store, task: ShotTask, family: Any) -> np.ndarray:
    """The shot's frames f_THWC, as decoded."""
    latents = from_bytes(store.read_artefact(found_file(store, "shot", task.key, "latents")))["latents"]
    return np.stack(list(family.frames(latents)))[: task.shot.n_frames]


def survivals(f_THWC: np.ndarray, scene: Scene) -> dict[str, list[bool]]:
    """Whether all objects, and all colours, of the scene are seen in the first, middle and last 4 s."""
    starts = (0, (len(f_THWC) - SEEN) // 2, len(f_THWC) - SEEN)
    parts = [score(read(f_THWC[start : start + SEEN]), scene).parts for start in starts]
    return {
        axis: [all(good for name, good in seen.items() if name.startswith(axis)) for seen in parts]
        for axis in ("object", "colour", "backdrop")
    }


def figures_of(f_THWC: np.ndarray, span: Any) -> dict[str, Any]:
    """Drift and the worst seam index."""
    seconds = sample_indices(len(f_THWC), FPS)
    scores = measure(span, measure_frames(iter(f_THWC), frozenset(seconds), frozenset()), FPS)
    indices = {name: index.ratio for name, index in scores.seam_index.items()}
    return {
        "drift": scores.drift.de_per_min,
        "end": scores.drift.de_end,
        "seam": max(indices.values()),
        "seams": indices,
    }


def measured(out: Path, seeds: list[int], modes: list[str], scenes: list[int]) -> Iterator[dict[str, Any]]:
    """Draw all shots, then measure one after another."""
    out.mkdir(parents=True, exist_ok=True)
    settings = [
        f"profiles.{mode}.{key}" for mode in modes for key in (f"window.mode={mode}", "quality.max_drift=0")
    ]
    job = prepare(str(manifest_of(out, seeds, modes, scenes)), load_spec(None, settings))
    run(job, str(out / "store"), LocalCrew, Quiet())
    store, family = open_store(str(out / "store")), None
    for film in job.films:
        (segment,) = film.master.segments
        family = family or load_part(Path(segment.source.model.folder), "vae", "float32")
        f_THWC = frames_of(store, segment.source, family)
        index, seed, mode = film.row_id.split("-")
        scene = SCENES[int(index)]
        known = {"scene": int(index), "seed": int(seed), "mode": mode}
        yield known | figures_of(f_THWC, spans_of([segment])[0]) | survivals(f_THWC, scene)


def told(rows: list[dict[str, Any]]) -> str:
    """A line a shot."""
    lines = [
        f"{'scene':>5} {'seed':>4} {'mode':<9}{'dE/min':>7}{'seam':>6}  objects, colours seen of 3 times"
    ]
    lines += [
        f"{row['scene']:>5} {row['seed']:>4} {row['mode']:<9}{row['drift']:>7.1f}{row['seam']:>6.2f}  "
        f"{sum(row['object'])}, {sum(row['colour'])}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Draw, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--modes", nargs="+", default=["skeleton", "extend"], choices=MODES)
    parser.add_argument("--scenes", type=int, nargs="+", default=list(range(len(SCENES))))
    options = parser.parse_args()
    rows = list(measured(options.out, options.seeds, options.modes, options.scenes))
    (options.out / "modes.json").write_text(json.dumps(rows, indent=1))
    print(told(rows))


if __name__ == "__main__":
    main()
