"""One shot of a folder's model in this process, for parity tests: its canvas, its texts, its windows."""

import torch

from engine.denoise import denoise_here
from engine.families.facts import read_facts
from engine.families.loading import load_part, new_canvas
from engine.takes import BESIDE, CANVAS
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows

SEED, STEPS, WINDOW, OVERLAP = 5, 4, 3, 2  # latent frames; a longer shot has several windows


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def open_canvas(folder, size, dtype, n_frames=WINDOW, layout="stock", made=None, step=0, **more):
    """A canvas for pictures of `size`, rows and columns in pixels, that begins with what was `made`."""
    facts = read_facts(folder)
    canvas = new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, dtype=name_of(dtype), n_steps=STEPS, layout=layout,
        window=WINDOW, frame_shape=(facts.latent_channels, *(n // facts.spatial_compression for n in size)),
        **more,
    )  # fmt: skip
    canvas.begin({name: x for name, x in (made or {}).items() if name in CANVAS}, step)
    return canvas


def embeds_of(folder, dtype, texts, length):
    text = load_part(folder, "text", name_of(dtype))
    return [text.embed(words, length) for words in texts]


def given_of(folder, dtype, given, n_frames):
    """What pictures and clips become, f_THWC by role."""
    return load_part(folder, "given", name_of(dtype)).give(given, n_frames)


def answers(family, embeds, scale, made=None):
    """What predicts a request: the family, under both texts and what was `made` of pictures beside them."""
    added = {name: x for name, x in (made or {}).items() if name not in CANVAS}

    def predict(request):
        beside = {} if request.beside is None else {BESIDE: request.beside}
        texts = [{**text, **added, **beside} for text in embeds]
        return family.predict(request.latents, request.timestep, *texts, scale)

    return predict


def denoise(canvas, predict, until=None):
    windows = plan_windows(canvas.n_frames, WINDOW, OVERLAP)
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(canvas, [Part(window, 0) for window in windows], weights, predict, until)


def ours(folder, size, dtype, embeds, scale, made=None):
    """Latents z_BTCHW of one window, of noise as stock lays it out."""
    family = load_part(folder, "transformer", name_of(dtype))
    return denoise(open_canvas(folder, size, dtype, made=made), answers(family, embeds, scale, made))


def check_resume(folder, size, embeds, scale, made=None):
    """A shot of several windows that is left at a step and taken up again has the same bits."""
    predict = answers(load_part(folder, "transformer", "float32"), embeds, scale, made)
    whole, half, again = (
        open_canvas(folder, size, torch.float32, 7, "keyed", made) for _ in range(3)
    )  # fmt: skip
    denoise(half, predict, until=2)
    again.restore(half.checkpoint())
    latents = denoise(whole, predict)
    assert torch.equal(denoise(again, predict), latents) and torch.isfinite(latents).all()
    return latents
