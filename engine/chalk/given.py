"""Go on from given frames, or up to one: animate an image, extend a clip, end with a picture.

    python -m engine.chalk.given --from FILE [--frames N] [--to FILE] --prompt TEXT --out CLIP.png

Shapes: f_THWC bytes, z_BTCHW latents. Decides where given latents lie and that every step sees them without
noise, as in training (`train_transformer`, `train_last`). Does not decide how a step is predicted: the family
does, with chalk's adapter where a last picture is given.
"""

from __future__ import annotations

import argparse
import shutil
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from engine.chalk.clips import Clips
from engine.chalk.model import GUIDANCE, WEIGHTS
from engine.chalk.progress import save_grid, side_by_side
from engine.chalk.teacher import SIZES
from engine.chalk.tokens import MAX_TOKENS
from engine.decode import n_latent_frames
from engine.denoise import denoise_here
from engine.families.adapter_files import ENDING_FILE
from engine.families.adapters import adapt
from engine.families.cogvideox import CogVideoX
from engine.families.loading import new_canvas
from engine.film.join import video_stream
from engine.takes import CLIP, LAST
from engine.timeline import Part
from engine.windows import Window


def go_on(
    folder: Path,
    given_THWC: Clips | None,
    prompt: str,
    *,
    last_HWC: Clips | None = None,
    adapter: Path | None = None,
    n_frames: int = 33,
    n_steps: int = 20,
    guidance_scale: float = GUIDANCE,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """A clip of n_frames whose first frames are the given ones, as the autoencoder shows them.

    One frame is an image to animate; 5 or 9 are a clip to extend. Both numbers are 4 k + 1. With a last
    picture its last four frames are that, and it is drawn with the folder's adapter for such, or another one.
    Raises ValueError where the numbers are others, or where nothing is left to draw.
    """
    given, n_latent = _roles(given_THWC, last_HWC), n_latent_frames(n_frames)
    n_given = sum(n_latent_frames(len(each)) for each in given.values())
    if n_given >= n_latent:
        raise ValueError(f"{n_given} of {n_latent} latent frames are given: nothing is left to draw")
    file = adapter or folder / ENDING_FILE
    if LAST in given and not file.is_file():
        raise ValueError(f"{folder} was not taught to end with a picture: there is no {file}")
    family = CogVideoX.load(folder, dtype=torch.float32)
    begun = family.give(given, n_frames)
    shape = next(iter(begun.values())).shape[2:]
    canvas = new_canvas(
        folder, seed=seed, shot="given", n_frames=n_latent, frame_shape=shape, dtype="float32",
        n_steps=n_steps,
    )  # fmt: skip
    canvas.begin(begun)
    if LAST in given:
        adapt(family, [(file.stem, 1.0)], lambda _, path: shutil.copyfile(file, path))
    embeds, negative = (family.embed(text, MAX_TOKENS) for text in (prompt, ""))
    z_BTCHW = denoise_here(
        canvas,
        [Part(Window(0, n_latent), 0)],
        np.ones((1, n_latent)),
        lambda r: family.predict(r.latents, r.timestep, embeds, negative, guidance_scale),
    )
    return np.stack(list(family.frames(z_BTCHW)))


def _roles(given_THWC: Clips | None, last_HWC: Clips | None) -> dict[str, Clips]:
    """What is given, by the names of engine.takes. Raises ValueError where nothing is."""
    given = {} if given_THWC is None else {CLIP: given_THWC}
    given |= {} if last_HWC is None else {LAST: last_HWC[None]}
    if not given:
        raise ValueError("no frame is given: give first ones, a last picture, or both")
    return given


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
    parser.add_argument("--from", dest="file", type=Path, help="an image, or a film")
    parser.add_argument("--frames", type=int, default=1, choices=(1, 5, 9), help="of it that are given")
    parser.add_argument("--to", type=Path, help="an image that the clip ends with")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args(arguments)
    try:
        given = first_frames(options.file, options.frames) if options.file else None
        last = first_frames(options.to, 1)[0] if options.to else None
        f_THWC = go_on(WEIGHTS, given, options.prompt, last_HWC=last)
    except ValueError as error:
        parser.error(str(error))
    shown = np.linspace(0, len(f_THWC) - 1, 8).round().astype(int).tolist()
    save_grid(options.out, [side_by_side(f_THWC, shown)])


if __name__ == "__main__":
    main()
