"""A film as shots, and the prompts of a shot as weights over its latent frames. No torch.

F latent frames of a shot, n windows, s prompts, p parts. Ranges are half-open. Decides: how long a shot is in
latent frames, and how much every prompt weighs at each of them. Does not decide: where windows lie (windows)
or how predictions are summed (canvas).

A cut is the border of two shots: no window crosses it. Inside a shot prompts change by mixing predictions,
because token positions of two prompts do not correspond and their embeddings cannot be mixed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.windows import Weights, Window

AHEAD = 2  # latent frames behind those of whole periods


@dataclass(frozen=True)
class PromptSpan:
    """A prompt that holds from pixel frame `start` on, taking over during `blend` frames around it."""

    prompt: str
    start: int = 0
    blend: int = 0


@dataclass(frozen=True)
class Shot:
    """One take without a cut: `n_frames` pixel frames, shown by `prompts` in the order of their starts."""

    shot_id: str
    n_frames: int
    prompts: tuple[PromptSpan, ...]
    negative_prompt: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse spans that leave frames without a prompt or would overlap in their blends."""
        if self.n_frames < 1:
            raise ValueError(f"shot {self.shot_id}: n_frames={self.n_frames} frames, a shot has at least 1")
        if not self.prompts or self.prompts[0].start != 0:
            raise ValueError(f"shot {self.shot_id}: the first prompt must start at frame 0")
        edges = [0.0]
        for span in self.prompts[1:]:
            edges += [span.start - span.blend / 2, span.start + span.blend / 2]
        if any(a > b for a, b in itertools.pairwise(edges)) or edges[-1] > self.n_frames:
            spans = ", ".join(f"{span.start}±{span.blend / 2:g}" for span in self.prompts[1:])
            raise ValueError(
                f"shot {self.shot_id}: prompt changes at {spans} frames overlap or leave the shot's "
                f"{self.n_frames} frames"
            )


@dataclass(frozen=True)
class Part:
    """One prediction that a step needs: a window under one of the shot's prompts."""

    window: Window
    prompt: int


def delayed(shot: Shot, n_frames: int) -> Shot:
    """The shot with so many frames before it, which its first prompt covers too."""
    later = (replace(span, start=span.start + n_frames) for span in shot.prompts[1:])
    return replace(shot, n_frames=shot.n_frames + n_frames, prompts=(shot.prompts[0], *later))


def first_pixel(latent: int, c: int, period: int = 0) -> int:
    """The first pixel frame of a latent frame: 0, then 1, c + 1, 2 c + 1, ... (a causal VAE's layout).

    With a period, every so many latent frames another one is of a single pixel frame, as the first is.
    """
    single = -(-latent // period) if period else min(latent, 1)
    return c * latent - (c - 1) * single


def latent_frames(n_frames: int, c: int = 4, period: int = 0) -> int:
    """The least odd number of latent frames that decodes to at least `n_frames` pixel frames.

    Odd, because a causal VAE with pairs of latent frames decodes an even number to another layout
    (engine.decode); the surplus frames at the end are not shown. With one pixel frame to a latent frame any
    number will do. With a period, the least number of whole periods and the two latent frames that a decoder
    looks ahead.
    """
    if not period:
        least = -(-(n_frames - 1) // c) + 1
        return least + (least % 2 == 0 and c > 1)
    ahead = first_pixel(AHEAD, c, period)
    periods = -(-(n_frames - ahead) // first_pixel(period, c, period))
    return period * max(periods, 1) + AHEAD


def prompt_weights(shot: Shot, n_latent: int, c: int = 4, period: int = 0, n_before: int = 0) -> Weights:
    """Weights (s, F) of the shot's prompts at every latent frame; each column sums to one.

    Raised-cosine cross-fades in time, as differences of smooth steps: they telescope to one. A latent frame
    stands at the mean time of its pixel frames. Those of n_before latent frames before the first are its.
    """
    starts = np.array([first_pixel(latent, c, period) for latent in range(n_latent + 1)])
    time = np.pad((starts[:-1] + starts[1:] - 1) / 2, (n_before, 0), "edge")
    steps = [np.ones(n_before + n_latent)]
    for span in shot.prompts[1:]:
        u = (time - span.start) / span.blend + 0.5 if span.blend else (time >= span.start).astype(float)
        steps.append(np.sin(np.pi / 2 * np.clip(u, 0.0, 1.0)) ** 2)
    return np.asarray(-np.diff(np.stack([*steps, np.zeros(n_before + n_latent)]), axis=0), dtype=np.float64)


def parts_of(
    windows: Sequence[Window], window_weights: Weights, prompts: Weights
) -> tuple[tuple[Part, ...], Weights]:
    """The predictions that every step needs, and their weights (p, F); columns still sum to one.

    A window is predicted once for every prompt that has weight inside it; with one prompt the windows and
    their weights come back as they are.
    """
    products = [
        (Part(window, s), row * share)
        for window, row in zip(windows, window_weights, strict=True)
        for s, share in enumerate(prompts)
    ]
    kept = [(part, row) for part, row in products if row.any()]
    return tuple(part for part, _ in kept), np.stack([row for _, row in kept])
