"""LoRA adapters of a loaded family, through diffusers' own loader: kept loaded, and set for each window.

Decides: which adapters are loaded and which are active. Does not decide: what an adapter may be.
A window's prediction is a pure function of its request, adapters included: before every window exactly those
of the request are active, at its scales, and without any the weights are as they were loaded.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from engine.families.adapter_files import check_fit, shapes_of

KEPT = 16  # adapters of one model in memory
Wanted = Sequence[tuple[str, float]]  # artefacts of adapters and their scales, in the order of their sum


class Adaptable(Protocol):
    """A family whose pipeline has diffusers' adapters."""

    pipeline: Any
    adapters: OrderedDict[str, None]  # loaded, the latest used last
    adapted: tuple[tuple[str, float], ...]  # those set


def adapt(family: Adaptable, wanted: Wanted, fetch: Callable[[str, Path], object]) -> bool:
    """Make exactly these adapters active; whether modules of the transformer were replaced by it.

    `fetch` copies an adapter's artefact to a path. Raises ValueError for one that is of another model.
    """
    before = list(family.adapters)
    for artefact, _ in wanted:
        if artefact not in family.adapters:
            _load(family, artefact, fetch)
        family.adapters.move_to_end(artefact)
    while len(family.adapters) > max(KEPT, len(wanted)):
        family.pipeline.delete_adapters(family.adapters.popitem(last=False)[0])
    new = before != list(family.adapters) and bool(set(family.adapters) - set(before))
    if new or tuple(wanted) != family.adapted:
        _set(family, wanted)
    return new


def _set(family: Adaptable, wanted: Wanted) -> None:
    """Diffusers activates an adapter when it loads it, so this follows every load."""
    if wanted:
        family.pipeline.enable_lora()
        family.pipeline.set_adapters([name for name, _ in wanted], [scale for _, scale in wanted])
    elif family.adapters:
        family.pipeline.disable_lora()
    family.adapted = tuple(wanted)


def _load(family: Adaptable, artefact: str, fetch: Callable[[str, Path], object]) -> None:
    pipeline = family.pipeline
    with TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        fetch(artefact, path)
        shapes_of(path)
        told = {"use_safetensors": True, "local_files_only": True}
        state = type(pipeline).lora_state_dict(str(path), **told)
        check_fit({key: tuple(x.shape) for key, x in state.items()}, _weights(pipeline.transformer))
        pipeline.load_lora_weights(str(path), adapter_name=artefact, **told)
    family.adapters[artefact] = None


def _weights(transformer: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by module, of the model without what adapters put into it."""
    found = {name.removesuffix(".base_layer"): module for name, module in transformer.named_modules()}
    weights = ((name, getattr(module, "weight", None)) for name, module in found.items())
    return {name: tuple(weight.shape) for name, weight in weights if weight is not None}
