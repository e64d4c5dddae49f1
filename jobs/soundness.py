"""Whether the models of a job are sound, told before anybody is hired: a damaged folder is one message.

Decides: when folders are looked at, and in which process. Does not decide: what is wrong with one
(engine.families.weights and fitting), or what a profile may ask of its model (stock_checks).
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from engine.families.weights import check_weights
from jobs.stock import Stock


def check_models(stocked: Mapping[str, Stock]) -> None:
    """Refuse a folder that no worker could load, or whose parts do not fit, before a film is begun.

    Of weights the headers alone are read. Raises SpecError that names the part and what is wrong with it.
    """
    for name, one in stocked.items():
        try:
            check_weights(one.folder)
            (_fit if "torch" in sys.modules else _fit_apart)(one.folder, one.model.digest)
        except (OSError, ValueError, ImportError) as error:
            raise one.refused(name, error) from error


@lru_cache(maxsize=64)
def _fit(folder: Path, digest: str) -> None:
    """Once for what a digest tells from all else. Raises ValueError or OSError."""
    from engine.families.fitting import check_fit  # torch takes seconds to come, and most verbs need none

    check_fit(folder)


def _fit_apart(folder: Path, digest: str) -> None:
    """In a process of its own, which gives back what torch takes: a plan of a million rows is smaller."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_in_silence) as pool:
            pool.submit(_fit, folder, digest).result()
    except BrokenProcessPool as error:
        raise OSError(f"{folder}: the process that looked at it ended, perhaps for want of memory") from error


def _in_silence() -> None:
    """Without what libraries print as they are imported: what is wrong comes back as an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
