"""Trials on a Ray cluster: a gang of each axes predicts the first window of one of the job's own shots.

Its prompts are encoded as tasks of the job, which stay done. Its canvas and predictions are forgotten: bits
may depend on axes, so the shot is begun anew by the gangs that are settled for.
Decides: how a trial is timed, and what is told of what it takes. Does not decide: which are worth it
(trials), or when they are to stop (an overseer).
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from cluster.actors import Ref, StageHandle, start_rendezvous
from cluster.calibration import key_of
from cluster.crew import Setup
from cluster.events import Fared, Window
from cluster.gang import Gang
from cluster.nodes import living_nodes
from cluster.sharing import named
from cluster.shots import ShotTask
from cluster.topology import fit
from cluster.trials import MOST_S, WARM, Overseer, Trial

LOG = logging.getLogger(__name__)
LOOK_S = 1.0  # between two questions whether to go on


class Halted(Exception):
    """The overseer has ended the trials."""


@dataclass(frozen=True)
class Rehearsal:
    """Times gangs by the windows of a shot; all that it takes without a pause is bounded by `most_s`."""

    setup: Setup
    overseer: Overseer
    most_s: float = MOST_S

    def __call__(self, trials: Sequence[Trial], shot: ShotTask) -> dict[str, Any]:
        """What was measured, as `calibration.keep` takes it: nothing of a gang that fails or takes too long.

        Why is logged; what a worker raises befalls the job again, which tells it of the film. What was
        measured before the overseer ended it counts; where it only waits, the other gangs are tried later.
        """
        table, left = dict[str, Any](), list(trials)
        # A window by itself, in full, and guided if any step of the shot is: as the cost model counts.
        sampling = replace(shot.sampling, cache="none", guidance_start=0.0)
        alone = replace(shot, batch=1, sampling=sampling)
        while True:
            try:
                self._try(left, alone, time.monotonic() + self.most_s, table)
                return table
            except Halted:
                if not self.overseer.resumed():
                    LOG.warning("no more gangs are tried: an order, a budget or the deadline ended it")
                    return table

    def _try(self, left: list[Trial], shot: ShotTask, ends_s: float, table: dict[str, Any]) -> None:
        """Fill the table, gang after gang, which are left no more."""
        self._ask()
        with ExitStack() as stack:
            try:
                request = self._request(shot, stack, ends_s)
            except RayError as error:
                LOG.warning("no gang was tried: %s", _told(error))
                return
            while left and request is not None:
                try:
                    table |= self._timed(left[0], shot, request, ends_s)
                except RayError as error:
                    LOG.warning("%s was not measured: %s", named(left[0].axes), _told(error))
                del left[0]

    def _request(self, shot: ShotTask, stack: ExitStack, ends_s: float) -> Ref | None:
        """The shot's first window; None of a shot that is done. Its conductor ends with the stack."""
        setup = fit(replace(self.setup, gangs=0), living_nodes())
        encoder = StageHandle("encode-trial", setup)
        try:  # it may have a share of a GPU, which a gang then takes whole
            for task in shot.sources:
                self._answers([encoder.run(task)], ends_s)
        finally:
            encoder.kill()
        conductor = StageHandle("conduct-trial", setup)
        stack.callback(conductor.kill)
        head, *requests = conductor.open(shot, 0)
        (turn,) = self._answers([head], ends_s)
        return None if turn.outcome else requests[0]

    def _timed(self, trial: Trial, shot: ShotTask, request: Ref, ends_s: float) -> dict[str, Any]:
        """The median of a few warm predictions; a gang is as slow as its slowest rank."""
        setup = fit(replace(self.setup, axes=trial.axes, gangs=1), living_nodes())
        with ExitStack() as stack:
            rendezvous = start_rendezvous()
            stack.callback(ray.kill, rendezvous)
            (place,) = self._answers([rendezvous.address.remote()], ends_s)
            gang = Gang("trial", setup, place)
            stack.callback(gang.disband)
            self._answers(gang.form(), ends_s)
            stack.callback(self._had, time.monotonic(), trial.axes.ranks)
            fared = [self._predicted(gang, shot, request, ends_s) for _ in range(1 + WARM)]
        seconds = median(one.seconds for one in fared[1:])
        return {key_of(shot, 0, fared[-1], 1): {"seconds": round(seconds, 6), "n": WARM}}

    def _had(self, came_s: float, ranks: int) -> None:
        self.overseer.had((time.monotonic() - came_s) * ranks)

    def _predicted(self, gang: Gang, shot: ShotTask, request: Ref, ends_s: float) -> Fared:
        """One prediction, told to the overseer; where no answer comes, from its beginning to its end."""
        self._ask()
        began_s, ranks = time.monotonic(), gang.setup.axes.ranks
        answers, _ = gang.predict(request, Window(shot.key, 0, 0, 0))
        took = partial(self.overseer.took, named(gang.setup.axes))
        try:
            fared: list[Fared] = self._answers(answers, ends_s, ranks)
        except BaseException:
            seconds = time.monotonic() - began_s
            took(seconds, seconds * ranks)
            raise
        slowest = max(fared, key=lambda one: one.seconds)
        took(slowest.seconds, slowest.gpu_s)
        return slowest

    def _answers(self, refs: list[Ref], ends_s: float, ranks: int = 0) -> list[Any]:
        """What calls answer, `ranks` of a gang are at it. Raises RayError, also when time is up; Halted."""
        began_s, waiting = time.monotonic(), refs
        while waiting:
            left_s = max(0.0, ends_s - time.monotonic())
            ready, waiting = ray.wait(refs, num_returns=len(refs), timeout=min(LOOK_S, left_s))
            ray.get(ready)  # of one rank that failed, while its peers wait for it in a collective
            if waiting:
                self._ask((time.monotonic() - began_s) * ranks)
            if waiting and time.monotonic() >= ends_s:
                raise GetTimeoutError(f"it gave no answer within the {self.most_s:g} s of all trials")
        return ray.get(refs)

    def _ask(self, gpu_s: float = 0.0) -> None:
        """Raise Halted unless the overseer goes on, with gpu_s of a call under way."""
        if not self.overseer.goes_on(gpu_s):
            raise Halted


def _told(error: RayError) -> str:
    return " ".join(str(error).split())[:300]
