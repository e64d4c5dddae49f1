"""What window steps took, as ranks measured them, kept in a job's store for the next plan there.

    calibration/000007.json   {"windows": [[KEY, {"seconds": median, "n": how many}], …]}, newest last

KEY is `cost.measure_key`. A later file holds what an earlier one did, so that the last says it all. It is
scratch: losing it costs an estimate. What no job of the store had measured is kept as soon as a gang has done
it a few times, as it does when it has just been formed; the rest when the job ends. Steps with guidance
and without are told apart, as one job may have both, and forwards with a first-block cache are left out.
Decides: what is measured and kept. Does not decide: what it means, or which gangs are tried before (trials).
"""

import math
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from statistics import median
from typing import Any

from cluster.cost import Measured, measure_key, precision, waits_in
from cluster.events import Event, Fared, Predicted
from cluster.machine import kind_of
from cluster.shots import ShotTask
from cluster.state import State
from cluster.trials import WARM
from manifests.store import Store, StoreError

FOLDER = "calibration"
KINDS = 64  # of windows that are kept, the latest ones
MET = 4096  # gangs and windows that are remembered; after so many, a sample more of each is left out
TRIES = 5  # to put a file, while other jobs put theirs
SAMPLES = 99  # of each kind, the latest ones, of which the median counts: a first one loads the weights


class Stopwatch:
    """Collects the seconds of forwards, in constant memory, from the events of a job.

    `known` are windows that the store has already.
    """

    def __init__(self, known: Collection[str] = ()) -> None:
        self.seconds: dict[str, deque[float]] = {}
        self.met: set[tuple[str, str]] = set()  # gangs, and the windows that they have predicted
        self.known = set(known)

    def watch(self, event: Event, state: State) -> dict[str, Any]:
        """Take up a prediction; `state` is the one that followed from it, whose canvases name its model.

        Returns what is to be kept at once: a window that was not known, when WARM predictions have told it.
        """
        if not isinstance(event, Predicted) or event.fared is None:
            return {}
        canvas = state.canvases.get(event.window.shot)
        if canvas is None:  # given up meanwhile
            return {}
        task, window = canvas.task, event.window
        if task.sampling.threshold:  # a first-block cache leaves blocks out of some forwards
            return {}
        batch = len(task.course.predictions_of(window.step, window.part))
        key = key_of(task, window.step, event.fared, batch)
        if (event.gang, key) not in self.met:  # it has loaded the weights, or compiled for the window
            _add(self.met, (event.gang, key))
            return {}
        kept = self.seconds.pop(key, deque(maxlen=SAMPLES))
        kept.append(event.fared.seconds)
        self.seconds[key] = kept
        if len(self.seconds) > KINDS:
            del self.seconds[next(iter(self.seconds))]
        if key in self.known or len(kept) < WARM:
            return {}
        _add(self.known, key)
        return {key: _entry(kept)}

    def table(self) -> dict[str, Any]:
        """The windows that were measured."""
        return {key: _entry(kept) for key, kept in self.seconds.items()}


def _add(met: set[Any], one: Any) -> None:
    """Remember one more, in constant memory."""
    if len(met) >= MET:
        met.clear()
    met.add(one)


def _entry(seconds: Collection[float]) -> dict[str, Any]:
    return {"seconds": round(median(seconds), 6), "n": len(seconds)}


def key_of(task: ShotTask, step: int, fared: Fared, batch: int) -> str:
    """What a forward of `batch` windows of this shot tells of, in full at this step of its course."""
    size = (min(task.n_latent, task.layout.size), task.height_px, task.width_px)
    guided, model = task.is_guided(step), task.model
    kind = precision(model.dtype, model.quantise, model.compile, waits_in(model.zero, model.offload))
    return measure_key(model.digest, kind, size, guided, fared.axes, kind_of(fared.device), batch)


def keep(store: Store, table: Mapping[str, Any]) -> None:
    """Put what was measured beside what is known, newest last; one older file stays for who reads it now.

    Another job that puts the same number first has it: then this one puts its own beside that.
    """
    for _ in range(TRIES if table else 0):
        if _put(store, table):
            return


def _put(store: Store, table: Mapping[str, Any]) -> bool:
    """Whether the next number was free."""
    keys = store.list_keys(FOLDER)
    before = _read(store, keys)
    merged = {**{key: entry for key, entry in before.items() if key not in table}, **table}
    windows = dict(list(merged.items())[-KINDS:])
    number = int(keys[-1].removeprefix(f"{FOLDER}/").removesuffix(".json")) + 1 if keys else 1
    body = {"windows": [[key, windows[key]] for key in windows]}
    if not store.put_marker(f"{FOLDER}/{number:06}.json", body):
        return False
    for key in keys[:-1]:
        store.remove(key)
    return True


def measured(store: Store) -> Measured:
    """Seconds a window step that jobs of this store measured; none where the file cannot be read."""
    return {key: entry["seconds"] for key, entry in _read(store, store.list_keys(FOLDER)).items()}


def _read(store: Store, keys: list[str]) -> dict[str, Any]:
    """The entries of the latest file, as far as they are what is put there."""
    body = None
    with suppress(StoreError):
        body = store.read_marker(keys[-1]) if keys else None
    entries = body.get("windows") if body else None
    if not isinstance(entries, list):
        return {}
    return {entry[0]: entry[1] for entry in entries if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    """Whether it is [key, {"seconds": positive, …}]."""
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        return False
    seconds = entry[1].get("seconds") if isinstance(entry[1], dict) else None
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
