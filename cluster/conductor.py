"""The conductor: holds the canvases of open shots, lays out each step's windows, blends and steps.

It computes no prediction. What it hands out is self-contained, so any gang can take any window.
"""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cluster import checkpoints
from cluster.copies import outlined
from cluster.identity import Model
from cluster.logs import reporting
from cluster.once import claim, found, found_file
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from engine.anchors import Anchored
from engine.batch import apart, timestep_of, together
from engine.canvas import Canvas
from engine.denoise import WindowRequest
from engine.families.facts import read_facts
from engine.families.loading import new_canvas
from engine.noise import INITIAL, REDRAW, shuffled_source
from engine.numerics import set_threads
from engine.phases import Phase
from engine.stitch import Stitcher
from engine.takes import ENDING
from engine.tensors import Packed, from_bytes, pack, to_bytes, unpack
from manifests.store import open_store


@dataclass(frozen=True, eq=False)
class Request:
    """Windows of a step to predict in one forward: latents (n, T, C, H, W), and the keys of embeddings.

    `prompts` has one for each window. `beside` are channels (n, T, C', H, W) that are seen beside the
    latents, if there are any; `given` are the keys of what the shot is given, which may be part of all texts.
    """

    model: Model
    latents: Packed
    timestep: Packed
    prompts: tuple[str, ...]
    negative: str
    guidance_scale: float
    beside: Packed | None = None
    given: tuple[str, ...] = ()
    adapters: tuple[tuple[str, float], ...] = ()  # artefacts and scales
    prompted: bool = False  # whether predictions of the prompts alone are wanted behind the guided ones
    threshold: float = 0.0  # of a first-block cache; 0 is none
    anchors: tuple[tuple[tuple[Packed, Packed], ...], ...] = ()  # of the branches of each window


@dataclass(frozen=True)
class Turn:
    """Where a shot stands: before `step`, or done."""

    step: int
    outcome: Outcome | None = None


Answer = list[Turn | Request | None]  # a turn, then a slot for each part that any step may have


@dataclass(eq=False)
class OpenShot:
    """A shot under way."""

    task: ShotTask
    opening: int
    stitcher: Stitcher
    loop: Generator[list[WindowRequest], list[Any], Any]  # of tensors
    began: float
    saved_step: int
    saved_s: float  # when it was saved last, or opened, by the clock that goes forward only
    sizes: tuple[int, ...] = ()  # windows of each request that is out
    gpu_s: float = 0.0  # that its predictions took
    n_predicted: int = 0


class Conductor:
    """Conducts any number of shots; a canvas is saved every `checkpoint_every` steps or `checkpoint_s`.

    Whichever comes first, and always between two steps.
    """

    def __init__(
        self,
        store_url: str,
        checkpoint_every: int,
        threads: int = 1,
        cache: str = "auto",
        checkpoint_s: float = math.inf,
    ) -> None:
        set_threads(threads)
        self.store, self.cache = open_store(store_url), cache
        self.checkpoint_every, self.checkpoint_s = checkpoint_every, checkpoint_s
        self.shots: dict[str, OpenShot] = {}

    @reporting
    def open(self, task: ShotTask, opening: int) -> Answer:
        """Put a shot on a canvas, where its last checkpoint left it, and lay out the step to come."""
        before = found(self.store, task.kind, task.key)
        if before is not None:
            checkpoints.clear(self.store, task.key)  # of whoever had put the marker and then failed, or died
            return _done(task, before)
        stitcher = self._stitcher(task)
        loop = stitcher.requests()
        now_s = time.monotonic()
        shot = OpenShot(task, opening, stitcher, loop, now_s, stitcher.step, now_s)
        self.shots[task.key] = shot
        try:
            return self._turn(shot, next(loop))
        except StopIteration as end:  # a checkpoint of the last step
            return self._close(shot, end.value)

    @reporting
    def advance(self, key: str, opening: int, *predictions: Packed, gpu_s: float = 0.0) -> Answer:
        """Take a step's predictions, in the order of its requests, and lay out the next step.

        gpu_s is what they took, of all ranks together.
        """
        shot = self.shots[key]
        if shot.opening != opening:
            raise RuntimeError(f"shot {key} was opened again: {shot.opening}, not {opening}")
        shot.gpu_s, shot.n_predicted = shot.gpu_s + gpu_s, shot.n_predicted + sum(shot.sizes)
        pairs = zip(predictions, shot.sizes, strict=True)
        windows = [window for prediction, n in pairs for window in _answers(prediction, n)]
        try:
            return self._turn(shot, shot.loop.send(windows))
        except StopIteration as end:
            return self._close(shot, end.value)

    def drop(self, key: str, opening: int, save: bool = False) -> None:
        """Forget an open shot, unless it was opened again since; `save` leaves a checkpoint of it."""
        if key in self.shots and self.shots[key].opening == opening:
            shot = self.shots.pop(key)
            if save:
                self._save(shot)

    def _stitcher(self, task: ShotTask) -> Stitcher:
        """The shot before its first step, or where its last checkpoint left it."""
        given = self._given(task)
        stitcher = Stitcher(
            task.phases,
            partial(_new_canvas, task, self.cache),
            task.n_canvas,
            given,
            task.sampling.guidance_rescale,
            task.sampling.threshold > 0,
        )
        saved = checkpoints.last(self.store, task.key)
        if saved is not None:
            stitcher.restore(from_bytes(saved[1]))
        return stitcher

    def _given(self, task: ShotTask) -> dict[str, Any]:
        """What the shot's canvas is given, by name."""
        made: dict[str, Any] = {}
        for given in task.given:
            file = found_file(self.store, given.kind, given.key, "canvas")
            made |= from_bytes(self.store.read_artefact(file))
        if ENDING in made:
            made[ENDING] = made[ENDING].repeat(1, task.n_resting, 1, 1, 1)
        return made

    def _turn(self, shot: OpenShot, requests: list[WindowRequest]) -> Answer:
        """Save the canvas if it is time, and make the requests travel."""
        step = shot.stitcher.step
        if self._is_due(shot, step - shot.saved_step):
            self._save(shot)
        course = shot.task.course
        parts = [[requests[n] for n in course.predictions_of(step, part)] for part in course.parts_at(step)]
        shot.sizes = tuple(map(len, parts))
        return _filled(shot.task, Turn(step), [_travelling(shot.task, part) for part in parts])

    def _is_due(self, shot: OpenShot, steps: int) -> bool:
        """Whether so many unsaved steps, or the time that they took, are all that may be lost."""
        late = time.monotonic() - shot.saved_s >= self.checkpoint_s
        return steps >= self.checkpoint_every or (steps > 0 and late)

    def _save(self, shot: OpenShot) -> None:
        """Leave a checkpoint: whoever saves this step saves the same bits."""
        shot.saved_step, shot.saved_s = shot.stitcher.step, time.monotonic()
        data = to_bytes(shot.stitcher.checkpoint())
        checkpoints.save(self.store, shot.task.key, shot.saved_step, data)

    def _close(self, shot: OpenShot, latents: Any) -> Answer:
        """Store the latents, put the marker, let the canvas and its checkpoints go."""
        task = shot.task
        shown = latents[:, task.n_before :]
        stored = {"latents": self.store.put_artefact(to_bytes({"latents": shown}))}
        facts = {
            "windows": task.course.n_windows,
            "steps": task.course.n_steps,
            "latent_frames": task.n_latent,
            "batch": task.batch,
            **_taken(shot),
        }
        seconds = round(time.monotonic() - shot.began, 3)
        outcome = claim(self.store, task, Outcome(task.key, task.kind, stored, facts, seconds))
        del self.shots[task.key]
        checkpoints.clear(self.store, task.key)
        return _done(task, outcome)


