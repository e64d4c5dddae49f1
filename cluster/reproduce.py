"""One step of a shot that was given up, once more: in one process, from a bundle, in a folder of its own.

The shot is conducted as it was, from its last checkpoint to the step, so that its windows get the very
latents that they had. Nothing is written to the job's own store.

Decides: what is run, and what is said of it. Does not decide: what is in a bundle (quarantine).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.checkpoints import steps_of
from cluster.conductor import Answer, Conductor, Request, Turn
from cluster.crew import judge
from cluster.once import marker_key
from cluster.outcomes import Failure
from cluster.plain import from_plain
from cluster.rank import Rank
from cluster.shots import ShotTask
from engine.tensors import Packed, unpack
from manifests.store import Store, open_store

NEVER = 1 << 30  # steps between two checkpoints


@dataclass(frozen=True)
class Tried:
    """A part of a step that was predicted, or why it was not; part -1 is the blending of all."""

    step: int
    part: int
    seconds: float = 0.0
    values: int = 0
    not_finite: int = 0
    largest: float = 0.0
    digest: str = ""  # BLAKE2b of the prediction's bytes
    failure: Failure | None = None

    @property
    def failed(self) -> bool:
        """Whether it went wrong in any way."""
        return self.failure is not None or self.not_finite > 0


def task_of(bundle: dict[str, Any]) -> ShotTask:
    """The shot. Raises ValueError for a bundle of another release, whose shot would be another here."""
    try:
        task = from_plain(ShotTask, bundle["task"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the bundle is of another release: {error}") from error
    if task.key != bundle["key"]:
        raise ValueError("the bundle is of another release, which rendered this shot otherwise")
    return task


def reproduce(
    bundle: dict[str, Any], store: Store, step: int, part: int, device: str, threads: int
) -> Iterator[Tried]:
    """Each part of the step as it was tried, all of them for part -1 and then their blending.

    Raises ValueError for a step or part that the shot has not, FileNotFoundError for an input that is gone.
    """
    task = task_of(bundle)
    if not 0 <= step < task.course.n_steps:
        raise ValueError(f"the shot has no step {step}: it has 0 to {task.course.n_steps - 1}")
    parts = task.course.parts_at(step)
    if part not in (-1, *parts):
        raise ValueError(f"step {step} has no window {part}: it has 0 to {len(parts) - 1}")
    with TemporaryDirectory(prefix="longtake-reproduce-") as place:
        scratch = open_store(str(Path(place, "store")))
        _stage(bundle, store, scratch, step)
        yield from _Replay(task, scratch.url, device, threads).tried(step, part)


def _stage(bundle: dict[str, Any], store: Store, scratch: Store, step: int) -> None:
    """Copy what the shot reads, with its checkpoint unless that is of a later step."""
    for each in bundle["inputs"]:
        sizes = {}
        for name, hash in each["files"].items():
            data = store.read_artefact(hash)
            scratch.put_artefact(data)
            sizes[name] = len(data)
        if each["files"]:
            body = {"files": each["files"], "bytes": sizes, "facts": {}, "seconds": 0.0}
            scratch.put_marker(marker_key(each["kind"], each["key"]), body)
    for hash in bundle["adapters"]:
        scratch.put_artefact(store.read_artefact(hash))
    saved = bundle["checkpoint"]
    steps = steps_of(saved["key"]) if saved is not None else None
    if steps is not None and steps <= step:
        scratch.put_new(saved["key"], store.read_artefact(saved["artefact"]))


class _Replay:
    """A conductor and a rank that know only the copied inputs."""

    def __init__(self, task: ShotTask, url: str, device: str, threads: int) -> None:
        self.task = task
        self.conductor = Conductor(url, NEVER, threads)
        self.rank = Rank(url, device, threads)

    def tried(self, step: int, part: int) -> Iterator[Tried]:
        """The parts of a step, after the steps before it."""
        at = 0
        try:
            answer = self.conductor.open(self.task, 1)
            while (at := _step_of(answer)) < step:
                answer = self._advanced(answer)
        except Exception as error:  # whatever it is, that is what is asked
            yield Tried(at, -1, failure=judge(error))
            return
        predictions: list[Packed] = []
        for number, request in enumerate(_requests(answer)):
            if part in (-1, number):
                tried, prediction = self._part(step, number, request)
                yield tried
                predictions += [prediction] if prediction is not None else []
        if part == -1 and len(predictions) == len(_requests(answer)):
            yield self._blended(step, predictions)

    def _advanced(self, answer: Answer) -> Answer:
        predictions = [self.rank.predict(request)[1] for request in _requests(answer)]
        return self.conductor.advance(self.task.key, 1, *predictions)

    def _part(self, step: int, part: int, request: Request) -> tuple[Tried, Packed | None]:
        try:
            fared, packed = self.rank.predict(request)
        except Exception as error:
            return Tried(step, part, failure=judge(error)), None
        values = unpack(packed)
        finite = values.isfinite()
        largest = float(values[finite].abs().max()) if bool(finite.any()) else 0.0
        digest = hashlib.blake2b(packed.values.tobytes(), digest_size=16).hexdigest()
        bad = int((~finite).sum())
        return Tried(step, part, fared.seconds, values.numel(), bad, largest, digest), packed

    def _blended(self, step: int, predictions: list[Packed]) -> Tried:
        try:
            self.conductor.advance(self.task.key, 1, *predictions)
        except Exception as error:
            return Tried(step, -1, failure=judge(error))
        return Tried(step, -1)


def _requests(answer: Answer) -> list[Request]:
    return [each for each in answer if isinstance(each, Request)]


def _step_of(answer: Answer) -> int:
    turn = answer[0]
    assert isinstance(turn, Turn)
    return turn.step
