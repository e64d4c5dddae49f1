"""Trials on a Ray cluster: a gang of each axes predicts the first window of one of the job's own shots.

Its prompts are encoded as tasks of the job, which stay done. Its canvas and predictions are forgotten: bits
may depend on axes, so the shot is begun anew by the gangs that are settled for.
Decides: how a trial is timed. Does not decide: which are worth it (trials).
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.actors import Ref, RendezvousActor, StageHandle
from cluster.calibration import key_of
from cluster.crew import Setup
from cluster.events import Fared, Window
from cluster.gang import Gang
from cluster.nodes import living_nodes
from cluster.sharing import named
from cluster.shots import ShotTask
from cluster.topology import fit
from cluster.trials import MOST_S, WARM, Trial

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rehearsal:
    """Times gangs by the windows of a shot; all that it takes is bounded by `most_s`."""

    setup: Setup
    most_s: float = MOST_S

    def __call__(self, trials: Sequence[Trial], shot: ShotTask) -> dict[str, Any]:
        """What was measured, as `calibration.keep` takes it: nothing of a gang that fails or takes too long.

        Why is logged; what a worker raises befalls the job again, which tells it of the film.
        """
        ends_s, table = time.monotonic() + self.most_s, dict[str, Any]()
        shot = replace(shot, batch=1)  # a window alone, as the cost model counts
        with ExitStack() as stack:
            try:
                request = self._request(shot, stack, ends_s)
            except RayError as error:
                LOG.warning("no gang was tried: %s", " ".join(str(error).split())[:300])
                return table
            for trial in trials if request is not None else ():
                try:
                    table |= self._timed(trial, shot, request, ends_s)
                except RayError as error:
                    told = " ".join(str(error).split())[:300]
                    LOG.warning("%s was not measured: %s", named(trial.axes), told)
        return table

    def _request(self, shot: ShotTask, stack: ExitStack, ends_s: float) -> Ref | None:
        """The shot's first window; None of a shot that is done. Its conductor ends with the stack."""
        setup = fit(replace(self.setup, gangs=0), living_nodes())
        encoder = StageHandle("encode-trial", setup)
        try:  # it may have a share of a GPU, which a gang then takes whole
            for task in shot.sources:
                ray.get(encoder.run(task), timeout=_left(ends_s))
        finally:
            encoder.kill()
        conductor = StageHandle("conduct-trial", setup)
        stack.callback(conductor.kill)
        head, *requests = conductor.open(shot, 0)
        turn: Any = ray.get(head, timeout=_left(ends_s))
        return None if turn.outcome else requests[0]

    def _timed(self, trial: Trial, shot: ShotTask, request: Ref, ends_s: float) -> dict[str, Any]:
        """The median of a few warm predictions; a gang is as slow as its slowest rank."""
        setup = fit(replace(self.setup, axes=trial.axes, gangs=1), living_nodes())
        with ExitStack() as stack:
            rendezvous = RendezvousActor.remote()
            stack.callback(ray.kill, rendezvous)
            gang = Gang("trial", setup, ray.get(rendezvous.address.remote(), timeout=_left(ends_s)))
            stack.callback(gang.disband)
            ray.get(gang.form(), timeout=_left(ends_s))
            fared = [self._predicted(gang, shot, request, ends_s) for _ in range(1 + WARM)]
        seconds = median(one.seconds for one in fared[1:])
        return {key_of(shot, fared[-1], 1): {"seconds": round(seconds, 6), "n": WARM}}

    def _predicted(self, gang: Gang, shot: ShotTask, request: Ref, ends_s: float) -> Fared:
        answers, _ = gang.predict(request, Window(shot.key, 0, 0, 0))
        fared: list[Fared] = ray.get(answers, timeout=_left(ends_s))
        return max(fared, key=lambda one: one.seconds)


def _left(ends_s: float) -> float:
    """Seconds that are left, which Ray takes for a bound."""
    return max(0.0, ends_s - time.monotonic())