def _taken(shot: OpenShot) -> dict[str, float]:
    """GPU-seconds of all of a shot's predictions; of those before a checkpoint, at the pace of the others."""
    if not shot.n_predicted or not shot.gpu_s:
        return {}
    return {"gpu_s": round(shot.gpu_s * shot.task.course.n_predictions / shot.n_predicted, 6)}


def _done(task: ShotTask, outcome: Outcome) -> Answer:
    """The last answer of a shot, with nothing left to predict."""
    return _filled(task, Turn(task.course.n_steps, outcome), [])


def _filled(task: ShotTask, turn: Turn, requests: Sequence[Request]) -> Answer:
    """An answer of the length that all answers of a shot have: Ray must know it before it is given."""
    return [turn, *requests, *(None for _ in range(task.course.n_slots - len(requests)))]


def _new_canvas(task: ShotTask, cache: str, phase: Phase, steps_before: int) -> Canvas:
    """A canvas of noise for one phase of a shot."""
    folder = outlined(task.model, cache)
    facts = read_facts(folder)
    scale = facts.spatial_compression
    return new_canvas(
        folder,
        seed=task.shot.seed,
        shot=task.shot.shot_id,
        n_frames=len(phase.frames),
        frame_shape=(facts.latent_channels, task.height_px // scale, task.width_px // scale),
        dtype=task.model.dtype,
        n_steps=task.sampling.n_steps,
        kind=task.sampling.scheduler or None,
        window=task.layout.size,
        frames=phase.frames,
        noise_of=_noise_of(task, phase),
        drawn=REDRAW if phase.first_step else INITIAL,
        steps_before=steps_before,
    )


def _noise_of(task: ShotTask, phase: Phase) -> Sequence[int]:
    """The frames whose noise a phase begins from."""
    if task.stitch.noise == "keyed":
        return phase.frames
    size, stride = task.layout.size, task.layout.size - task.layout.overlap
    return [shuffled_source(task.shot.seed, task.shot.shot_id, frame, size, stride) for frame in phase.frames]


def _travelling(task: ShotTask, windows: Sequence[WindowRequest]) -> Request:
    """Windows of one step, which are alike in all but latents, what of them is given, and prompts."""
    step, timestep = windows[0].step, timestep_of(windows)
    beside = [window.beside for window in windows if window.beside is not None]
    return Request(
        model=task.model,
        latents=pack(together([window.latents for window in windows])),
        timestep=pack(timestep),
        prompts=tuple(task.prompts[window.part.prompt].key for window in windows),
        negative=task.negative.key,
        guidance_scale=task.sampling.guidance_at(step, float(timestep.max())),
        beside=pack(together(beside)) if beside else None,
        given=tuple(given.key for given in task.given),
        adapters=tuple((each.artefact, each.scale) for each in task.adapters),
        prompted=task.sampling.guidance_rescale > 0,
        threshold=task.sampling.threshold,
        anchors=tuple(
            tuple((pack(each.latents), pack(each.timestep)) for each in window.anchors) for window in windows
        ),
    )


def _answers(prediction: Packed, n: int) -> list[Any]:
    """The predictions of n windows, each with what a first-block cache says of it, if there is one."""
    windows = apart(unpack(prediction), n)
    if not prediction.full:
        return list(windows)
    return [Anchored(*each) for each in zip(windows, prediction.full, strict=True)]
