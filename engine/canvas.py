"""The canvas: one shot's whole latent tensor, its scheduler and the state between two denoising steps.

Every window of a step is cut from the canvas, and the scheduler steps the whole canvas once. A window step is
thereby a pure function of (window latents, timestep, conditioning), and all state that lasts lives here.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.levels import noised
from engine.noise import StepNoise
from engine.windows import Window

_TIME = 1  # the latent-frame axis of z_BTCHW


class Canvas:
    """A shot's latents z_BTCHW (batch, latent frames, channels, height, width) and what steps them.

    The scheduler must already have its timesteps. It belongs to this canvas alone and changes with every
    step. The noise of a stochastic scheduler's steps comes from one of two places. StepNoise keys it by
    (seed, shot, step, latent frame), so that neither the canvas's length nor a checkpoint has a say in it.
    A generator, the one that drew the initial noise, is drawn from in sequence, a whole canvas at a time, as
    diffusers' pipelines do; its state is part of a checkpoint.
    """

    def __init__(
        self, latents: torch.Tensor, scheduler: Any, noise: torch.Generator | StepNoise | None = None
    ) -> None:
        if latents.ndim != 5:
            raise ValueError(
                f"a canvas is (batch, frames, channels, height, width), not {tuple(latents.shape)}"
            )
        self.latents = latents
        self.scheduler = scheduler
        self.generator = noise if isinstance(noise, torch.Generator) else None
        self.step_noise = noise if isinstance(noise, StepNoise) else None
        self.step_index = 0
        self.given: torch.Tensor | None = None
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
        """The timestep of the step to come, a tensor of shape ()."""
        timestep: torch.Tensor = self.scheduler.timesteps[self.step_index]
        return timestep

    def hold(self, given: torch.Tensor) -> None:
        """Keep these first latents (B, t, C, H, W) free of noise: now, and after every step to come.

        For models that were taught to go on from such frames. They are no part of a checkpoint: hold them
        again after restore(). Raises ValueError where they are not of the canvas, or leave nothing to draw.
        """
        batch, frames, *rest = self.latents.shape
        if given.shape[0] != batch or list(given.shape[2:]) != rest or not 0 < given.shape[1] < frames:
            raise ValueError(f"latents {tuple(given.shape)} are given for {tuple(self.latents.shape)}")
        self.given = given.to(self.latents)
        self._keep_given()

    def begin_at(self, step: int, clean: torch.Tensor) -> None:
        """Begin at a later step, from clean latents of the canvas's shape under as much noise as it has then.

        The noise is of its own: StepNoise.redraw, or the next that the generator draws. Raises ValueError for
        a canvas that has taken steps, that has no noise, or a step or latents that are not its own.
        """
        if self.step_index or not 0 < step < self.n_steps or clean.shape != self.latents.shape:
            raise ValueError(
                f"a canvas {tuple(self.latents.shape)} before step {self.step_index} of {self.n_steps} "
                f"cannot begin at step {step} from {tuple(clean.shape)}"
            )
        self.latents = noised(self.scheduler, clean.to(self.latents), self._unit_noise(), step)
        self.step_index = step

    def _unit_noise(self) -> torch.Tensor:
        """New noise of the canvas's shape."""
        if self.step_noise is not None:
            return self.step_noise.redraw(self.n_frames, self.latents.shape[_TIME + 1 :])
        if self.generator is None:
            raise ValueError("a canvas without noise cannot begin at a later step")
        return torch.randn(self.latents.shape, generator=self.generator)

    def _keep_given(self) -> None:
        if self.given is not None:
            rest = self.latents[:, self.given.shape[_TIME] :]
            self.latents = torch.cat([self.given, rest], dim=_TIME)

    def slice(self, window: Window) -> torch.Tensor:
        """The window's latents, (B, stop - start, C, H, W)."""
        if not 0 <= window.start < window.stop <= self.n_frames:
            raise ValueError(f"{window} does not lie on a canvas of {self.n_frames} frames")
        return self.latents[:, window.start : window.stop].contiguous()

    def blend(
        self,
        predictions: Sequence[torch.Tensor],
        windows: Sequence[Window],
        weights: npt.NDArray[np.float64],
    ) -> torch.Tensor:
        """Predictions (B, stop - start, C, H, W) of each window, blended into one of the canvas's shape.

        weights is (n_windows, n_frames). The sum runs in window order, however the predictions were
        computed, because float addition is not associative; in float32, or in float64 if the canvas is.
        """
        self._check_predictions(predictions, windows, weights)
        if len(windows) == 1:
            return predictions[0]  # stock arithmetic: a pass through float32 and weights could change bits
        exact = torch.promote_types(self.latents.dtype, torch.float32)
        total = torch.zeros(self.latents.shape, dtype=exact, device=self.latents.device)
        for prediction, window, row in zip(predictions, windows, weights, strict=True):
            weight = torch.tensor(row[window.start : window.stop]).to(total)
            part = prediction.to(total)
            total[:, window.start : window.stop] += weight.view(1, -1, 1, 1, 1) * part
        return total.to(predictions[0].dtype)

    def _check_predictions(
        self,
        predictions: Sequence[torch.Tensor],
        windows: Sequence[Window],
        weights: npt.NDArray[np.float64],
    ) -> None:
        """Refuse predictions that would broadcast silently or leave frames uncovered."""
        if not windows or len(predictions) != len(windows):
            raise ValueError(f"{len(predictions)} predictions for {len(windows)} windows")
        if weights.shape != (len(windows), self.n_frames):
            raise ValueError(f"weights {weights.shape} for {len(windows)} windows, {self.n_frames} frames")
        if len(windows) == 1 and windows[0] != Window(0, self.n_frames):
            raise ValueError(f"the only window, {windows[0]}, does not cover {self.n_frames} frames")
        batch, _, *rest = self.latents.shape
        for prediction, window in zip(predictions, windows, strict=True):
            if prediction.shape != (batch, window.stop - window.start, *rest):
                raise ValueError(f"a prediction of shape {tuple(prediction.shape)} for {window}")

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
        """The timestep of the step before, shape (), or None at the first."""
        return self.scheduler.timesteps[self.step_index - 1] if self.step_index else None

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of the run depends on: tensors, numbers and containers of them, no objects.

        torch.load(weights_only=True) reads a saved one.
        """
        state: dict[str, Any] = {
            "step_index": self.step_index,
            "latents": self.latents.detach().clone(),
            "scheduler": _scheduler_state(self.scheduler),
        }
        if self.old_pred_original_sample is not None:
            state["old_pred_original_sample"] = self.old_pred_original_sample.detach().clone()
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
        _restore_scheduler(self.scheduler, state["scheduler"], device)
        if self.generator is not None:
            self.generator.set_state(state["generator"].cpu())


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor, a number, None or a list of such."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, torch.Tensor | bool | int | float)


def _copy(value: Any) -> Any:
    """A copy of a plain value that shares no memory with it."""
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _scheduler_state(scheduler: Any) -> dict[str, Any]:
    """The scheduler's plain attributes. None is left out, as the absent say the same."""
    return {
        name: _copy(value)
        for name, value in vars(scheduler).items()
        if _is_plain(value) and value is not None
    }


def _restore_scheduler(scheduler: Any, state: dict[str, Any], device: torch.device) -> None:
    """Set every plain attribute to its saved value, tensors on the device where the scheduler keeps them."""
    current = {name: value for name, value in vars(scheduler).items() if _is_plain(value)}
    for name in current.keys() | state.keys():
        value = _copy(state.get(name))
        if isinstance(value, torch.Tensor):
            mine = current.get(name)
            value = value.to(mine.device if isinstance(mine, torch.Tensor) else device)
        setattr(scheduler, name, value)
