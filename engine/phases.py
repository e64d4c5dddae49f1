"""How a shot longer than a window is stitched: the phases in which its latents come about. No torch.

F latent frames of a shot, L of a window, T of a phase's canvas, s prompts, p parts. Decides: which frames a
phase draws, from what it goes on, in which windows, over which steps; and which mode suits a shot.
Does not decide: how latents go from one phase to the next (stitch) or where predictions are made (cluster).

    blend     one canvas of all frames, in overlapping windows that are blended at every step
    skeleton  a draft of one window whose frames are spread over the shot, then windows that go on from it
    extend    window after window, each going on from the last frames of the one before
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.cache import EVERY_STEP, StepCache
from engine.timeline import Part, parts_of
from engine.windows import Layout, Weights, Window, blend_weights

MODES = ("blend", "skeleton", "extend")
NOISES = ("keyed", "freenoise")
BLENDED = 3  # windows up to which blending alone serves: research/stitching.md, section 5


@dataclass(frozen=True)
class Stitch:
    """How one shot is stitched. `why` is for people: it changes no picture.

    `noise` says what blended canvases begin from: noise of each frame's own ("keyed"), or that of the first
    window shuffled again and again ("freenoise"). `first_step` is the scheduler's step at which windows take
    over from a draft, or where the shot redraws a clip, from that.
    """

    mode: str = "blend"
    noise: str = "keyed"
    first_step: int = 0
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> list[str | int]:
        """What changes a picture."""
        return [self.mode, self.noise, self.first_step]


BLEND = Stitch()


def choose_mode(n_windows: int, given_latents: int, blends_only: str = "") -> tuple[str, str]:
    """The mode that suits a shot, and the reason in a line.

    n_windows is how many windows of the trained length it takes, given_latents the most first latent frames
    that the model was taught to go on from, 0 for none; blends_only is why it can be blended only, if so.
    """
    if n_windows == 1:
        return "blend", "one window"
    if n_windows <= BLENDED:
        return "blend", f"at most {BLENDED} windows, which blending holds together"
    if blends_only:
        return "blend", blends_only
    if given_latents:
        return "extend", f"more than {BLENDED} windows, and the model was taught to go on from given latents"
    return (
        "skeleton",
        f"more than {BLENDED} windows, and the model was not taught to go on from given latents",
    )


@dataclass(frozen=True, eq=False)
class Phase:
    """One canvas of a shot: `frames` of the shot that its T latent frames stand for, in their order.

    It is denoised in `parts` with weights (p, T) over n_steps steps of the scheduler, its last ones. From
    first_step 0 it begins as noise; from a later one as the latents of the phase before, spread over its
    frames, or as a clip that is given. The first `held` frames are the last that the phases before left, and
    stay free of noise. `cache` says which of its steps are skipped.
    """

    frames: tuple[int, ...]
    parts: tuple[Part, ...]
    weights: Weights
    n_steps: int
    first_step: int = 0
    held: int = 0
    cache: StepCache = EVERY_STEP

    @property
    def predicted(self) -> list[int]:
        """Its steps that are predicted."""
        return [step for step in range(self.n_steps) if not self.cache.skips(step, self.n_steps)]

    def n_predicted(self, before: int | None = None) -> int:
        """How many of its steps are predicted; of those `before` a step of the scheduler only, if given."""
        return self.cache.n_predicted(self.n_steps, None if before is None else before - self.first_step)


@dataclass(frozen=True)
class Course:
    """A shot's steps, counted through all its phases, and how many predictions each of them needs.

    `legs` is (steps, predictions of each step) for every phase in turn; steps that a cache skips are none.
    `batch` predictions of a step are one part, that is one forward: the first ones, the next ones, and at
    last those that are left. So the shot alone says which share a forward, never who was idle when: in other
    company they may round otherwise.
    """

    legs: tuple[tuple[int, int], ...]
    batch: int = 1

    @property
    def n_steps(self) -> int:
        """Steps of all phases."""
        return sum(steps for steps, _ in self.legs)

    @property
    def n_slots(self) -> int:
        """The most parts that any step has."""
        return max(self._parts(n) for _, n in self.legs)

    @property
    def widest(self) -> int:
        """The most predictions of any part, that is windows of any forward."""
        return min(self.batch, max(n for _, n in self.legs))

    @property
    def n_windows(self) -> int:
        """Predictions of one step of every phase."""
        return sum(n for _, n in self.legs)

    @property
    def n_predictions(self) -> int:
        """Predictions of all steps."""
        return self.before(self.n_steps)

    def parts_at(self, step: int) -> range:
        """The parts of a step, by number. Raises IndexError for a step that is none."""
        return range(self._parts(self._predictions_at(step)))

    def predictions_of(self, step: int, part: int) -> range:
        """The predictions of a step that one of its parts is, by number. Raises IndexError as parts_at."""
        first = part * self.batch
        return range(first, min(first + self.batch, self._predictions_at(step)))

    def before(self, step: int) -> int:
        """How many predictions the steps before this one need."""
        total = 0
        for steps, n in self.legs:
            total += min(max(step, 0), steps) * n
            step -= steps
        return total

    def _predictions_at(self, step: int) -> int:
        for steps, n in self.legs:
            if 0 <= step < steps:
                return n
            step -= steps
        raise IndexError(f"the shot has {self.n_steps} steps")

    def _parts(self, n_predictions: int) -> int:
        return -(-n_predictions // self.batch)


def course_of(phases: Sequence[Phase], batch: int = 1) -> Course:
    """How many predictions the steps of these phases need, `batch` of them in one forward."""
    return Course(tuple((phase.n_predicted(), len(phase.parts)) for phase in phases), batch)


def phases_of(layout: Layout, prompts: Weights, n_steps: int, stitch: Stitch) -> tuple[Phase, ...]:
    """The phases of a canvas of F latent frames, n_steps each but where a draft saves some.

    prompts are the weights (s, F) of the shot's prompts. One window is one phase, alike in every mode. Raises
    ValueError for a mode that there is not, and where the numbers make no layout.
    """
    if stitch.mode not in MODES:
        raise ValueError(f"no mode {stitch.mode!r} of stitching: there are {', '.join(MODES)}")
    n_frames = prompts.shape[1]
    if stitch.mode == "blend":
        return (_blended(layout, prompts, n_steps, stitch.first_step),)
    if n_frames <= layout.size:
        return (_blended(layout, prompts, n_steps),)
    if stitch.mode == "skeleton":
        if not 0 < stitch.first_step < n_steps:
            raise ValueError(f"first_step={stitch.first_step} must lie in 1 to {n_steps - 1}")
        draft = _one_window(spread(n_frames, layout.size), prompts, n_steps)
        return draft, _blended(layout, prompts, n_steps, stitch.first_step)
    return tuple(
        _one_window(range(at, at + layout.size), prompts, n_steps, held=layout.overlap if at else 0)
        for at in extend_starts(n_frames, layout.size, layout.overlap)
    )


def spread(n_frames: int, size: int) -> tuple[int, ...]:
    """`size` frames spread evenly over [0, n_frames), the first and the last among them."""
    if size < 2:
        raise ValueError(f"size={size} latent frame cannot be spread over a shot: give at least 2")
    last, gaps = n_frames - 1, size - 1
    return tuple((2 * k * last + gaps) // (2 * gaps) for k in range(size))  # rounded, in integers


def extend_starts(n_frames: int, size: int, overlap: int) -> tuple[int, ...]:
    """Where windows that go on from each other begin.

    All share exactly `overlap` frames with the one before, as many as the model is given, and have the
    trained length: the last may reach beyond the shot, and what does is dropped.
    """
    if not 0 < overlap < size:
        raise ValueError(f"overlap={overlap} latent frames must lie in [1, size={size})")
    return tuple(range(0, max(n_frames - overlap, 1), size - overlap))


def shown_weights(layout: Layout, n_frames: int, stitch: Stitch) -> Weights:
    """Weights (n, F) by which windows made what is shown of each latent frame; columns sum to one."""
    if stitch.mode != "extend" or n_frames <= layout.size:
        return blend_weights(layout.windows(n_frames), n_frames, layout.lead_in)
    overlap = layout.overlap
    starts = extend_starts(n_frames, layout.size, overlap)
    first_new = [0, *(start + overlap for start in starts[1:]), n_frames]
    frames = np.arange(n_frames)
    rows = [(frames >= a) & (frames < b) for a, b in itertools.pairwise(first_new)]
    return np.stack(rows).astype(np.float64)


def overlap_for_gangs(layout: Layout, n_frames: int, gangs: int) -> int:
    """The overlap at which windows are a multiple of the gangs, if that takes no longer; else the layout's.

    n windows keep ceil(n / gangs) rounds of all gangs busy, and the last round may leave some idle. As many
    windows more as gangs were idle take the same time, and their overlap is a better seam. It grows up to
    half a window only: beyond, three windows meet and nothing is gained.
    """
    if gangs < 2 or n_frames <= layout.size:
        return layout.overlap
    wanted = -(-len(layout.windows(n_frames)) // gangs) * gangs
    most = min(layout.size // 2, layout.size - layout.unit)
    for wider in range(layout.overlap, most + 1):
        if len(replace(layout, overlap=wider).windows(n_frames)) == wanted:
            return wider
    return layout.overlap


def _blended(layout: Layout, prompts: Weights, n_steps: int, first_step: int = 0) -> Phase:
    """All frames, in windows that are blended."""
    n_frames = prompts.shape[1]
    windows = layout.windows(n_frames)
    parts, shares = parts_of(windows, blend_weights(windows, n_frames, layout.lead_in), prompts)
    return Phase(tuple(range(n_frames)), parts, shares, n_steps - first_step, first_step)


def _one_window(frames: Sequence[int], prompts: Weights, n_steps: int, held: int = 0) -> Phase:
    """Some frames, in one window; those beyond the shot's last are of its last prompt."""
    within = np.minimum(frames, prompts.shape[1] - 1)
    window = Window(0, len(frames))
    parts, shares = parts_of((window,), np.ones((1, len(frames))), prompts[:, within])
    return Phase(tuple(frames), parts, shares, n_steps, held=held)
