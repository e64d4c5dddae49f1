"""Whether the models of a job are sound, told before anybody is hired: a damaged folder is one message.

Decides: when folders are looked at, in which process, and what is remembered of it. Does not decide: what is
wrong with one (engine.families.weights and fitting), or what a profile may ask of its model (stock_checks).
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import engine.families
from engine.families.weights import check_weights
from jobs.stock import Stock
from manifests.outline import cache_folder

_JUDGES = ("diffusers", "transformers", "tokenizers", "torch", "accelerate")  # packages that judge, too


def check_models(stocked: Mapping[str, Stock], cached: str) -> None:
    """Refuse a folder that no worker could load, or whose parts do not fit, before a film is begun.

    Of weights the headers alone are read. That the parts of a folder fit is remembered on this node, in the
    folder of `cluster.cache`, until the folder or who judges it changes: a plan is some seconds sooner there.
    Raises SpecError that names the part and what is wrong with it.
    """
    for name, one in stocked.items():
        fits = cache_folder(cached) / "fits" / f"{one.model.digest}-{_judge()}"
        try:
            check_weights(one.folder)
            if fits.exists():
                continue
            (_fit if "torch" in sys.modules else _fit_apart)(one.folder)
        except (OSError, ValueError, ImportError) as error:
            raise one.refused(name, error) from error
        with suppress(OSError):  # looked at again next time
            fits.parent.mkdir(parents=True, exist_ok=True)
            fits.touch()


@cache
def _judge() -> str:
    """A digest of the code that says whether a folder's parts fit."""
    digest = blake2b("".join(f"{name}={version(name)};" for name in _JUDGES).encode(), digest_size=8)
    for path in sorted(Path(engine.families.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fit(folder: Path) -> None:
    """Raises ValueError or OSError."""
    from engine.families.fitting import check_fit  # torch takes seconds to come, and most verbs need none

    check_fit(folder)


def _fit_apart(folder: Path) -> None:
    """In a process of its own, which gives back what torch takes: a plan of a million rows is smaller."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_in_silence) as pool:
            pool.submit(_fit, folder).result()
    except BrokenProcessPool as error:
        raise OSError(f"{folder}: the process that looked at it ended, perhaps for want of memory") from error


def _in_silence() -> None:
    """Without what libraries print as they are imported: what is wrong comes back as an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
