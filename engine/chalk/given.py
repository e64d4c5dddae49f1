"""Go on from given frames: animate an image, or extend a clip, with chalk's own weights.

    python -m engine.chalk.given --from FILE [--frames N] --prompt TEXT --out CLIP.png

Shapes: f_THWC bytes, z_BTCHW latents. Decides where given latents lie and that every step sees them without
noise, as in training (`train_transformer`). Does not decide how a step is predicted: the family does.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from engine.chalk.clips import Clips
from engine.chalk.latents import encode
from engine.chalk.model import GUIDANCE, WEIGHTS
from engine.chalk.progress import save_grid, side_by_side
from engine.chalk.teacher import SIZES
from engine.chalk.tokens import MAX_TOKENS
from engine.decode import n_latent_frames
from engine.denoise import denoise_here
from engine.families.cogvideox import CogVideoX
from engine.families.loading import new_canvas
from engine.film.join import video_stream
from engine.takes import BEGINNING
from engine.timeline import Part
from engine.windows import Window


def go_on(
    folder: Path,
    given_THWC: Clips,
    prompt: str,
    *,
    n_frames: int = 33,
    n_steps: int = 20,
    guidance_scale: float = GUIDANCE,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """A clip of n_frames whose first frames are the given ones, as the autoencoder shows them.

    One frame is an image to animate; 5 or 9 are a clip to extend. Both numbers are 4 k + 1. Raises ValueError
    where they are not, or where nothing is left to draw.
    """
    n_given, n_latent = n_latent_frames(len(given_THWC)), n_latent_frames(n_frames)
    if n_given >= n_latent:
        raise ValueError(
            f"{len(given_THWC)} frames are given of a clip of {n_frames}: nothing is left to draw"
        )
    family = CogVideoX.load(folder, dtype=torch.float32)
    z_given = encode(family.pipeline.vae, given_THWC[None])
    canvas = new_canvas(
        folder, seed=seed, shot="given", n_frames=n_latent, frame_shape=z_given.shape[2:], dtype="float32",
        n_steps=n_steps,
    )  # fmt: skip
    canvas.begin({BEGINNING: z_given})
    embeds, negative = (family.embed(text, MAX_TOKENS) for text in (prompt, ""))
    z_BTCHW = denoise_here(
        canvas,
        [Part(Window(0, n_latent), 0)],
        np.ones((1, n_latent)),
        lambda r: family.predict(r.latents, r.timestep, embeds, negative, guidance_scale),
    )
    return np.stack(list(family.frames(z_BTCHW)))


def first_frames(path: Path, n: int) -> Clips:
    """The first n frames (n, H, W, 3) of an image or a film, at chalk's main size.

    Raises ValueError where the file holds no or too few pictures.
    """
    height, width = SIZES[0]
    try:
        with av.open(str(path)) as film:
            pictures = [
                frame.reformat(width, height, "rgb24").to_ndarray()
                for frame in islice(film.decode(video_stream(film, path)), n)
            ]
    except av.FFmpegError as error:
        raise ValueError(f"{path} is no image or film that can be read: {error}") from error
    if len(pictures) < n:
        raise ValueError(f"{path} has {len(pictures)} frames, and {n} are to be given: ask for fewer")
    return np.stack(pictures)


def main(arguments: list[str] | None = None) -> None:
    """Write eight frames of what follows the given ones as one picture."""
    parser = argparse.ArgumentParser(prog="python -m engine.chalk.given", description=__doc__)
    parser.add_argument("--from", dest="file", type=Path, required=True, help="an image, or a film")
    parser.add_argument("--frames", type=int, default=1, choices=(1, 5, 9), help="of it that are given")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args(arguments)
    try:
        f_THWC = go_on(WEIGHTS, first_frames(options.file, options.frames), options.prompt)
    except ValueError as error:
        parser.error(str(error))
    shown = np.linspace(0, len(f_THWC) - 1, 8).round().astype(int).tolist()
    save_grid(options.out, [side_by_side(f_THWC, shown)])


if __name__ == "__main__":
    main()
