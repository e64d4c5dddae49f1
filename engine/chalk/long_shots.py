"""Do the objects survive a shot of 20 seconds? `python -m engine.chalk.long_shots --out FOLDER`.

Decides which shots are drawn (one of each land, and figures whose motion never ends) and where they are
looked at: at their start, middle and end. They are drawn by the engine's own windows and blending, since no
model here draws 20 seconds at once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.chalk.captions import caption
from engine.chalk.model import GUIDANCE, WEIGHTS, diffusers_folder
from engine.chalk.oracle.reading import read
from engine.chalk.oracle.score import score
from engine.chalk.progress import save_grid, side_by_side
from engine.chalk.scenes import Figure, Landscape, Scene
from engine.chalk.teacher import FPS, SIZES
from engine.chalk.tokens import MAX_TOKENS
from engine.denoise import denoise_here
from engine.families.cogvideox import CogVideoX
from engine.families.loading import new_canvas
from engine.timeline import Part, latent_frames
from engine.windows import blend_weights, plan_windows

SECONDS = 20
SCENES: tuple[Scene, ...] = (
    Landscape("sea", "shining", weather="vapour"),
    Landscape("hills", "", "grey", "still", "rain"),
    Landscape("mountains", "shining"),
    Landscape("river", "moon"),
    Figure("pendulum", "red", "swing"),
    Figure("heart", "red", "beat"),
    Figure("gears", "blue", "turn", True),
    Figure("planet", "green", "orbit", True),
)
_WINDOW, _OVERLAP, _SEEN = 13, 4, 33  # latent frames, latent frames, pixel frames


def draw_shot(
    family: CogVideoX, folder: Path, prompt: str, *, n_frames: int, n_steps: int = 20, scale: float = GUIDANCE
) -> npt.NDArray[np.uint8]:
    """n_frames of one shot f_THWC, in blended windows of the trained length."""
    n_latent, (height, width) = latent_frames(n_frames), SIZES[0]
    factor = family.pipeline.vae_scale_factor_spatial
    shape = (family.transformer.config.in_channels, height // factor, width // factor)
    canvas = new_canvas(
        folder, seed=0, shot=prompt, n_frames=n_latent, frame_shape=shape, dtype="float32", n_steps=n_steps
    )
    windows = plan_windows(n_latent, _WINDOW, _OVERLAP)
    embeds, negative = (family.embed(text, MAX_TOKENS) for text in (prompt, ""))
    z_BTCHW = denoise_here(
        canvas,
        [Part(window, 0) for window in windows],
        blend_weights(windows, n_latent),
        lambda r: family.predict(r.latents, r.timestep, embeds, negative, scale),
    )
    return np.stack(list(family.frames(z_BTCHW)))[:n_frames]


def survivals(f_THWC: npt.NDArray[np.uint8], scene: Scene) -> list[bool]:
    """Whether all that the scene holds is seen in the first, the middle and the last 4 seconds.

    Something that is seen beside it, such as vapour that was not asked for, does not count.
    """
    starts = (0, (len(f_THWC) - _SEEN) // 2, len(f_THWC) - _SEEN)
    parts = [score(read(f_THWC[start : start + _SEEN]), scene).parts for start in starts]
    return [all(seen[f"object.{name}"] for name in _held(scene)) for seen in parts]


def _held(scene: Scene) -> list[str]:
    """The kinds of objects that the scene holds, as the score names them."""
    if isinstance(scene, Figure):
        return ["figure"]
    held = {"land": scene.land, "light": scene.light, "clouds": scene.cloud, "weather": scene.weather}
    return [name for name, thing in held.items() if thing]


def main(arguments: list[str] | None = None) -> None:
    """Draw every shot, say where its object was seen, and leave a picture of each."""
    parser = argparse.ArgumentParser(prog="python -m engine.chalk.long_shots", description=__doc__)
    parser.add_argument("--weights", type=diffusers_folder, default=WEIGHTS, help="diffusers folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the record and the picture")
    options = parser.parse_args(arguments)
    family, record, rows = CogVideoX.load(options.weights, dtype=torch.float32), {}, []
    for index, scene in enumerate(SCENES):
        prompt = caption(scene, "en", np.random.default_rng(index))
        f_THWC = draw_shot(family, options.weights, prompt, n_frames=SECONDS * FPS)
        record[prompt] = survivals(f_THWC, scene)
        print(f"{prompt}: seen at start, middle, end: {record[prompt]}", flush=True)
        rows.append(side_by_side(f_THWC, np.linspace(0, len(f_THWC) - 1, 8).astype(int).tolist()))
    save_grid(options.out / "long_shots.png", rows, zoom=1)
    (options.out / "long_shots.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
