"""Rows that are poison, each kind to whoever works at it; the name of a row's shot says which.

The errors are those that libraries raise, at the seam where they would: what is made of them is the
product's. A row may also be known for bad before anything is rendered.

Every prediction takes WINDOW_S and what the tiny model takes: sound ones, and those that fail, which may as
well fail at their end. So seconds say how much was in vain, and loading a model is no longer most of them.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from engine.tensors import pack, unpack

# In the whole form more, so that the bound of a call is to a film as it is in earnest: a small part of it.
WINDOW_S = 0.25 if "LONGTAKE_CHAOS_SEEDS" in os.environ else 0.1


def steady(work: Callable[..., Any], rank: Any, request: Any) -> Any:
    """What a call comes to, and WINDOW_S later."""
    time.sleep(WINDOW_S)
    fared, prediction = work(rank, request)
    return replace(fared, seconds=fared.seconds + WINDOW_S), prediction


def sound(rank: Any, request: Any) -> Any:
    """A prediction as it is."""
    return rank.predict(request)


def no_number(rank: Any, request: Any) -> Any:
    """A prediction that overflowed."""
    fared, prediction = rank.predict(request)
    return fared, pack(unpack(prediction) * float("nan"))


def deadly(rank: Any, request: Any) -> Any:
    """Whoever predicts it dies of it, as by a fault of a kernel in C."""
    os.kill(os.getpid(), signal.SIGKILL)


def endless(rank: Any, request: Any) -> Any:
    """Whoever predicts it never comes back."""
    time.sleep(3600)


def _raising(error: BaseException, place: str) -> Callable[..., Any]:
    def raising(stage: Any, given: Any) -> Any:
        with patch(place, side_effect=error):
            return (stage.predict if place.startswith("cluster.rank") else stage.run)(given)

    return raising


def too_large(rank: Any, request: Any) -> Any:
    """The allocator of the GPU finds no room, on any rung of the ladder."""
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return _raising(error, "cluster.rank.predict_windows")(rank, request)


def broken_gpu(rank: Any, request: Any) -> Any:
    """A kernel writes where it may not, on any GPU."""
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return _raising(error, "cluster.rank.predict_windows")(rank, request)


def no_memory(decoder: Any, task: Any) -> Any:
    """Its frames do not fit into main memory."""
    return _raising(MemoryError("cannot allocate 80 GiB"), "cluster.stages.encode_segment")(decoder, task)


def unforeseen(decoder: Any, task: Any) -> Any:
    """An error that nobody has thought of."""
    return _raising(RuntimeError("a wrong shape"), "cluster.stages.encode_segment")(decoder, task)


def torn(decoder: Any, task: Any) -> Any:
    """What the store gives back is not what was put there."""
    from manifests.store import Corrupt

    return _raising(Corrupt("a" * 64, "b" * 64), "manifests.store.Store.read_artefact")(decoder, task)


# Shot -> the call that it poisons, how, and the code with which its row fails.
KINDS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "no-number": ("predict", no_number, "E621_NOT_FINITE"),
    "deadly": ("predict", deadly, "E910_POISON"),
    "endless": ("predict", endless, "E911_HUNG"),
    "too-large": ("predict", too_large, "E921_GPU_OOM"),
    "broken-gpu": ("predict", broken_gpu, "E923_GPU_FAULT"),
    "no-memory": ("run", no_memory, "E922_HOST_OOM"),
    "unforeseen": ("run", unforeseen, "E900_RENDER"),
    "torn": ("run", torn, "E804_CORRUPT"),
}
# Shot -> the code of the row, which is known for bad before anything is rendered.
INVALID = {"unreadable": "E314_ASSET_UNREADABLE", "timeless": "E402_DURATION_ZERO"}


def poison_of(shot: str, method: str) -> Callable[..., Any] | None:
    """What takes the place of a call: of each prediction a steady one, and another if the shot poisons it."""
    poisoned, work, _ = KINDS.get(shot.rpartition(".")[0], ("", sound, ""))
    if method == "predict":
        return partial(steady, work if poisoned == method else sound)
    return work if poisoned == method else None
