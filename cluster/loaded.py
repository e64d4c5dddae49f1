"""One part of one model in a process: its weights come when they are asked for, and go when they are not.

Decides: when weights are loaded, to which device, in what form, and when they are let go. Does not decide:
what is computed with them (stages, conductor, rank), or how much memory there must be (shortage).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock, Timer
from typing import Any

from cluster.copies import whole
from cluster.identity import Model
from cluster.shortage import Shortage, part_shortage, place_on
from engine.families.compiled import compile_blocks, need_compiler
from engine.families.loading import LEFT_OUT, give_memory_back, load_part
from engine.families.offload import offload
from engine.families.parameters import read_weights
from engine.families.quantise import need_float8, quantise
from engine.numerics import set_threads


class LoadedPart:
    """One part of one model, kept until another model is asked for, or nobody asks for `idle_s` seconds."""

    def __init__(
        self,
        part: str,
        device: str,
        threads: int,
        idle_s: float | None = None,
        check_memory: bool = True,
        cache: str = "auto",
    ) -> None:
        set_threads(threads)
        self.check_memory, self.cache = check_memory, cache
        self.part, self.device, self.idle_s = part, device, idle_s
        self.lock, self.timer = RLock(), Timer(0.0, self.forget)
        self.model: Model | None = None
        self.family: Any = None

    def of(self, model: Model, check: Callable[[Model], None] | None = None) -> Any:
        """The family that holds this part of `model`; `check` may refuse to have it loaded."""
        if self.part != "transformer":
            # of transformers alone: reload nothing for them
            model = replace(model, zero=False, offload="", quantise="", compile=False)
        with self.lock:
            self.timer.cancel()
            if model != self.model:
                self._load(model, check)
            if self.idle_s is not None:
                self.timer = Timer(self.idle_s, self.forget)
                self.timer.daemon = True
                self.timer.start()
            return self.family

    def _load(self, model: Model, check: Callable[[Model], None] | None) -> None:
        self.forget()  # let the old weights go before the new ones come, if they do
        if model.compile:
            need_compiler()
        if model.quantise == "float8":
            need_float8(self.device)
        if self.check_memory:
            (check or self._check)(model)
        # from where they are shared out, or made smaller
        device = "cpu" if model.zero or model.offload or model.quantise else self.device
        self.family = load_part(whole(model, self.cache), self.part, model.dtype, device)
        if model.offload:
            offload(self.family, model.offload, self.device)
        if model.quantise:
            quantise(self.family, model.quantise, self.device)
        if model.compile:
            compile_blocks(self.family)
        self.model = model

    def _check(self, model: Model) -> None:
        """Raise Shortage where there is no memory for the weights. That a folder is broken, loading tells."""
        try:
            parts = read_weights(whole(model, self.cache))
        except (OSError, ValueError):
            return
        own = {
            name: part for name, part in parts.items() if name.removesuffix("_2") not in LEFT_OUT[self.part]
        }
        what = f"{' and '.join(own)} of {Path(model.folder).name}"
        parameters = sum(part.parameters for part in own.values())
        if failure := part_shortage(what, parameters, model.dtype, place_on(self.device)):
            raise Shortage(failure)

    def forget(self) -> None:
        """Let the weights go, until they are asked for again. Who computes with them keeps them."""
        with self.lock:
            self.model = self.family = None
            give_memory_back()
