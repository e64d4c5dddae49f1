"""The canvas: one shot's whole latent tensor, its scheduler and the state between two denoising steps.

Every window of a step is cut from the canvas, and the scheduler steps the whole canvas once. A window step is
thereby a pure function of (window latents, timestep, conditioning), and all state that lasts lives here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.anchors import Anchor, checkpoint, restored
from engine.blending import blended
from engine.cache import Trend
from engine.levels import noised
from engine.noise import StepNoise
from engine.scheduler_state import restore_scheduler, scheduler_state
from engine.takes import BEGINNING, BESIDE, ENDING, WHOLE
from engine.telling import ONE_TIME, Telling, shown_beside
from engine.windows import Window

_TIME = 1  # the latent-frame axis of z_BTCHW


class Canvas:
    """A shot's latents z_BTCHW (batch, latent frames, channels, height, width) and what steps them.

    The scheduler must already have its timesteps. It belongs to this canvas alone and changes with every
    step. The noise of a stochastic scheduler's steps comes from one of two places. StepNoise keys it by
    (seed, shot, step, latent frame), so that neither the canvas's length nor a checkpoint has a say in it.
    A generator, the one that drew the initial noise, is drawn from in sequence, a whole canvas at a time, as
    diffusers' pipelines do; its state is part of a checkpoint. `telling` says how its model knows which
    latents are given.
    """

    def __init__(
        self,
        latents: torch.Tensor,
        scheduler: Any,
        noise: torch.Generator | StepNoise | None = None,
        telling: Telling = ONE_TIME,
    ) -> None:
        if latents.ndim != 5:
            raise ValueError(
                f"a canvas is (batch, frames, channels, height, width), not {tuple(latents.shape)}"
            )
        self.latents = latents
        self.scheduler = scheduler
        self.generator = noise if isinstance(noise, torch.Generator) else None
        self.step_noise = noise if isinstance(noise, StepNoise) else None
        self.telling = telling
        self.step_index = self.first_step = 0
        self.trend = Trend()  # of a step cache, if there is one
        self.anchors: tuple[tuple[Anchor, ...], ...] = ()  # of a first-block cache: of every part's branches
        self.beginning = self.ending = latents[:, :0]  # what the canvas is given; see begin()
        self.beside: torch.Tensor | None = None
        # CogVideoXDPMScheduler keeps no state of its own: stock, the pipeline hands this back at every step.
        self.old_pred_original_sample: torch.Tensor | None = None

    @property
    def n_frames(self) -> int:
        """The number of latent frames, T of z_BTCHW."""
        return self.latents.shape[_TIME]

    @property
    def n_steps(self) -> int:
        """The number of denoising steps that the scheduler was set to."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep of the step to come, of shape (); (n,) of a scheduler that is n of them in one."""
        timestep: torch.Tensor = self.scheduler.timesteps[self.step_index]
        return timestep

    def begin(self, given: Mapping[str, torch.Tensor], step: int = 0) -> None:
        """Begin before `step` with what a shot is given, by the names of engine.takes.

        Of a canvas that is still all noise, and before restore(): nothing of this is part of a checkpoint.
        Raises ValueError for latents that are not of the canvas or leave nothing to draw, and for a step that
        is none.
        """
        beside = given.get(BESIDE)
        if beside is not None and beside.shape[_TIME] != self.n_frames:
            raise ValueError(f"channels {tuple(beside.shape)} beside {tuple(self.latents.shape)}")
        if WHOLE in given:
            self._redraw(given[WHOLE], step)
        beginning, ending = self._placed(given.get(BEGINNING)), self._placed(given.get(ENDING))
        if self.telling.beside and beginning.shape[_TIME] + ending.shape[_TIME]:
            self.beside = shown_beside(self.latents, beginning, ending)
            return
        self.beginning, self.ending, self.beside = beginning, ending, beside
        self._keep_given()

    def _redraw(self, source: torch.Tensor, step: int) -> None:
        """Start from latents (B, T, C, H, W) under as much of the canvas's noise as it has before `step`."""
        if source.shape != self.latents.shape or not 0 <= step < self.n_steps:
            raise ValueError(
                f"latents {tuple(source.shape)} are given for {tuple(self.latents.shape)}, from step {step} "
                f"of {self.n_steps}"
            )
        noise = self.latents / getattr(self.scheduler, "init_noise_sigma", 1.0)
        self.latents = noised(self.scheduler, source.to(self.latents), noise, step)
        self.step_index = self.first_step = step

    def _placed(self, latents: torch.Tensor | None) -> torch.Tensor:
        """Latents (B, t, C, H, W) for one end, if they fit the canvas; t is 0 where none are given."""
        if latents is None:
            return self.latents[:, :0]
        batch, _, *rest = self.latents.shape
        if latents.shape[0] != batch or list(latents.shape[2:]) != rest or not latents.shape[1]:
            raise ValueError(f"latents {tuple(latents.shape)} are given for {tuple(self.latents.shape)}")
        return latents.to(self.latents)

    def _keep_given(self) -> None:
        """Put back what is given at either end, free of noise."""
        start, stop = self.beginning.shape[_TIME], self.n_frames - self.ending.shape[_TIME]
        if start >= stop:
            raise ValueError(
                f"{start} and {self.n_frames - stop} latent frames are given for {self.n_frames}: nothing is "
                "left to draw"
            )
        if stop - start < self.n_frames:
            self.latents = torch.cat([self.beginning, self.latents[:, start:stop], self.ending], dim=_TIME)

    def beside_of(self, window: Window) -> torch.Tensor | None:
        """The channels beside the window's latents, (B, stop - start, C', H, W), if there are any."""
        return None if self.beside is None else self.beside[:, window.start : window.stop].contiguous()

    def seen(self, window: Window) -> tuple[torch.Tensor, torch.Tensor]:
        """What a model is told of a window: latents (B, stop - start, C, H, W), and the step's timestep.

        That is (B, stop - start), one for each latent frame, where some are given and the model is told so.
        """
        latents = self.slice(window)
        given = min(max(self.beginning.shape[_TIME] - window.start, 0), len(window))
        if not given or not self.telling.times:
            return latents, self.timestep
        noise = self._noise(window.start, window.start + given) if self.telling.noisy else None
        return self.telling.of(latents, self.timestep, given, noise)

    def _noise(self, start: int, stop: int) -> torch.Tensor:
        """Noise (1, stop - start, C, H, W) of this step for latent frames that are given.

        Of those frames a stochastic scheduler's is not used, as they are put back after its step.
        """
        shape = self.latents.shape[2:]
        if self.step_noise is None:
            return torch.randn((1, stop - start, *shape), generator=self.generator)
        return self.step_noise.of(self.step_index, range(start, stop), shape)

    def slice(self, window: Window) -> torch.Tensor:
        """The window's latents, (B, stop - start, C, H, W), scaled as the scheduler has models see them."""
        if not 0 <= window.start < window.stop <= self.n_frames:
            raise ValueError(f"{window} does not lie on a canvas of {self.n_frames} frames")
        latents = self.latents[:, window.start : window.stop].contiguous()
        if not hasattr(self.scheduler, "scale_model_input"):  # those of flow matching
            return latents
        scaled: torch.Tensor = self.scheduler.scale_model_input(latents, self.timestep)
        return scaled

    def blend(
        self,
        predictions: Sequence[torch.Tensor],
        windows: Sequence[Window],
        weights: npt.NDArray[np.float64],
    ) -> torch.Tensor:
        """Predictions of each window, blended into one of the canvas's shape, as engine.blending has it."""
        before = f"step {self.step_index} of {self.n_steps}"
        return blended(predictions, windows, weights, self.latents, before)

    @torch.no_grad()
    def step(self, prediction: torch.Tensor) -> None:
        """Let the scheduler take one step of the whole canvas by a prediction of its shape.

        Under StepNoise the scheduler sees (T, B, C, H, W): it is given a generator for each entry of its
        batch, which is thereby each latent frame. It works on single elements, so nothing else changes.
        """
        old = self.old_pred_original_sample
        accepted = inspect.signature(self.scheduler.step).parameters
        extra: dict[str, Any] = {"generator": self._generators()} if "generator" in accepted else {}
        if "old_pred_original_sample" in accepted:
            extra["old_pred_original_sample"] = None if old is None else self._turned(old)
            extra["timestep_back"] = self._timestep_back()
        out = self.scheduler.step(
            model_output=self._turned(prediction),
            timestep=self.timestep,
            sample=self._turned(self.latents),
            return_dict=False,
            **extra,
        )
        if "old_pred_original_sample" in accepted:
            self.old_pred_original_sample = self._turned(out[1])
        # schedulers may promote; stock casts back each step
        self.latents = self._turned(out[0]).to(self.latents.dtype)
        self._keep_given()
        self.step_index += 1

    def _turned(self, tensor: torch.Tensor) -> torch.Tensor:
        """Between the canvas's axes and those that the scheduler sees, which is the same turn both ways."""
        return tensor if self.step_noise is None else tensor.transpose(0, _TIME)

    def _generators(self) -> torch.Generator | list[torch.Generator] | None:
        """What the scheduler draws this step's noise from, should it draw any."""
        if self.step_noise is None:
            return self.generator
        return self.step_noise.generators(self.step_index, self.n_frames)

    def _timestep_back(self) -> torch.Tensor | None:
        """The timestep of the step before, shape (), or None at the first that is taken."""
        taken = self.old_pred_original_sample is not None
        return self.scheduler.timesteps[self.step_index - 1] if taken else None

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of the run depends on: tensors, numbers and containers of them, no objects.

        torch.load(weights_only=True) reads a saved one.
        """
        state: dict[str, Any] = {
            "step_index": self.step_index,
            "latents": self.latents.detach().clone(),
            "scheduler": scheduler_state(self.scheduler),
        }
        if self.old_pred_original_sample is not None:
            state["old_pred_original_sample"] = self.old_pred_original_sample.detach().clone()
        if self.trend.steps:
            state["trend"] = self.trend.checkpoint()
        if self.anchors:
            state["anchors"] = checkpoint(self.anchors)
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint() of a canvas of the same shape and the same scheduler configuration."""
        if state["latents"].shape != self.latents.shape:
            raise ValueError(
                f"a checkpoint of {tuple(state['latents'].shape)} for {tuple(self.latents.shape)}"
            )
        if ("generator" in state) != (self.generator is not None):
            raise ValueError(
                "the checkpoint and the canvas must both have a sequential generator, or neither"
            )
        device = self.latents.device
        old = state.get("old_pred_original_sample")
        self.step_index = int(state["step_index"])
        self.latents = state["latents"].to(device, copy=True)
        self.old_pred_original_sample = None if old is None else old.to(device, copy=True)
        self.trend = Trend.restored(state["trend"], device) if "trend" in state else Trend()
        self.anchors = restored(state["anchors"], device) if "anchors" in state else ()
        restore_scheduler(self.scheduler, state["scheduler"], device)
        if self.generator is not None:
            self.generator.set_state(state["generator"].cpu())
