"""A shot under way through its phases, as a generator that knows nothing of where windows run.

Decides: what a phase begins from, what it leaves, and what must be saved between two steps. Does not decide
which phases there are (phases) or what a canvas of noise is (families.loading). Tensors are z_BTCHW: batch,
latent frames, channels, rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.canvas import Canvas
from engine.denoise import WindowRequest, answer_here, denoise_shot
from engine.phases import Phase
from engine.takes import BEGINNING, WHOLE

NewCanvas = Callable[[Phase, int], Canvas]  # of noise, for a phase and the number of steps before it


class Stitcher:
    """One shot: the phase that it is in, that phase's canvas, and the latents that earlier phases left.

    `given` is what the shot is given, by the names of engine.takes, and n_frames how many latent frames it
    keeps in the end; rescale and anchored as in denoise_shot.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        new_canvas: NewCanvas,
        n_frames: int,
        given: Mapping[str, Tensor] | None = None,
        rescale: float = 0.0,
        anchored: bool = False,
    ) -> None:
        self.phases, self.new_canvas, self.n_frames, self.given = phases, new_canvas, n_frames, given or {}
        self.rescale, self.anchored = rescale, anchored
        self.left: Tensor | None = None
        self._enter(0)

    @property
    def step(self) -> int:
        """Steps behind that were predicted, counted through all phases, as a Course counts them."""
        earlier = sum(phase.n_predicted() for phase in self.phases[: self.index])
        return earlier + self.phase.n_predicted(self.canvas.step_index)

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.index]

    def requests(self) -> Generator[list[WindowRequest], list[Any], Tensor]:
        """Yield the requests of each step, take their answers in the same order, return the latents.

        While a list of requests is out, checkpoint() is the state before that step.
        """
        while True:
            phase = self.phase
            latents = yield from denoise_shot(
                self.canvas, phase.parts, phase.weights, self.rescale, phase.cache, self.anchored
            )
            if phase.held and self.left is not None:
                latents = torch.cat([self.left, latents[:, phase.held :]], dim=1)
            self.left = latents
            if self.index + 1 == len(self.phases):
                return latents[:, : self.n_frames]
            self._enter(self.index + 1)

    def here(self, predict: Callable[[WindowRequest], Any], until: int | None = None) -> Tensor | None:
        """The latents, of windows that `predict` predicts in this process; None if stopped before `until`."""
        return answer_here(self.requests(), predict, lambda: self.step == until)

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of the run depends on, as Canvas.checkpoint(), and with it what phases left."""
        left = {} if self.left is None else {"left": self.left.detach().clone()}
        return {"phase": self.index, **left, **self.canvas.checkpoint()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint() of the same shot: before its first request, and only then."""
        left = state.get("left")
        self.left = None if left is None else left.to(self.canvas.latents.device, copy=True)
        self._enter(int(state["phase"]), state)

    def _enter(self, index: int, state: dict[str, Any] | None = None) -> None:
        """Put a phase on a canvas: from what was left, or as it was saved."""
        self.index = index
        steps_before = sum(phase.n_steps for phase in self.phases[:index])
        self.canvas = self.new_canvas(self.phase, steps_before)
        self.canvas.begin(self._beginning(), self.phase.first_step)
        if state is not None:
            self.canvas.restore(state)

    def _beginning(self) -> dict[str, Tensor]:
        """What the phase's canvas begins with: of the phase before, or given with the shot."""
        frames = self.phase.frames
        if self.phase.held and self.left is not None:
            return {BEGINNING: self.left[:, -self.phase.held :]}
        made = dict(self.given)
        if BEGINNING in made:
            known = [frame for frame in frames if frame < made[BEGINNING].shape[1]]
            made[BEGINNING] = made[BEGINNING][:, known]
        if self.phase.first_step and self.left is not None:
            made[WHOLE] = in_between(self.left, self.phases[self.index - 1].frames, frames)
        return made


def in_between(z_BTCHW: Tensor, at: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Latents at the frames `wanted`, on straight lines in time between those at the rising frames `at`.

    All of `wanted` lie between the first and the last of `at`.
    """
    places = torch.tensor(at, device=z_BTCHW.device)
    frames = torch.tensor(wanted, device=z_BTCHW.device)
    after = torch.searchsorted(places, frames).clamp(1, len(at) - 1)
    span = places[after] - places[after - 1]
    share = ((frames - places[after - 1]) / span).to(z_BTCHW).view(1, -1, 1, 1, 1)
    return torch.lerp(z_BTCHW[:, after - 1], z_BTCHW[:, after], share)
