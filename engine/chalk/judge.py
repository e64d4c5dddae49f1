"""How well a folder of weights follows its captions: `python -m engine.chalk.judge --out FOLDER`.

Decides how held-out captions are sampled. Does not decide what a clip shows: the
`oracle` does.

Scenes are combinations that training never sees; a caption in Hindi or Tamil is of the same scene as the
English one, and starts from the same noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import CogVideoXPipeline

from engine.chalk.captions import LANGUAGES
from engine.chalk.clips import held_out_captions
from engine.chalk.model import GUIDANCE, WEIGHTS, diffusers_folder
from engine.chalk.oracle.table import Table, evaluate
from engine.chalk.progress import save_grid, side_by_side
from engine.chalk.teacher import SIZES
from engine.chalk.tokens import MAX_TOKENS

_BATCH = 10
_SHOWN = 48  # clips in the picture


def sample(
    pipeline: CogVideoXPipeline,
    captions: list[str],
    *,
    n_frames: int = 33,
    steps: int = 20,
    scale: float = GUIDANCE,
    size: tuple[int, int] = SIZES[0],
    seed: int = 0,
) -> Iterator[npt.NDArray[np.uint8]]:
    """The clip f_THWC of each caption, by the stock pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    for first in range(0, len(captions), _BATCH):
        batch = captions[first : first + _BATCH]
        frames = pipeline(
            prompt=batch, height=size[0], width=size[1], num_frames=n_frames, num_inference_steps=steps,
            guidance_scale=scale, max_sequence_length=MAX_TOKENS, output_type="np",
            generator=[torch.Generator().manual_seed(seed + first + i) for i in range(len(batch))],
        ).frames  # fmt: skip
        yield from (np.asarray(clip * 255).round().astype(np.uint8) for clip in frames)


def judge(pipeline: CogVideoXPipeline, language: str, n: int, out: Path) -> Table:
    """The oracle's table of n clips; writes out/<language>.json and a picture of the first clips."""
    pairs = held_out_captions(n, language)
    clips = list(sample(pipeline, [text for _, text in pairs]))
    table = evaluate(zip(clips, (scene for scene, _ in pairs), strict=True))
    out.mkdir(parents=True, exist_ok=True)
    once = table.once
    record = {
        name: {"right": count.right, "asked": count.asked, "once": round(once[name], 4)}
        for name, count in table.axes.items()
    }
    (out / f"{language}.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [f"{text}\n  {case.score.parts}\n" for (_, text), case in zip(pairs, table.cases, strict=True)]
    (out / f"{language}.txt").write_text(f"{table}\n\n" + "".join(lines))
    _draw(out / f"{language}.png", clips[:_SHOWN])
    return table


def _draw(path: Path, clips: list[npt.NDArray[np.uint8]], across: int = 4) -> None:
    """Three frames of each clip, `across` clips in a row."""
    cells = [side_by_side(clip, (0, len(clip) // 2, len(clip) - 1)) for clip in clips]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % across)
    rows = [np.concatenate(cells[i : i + across], axis=1) for i in range(0, len(cells), across)]
    save_grid(path, rows, zoom=1)


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each language."""
    parser = argparse.ArgumentParser(prog="python -m engine.chalk.judge", description=__doc__)
    parser.add_argument("--weights", type=diffusers_folder, default=WEIGHTS, help="diffusers folder")
    parser.add_argument("--captions", type=int, default=200, metavar="N")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES)
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and pictures")
    options = parser.parse_args(arguments)
    pipeline = CogVideoXPipeline.from_pretrained(str(options.weights), local_files_only=True)
    for language in options.languages:
        print(f"{language}: {judge(pipeline, language, options.captions, options.out)}\n", flush=True)


if __name__ == "__main__":
    main()
